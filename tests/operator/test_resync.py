"""The whole picture from lists: what is new wakes its job, what is gone is forgotten, silent watches are noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from g2rpo_operator.errors import NotFoundError, TransientError
from g2rpo_operator.resources import Resource
from g2rpo_operator.resync import Resync
from g2rpo_operator.store import Store

Manifest = dict[str, Any]
KEY = ("team", "portrait")
LABELS = {"g2rpo.dev/job": "portrait", "g2rpo.dev/job-uid": "uid-1", "g2rpo.dev/attempt": "1"}


def job(version: int, **metadata: Any) -> Manifest:
    place = {"namespace": "team", "name": "portrait", "uid": "uid-1", "resourceVersion": str(version)}
    return {"metadata": place | metadata, "spec": {}}


def pod(version: int, uid: str = "pod-1", phase: str = "Running") -> Manifest:
    place = {"namespace": "team", "name": uid, "uid": uid, "resourceVersion": str(version), "labels": LABELS}
    return {"metadata": place, "spec": {}, "status": {"phase": phase}}


@dataclass
class Lists:
    """An API server that is asked for lists only; a page that is an error ends the answer."""

    pages_of: dict[str, list[list[Manifest] | Exception]] = field(default_factory=dict)
    asked: list[tuple[str, str | None, str]] = field(default_factory=list)

    async def pages(self, resource: Resource, namespace: str | None, selector: str) -> AsyncIterator[list[Manifest]]:
        self.asked.append((resource.plural, namespace, selector))
        for page in self.pages_of.get(resource.plural, []):
            if isinstance(page, Exception):
                raise page
            yield page

    async def list(self, resource: Resource, namespace: str | None, selector: str) -> list[Manifest]:
        return [item async for page in self.pages(resource, namespace, selector) for item in page]


@dataclass
class Scene:
    """A resync, what it woke, and a clock that a test moves."""

    lists: Lists = field(default_factory=Lists)
    store: Store = field(default_factory=Store)
    namespaces: tuple[str, ...] = ()
    woken: list[tuple[str, str]] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.resync = Resync(self.lists, self.store, self.namespaces, self.woken.append, lambda: self.now)

    def run(self, *, wake_all: bool = False) -> list[tuple[str, str]]:
        """The jobs that one more run wakes."""
        self.woken.clear()
        asyncio.run(self.resync.run_once(wake_all=wake_all))
        return sorted(set(self.woken))

    def serve(self, **pages: list[list[Manifest] | Exception]) -> None:
        self.lists.pages_of = pages


def test_what_is_new_wakes_its_job_and_what_is_known_does_not() -> None:
    scene = Scene()
    scene.serve(g2rpojobs=[[job(1)]], pods=[[pod(2)]])
    assert scene.run() == [KEY]
    assert scene.run() == []
    scene.serve(g2rpojobs=[[job(1)]], pods=[[pod(3, phase="Failed")]])
    assert scene.run() == [KEY]


def test_all_jobs_are_woken_when_that_is_asked_for() -> None:
    scene = Scene()
    scene.serve(g2rpojobs=[[job(1)]])
    scene.run()
    assert scene.run(wake_all=True) == [KEY]


def test_what_is_not_listed_any_more_is_forgotten_and_wakes_its_job() -> None:
    scene = Scene()
    scene.serve(g2rpojobs=[[job(1)]], pods=[[pod(2), pod(3, "pod-2")]])
    scene.run()
    scene.serve(g2rpojobs=[[job(1)]], pods=[[pod(3, "pod-2")]])
    assert scene.run() == [KEY]
    assert [found.uid for found in scene.store.children("uid-1").pods] == ["pod-2"]


@pytest.mark.parametrize(
    "failing",
    [
        {"pods": [[pod(5, phase="Failed")], TransientError("no further page")]},
        {"pods": [[pod(5, phase="Failed")]], "services": [TransientError("no answer")]},
    ],
)
def test_news_from_lists_that_are_never_finished_wake_their_job_all_the_same(failing: dict[str, Any]) -> None:
    scene = Scene()
    scene.serve(g2rpojobs=[[job(1)]], pods=[[pod(2)]])
    scene.run()
    scene.serve(g2rpojobs=[[job(1)]], **failing)
    scene.woken.clear()
    with pytest.raises(TransientError):
        asyncio.run(scene.resync.run_once())
    assert scene.woken == [KEY], "the store tells nothing new twice"
    assert [found.phase for found in scene.store.children("uid-1").pods] == ["Failed"]


def test_an_unfinished_list_forgets_nothing() -> None:
    scene = Scene()
    scene.serve(g2rpojobs=[[job(1)]], pods=[[pod(2)]])
    scene.run()
    scene.serve(g2rpojobs=[[job(1)]], pods=[[], TransientError("no further page")])
    with pytest.raises(TransientError):
        asyncio.run(scene.resync.run_once())
    assert len(scene.store.children("uid-1").pods) == 1


def test_it_is_synced_when_every_kind_was_listed_once() -> None:
    scene = Scene()
    scene.serve(configmaps=[TransientError("no answer")])
    with pytest.raises(TransientError):
        asyncio.run(scene.resync.run_once())
    assert not scene.resync.synced
    scene.serve()
    scene.run()
    assert scene.resync.synced


@pytest.mark.parametrize("namespaces", [(), ("team", "other")])
def test_only_what_is_ours_is_listed_in_the_namespaces_that_are_served(namespaces: tuple[str, ...]) -> None:
    scene = Scene(namespaces=namespaces)
    scene.run()
    kinds = ("g2rpojobs", "jobs", "pods", "services", "configmaps")
    ours = {kind: "" if kind == "g2rpojobs" else "g2rpo.dev/job-uid" for kind in kinds}
    assert sorted(scene.lists.asked, key=str) == sorted(
        ((kind, place, ours[kind]) for kind in kinds for place in namespaces or (None,)), key=str
    )


def test_a_watch_that_does_not_deliver_what_a_list_has_shown_is_silent() -> None:
    scene = Scene()
    scene.serve(g2rpojobs=[[job(1)]], pods=[[pod(2)]])
    scene.run()
    scene.now = 40.0
    scene.run()
    assert scene.resync.silent_seconds("Pod") == 40.0, "a second list does not begin anew"
    scene.store.put("Pod", pod(2), watched=True)
    assert scene.resync.silent_seconds("Pod") == 0.0
    assert scene.resync.silent_seconds("Service") == 0.0


@pytest.mark.parametrize(("namespaces", "asked"), [((), None), (("team", "others"), "team")])
def test_whether_the_cluster_knows_jobs_is_asked_without_reading_one(
    namespaces: tuple[str, ...], asked: str | None
) -> None:
    unknown = Lists({"g2rpojobs": [NotFoundError("404 page not found")]})
    for lists, wanted in ((Lists(), True), (unknown, False)):
        assert asyncio.run(Scene(lists, namespaces=namespaces).resync.served()) is wanted
        assert lists.asked == [("g2rpojobs", asked, "g2rpo.dev/job=,g2rpo.dev/job!=")]


def test_a_server_that_does_not_answer_says_nothing_about_jobs() -> None:
    with pytest.raises(TransientError):
        asyncio.run(Scene(Lists({"g2rpojobs": [TransientError("no answer")]})).resync.served())
