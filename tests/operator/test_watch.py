"""Watches of what belongs to jobs: what they tell reaches the store and wakes jobs, and they outlive all trouble."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from g2rpo_operator.cluster import Cluster
from g2rpo_operator.errors import TransientError
from g2rpo_operator.resources import PODS, Resource
from g2rpo_operator.store import Store
from g2rpo_operator.watch import Intake, Watch
from g2rpo_operator.workqueue import WorkQueue
from testoperator.virtualtime import run

Event = dict[str, Any]
KEY = ("team", "portrait")
LABELS = {"g2rpo.dev/job": "portrait", "g2rpo.dev/job-uid": "uid-1", "g2rpo.dev/attempt": "1"}


def pod(version: int, phase: str = "Running") -> Event:
    place = {"namespace": "team", "name": "pod-1", "uid": "pod-1", "resourceVersion": str(version), "labels": LABELS}
    return {"metadata": place, "spec": {}, "status": {"phase": phase}}


def added(version: int) -> Event:
    return {"type": "ADDED", "object": pod(version, "Pending")}


def modified(version: int) -> Event:
    return {"type": "MODIFIED", "object": pod(version)}


def bookmark(version: int) -> Event:
    return {"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": str(version)}}}


@dataclass
class Told:
    """An API server that is asked for watches only. After its last answer it says nothing any more."""

    answers: list[list[Event | Exception]]
    """Of one watch after the other: events, until it ends or breaks."""
    asked: list[str] = field(default_factory=list)
    """Since which version."""
    times: list[float] = field(default_factory=list)

    async def watch(self, resource: Resource, namespace: str | None, selector: str, since: str) -> AsyncIterator[Event]:
        assert (resource, namespace, selector) == (PODS, "team", "g2rpo.dev/job-uid")
        self.asked.append(since)
        self.times.append(asyncio.get_running_loop().time())
        if not self.answers:
            await asyncio.sleep(3600)
        for event in self.answers.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event


def after(answers: Sequence[list[Event | Exception]]) -> tuple[Told, Store, list[float]]:
    """The server, the store, and when the job was looked at, half an hour after the watch began."""
    told, store, looks = Told(list(answers)), Store(), []

    async def look(key: tuple[str, str]) -> None:
        assert key == KEY
        looks.append(asyncio.get_running_loop().time())

    async def main() -> None:
        queue = WorkQueue(look, 1, paused=False)
        with suppress(TimeoutError):
            async with asyncio.timeout(1800):
                await Watch(told, Intake(store, queue), "Pod", "team").run()

    run(main())
    return told, store, looks


def test_a_swarm_of_events_is_one_look() -> None:
    _, store, looks = after([[added(1), modified(2), bookmark(3)]])
    assert [pod.phase for pod in store.children("uid-1").pods] == ["Running"]
    assert len(looks) == 1
    assert 0 < looks[0] < 1


def test_what_was_deleted_is_forgotten_and_looked_at() -> None:
    _, store, looks = after([[added(1)], [{"type": "DELETED", "object": pod(2)}]])
    assert store.children("uid-1").pods == ()
    assert looks


def test_a_watch_that_ended_in_order_goes_on_after_what_it_told_last_bookmarks_included() -> None:
    told, _, _ = after([[added(4)], [modified(6), bookmark(9)], []])
    assert told.asked == ["", "4", "9", "9"]


def test_a_watch_that_broke_begins_anew_with_everything() -> None:
    told, store, looks = after([[added(4), TransientError("cut")], [modified(6)]])
    assert told.asked == ["", "", "6"]
    assert [pod.phase for pod in store.children("uid-1").pods] == ["Running"]
    assert looks


def test_what_begins_anew_tells_nothing_new_twice() -> None:
    _, _, looks = after([[added(4), TransientError("cut")], [added(4)]])
    assert len(looks) == 1


def test_a_server_in_trouble_is_left_in_peace_ever_longer_until_it_answers() -> None:
    broken: list[list[Event | Exception]] = [[TransientError("away")] for _ in range(10)]
    told, _, _ = after([*broken, [added(1)]])
    pauses = [later - before for before, later in zip(told.times, told.times[1:], strict=False)]
    assert all(pause <= 30 for pause in pauses)
    assert pauses[0] <= 0.5 < 15 <= pauses[9], "they double up to half a minute"
    assert pauses[10] <= 0.5, "an answer ends that"


async def serve(tmp_path: Path, chunks: Sequence[bytes], queries: list[dict[str, str]]) -> list[Event]:
    """What the operator's client makes of an answer that comes in these pieces, then an end in order."""

    async def answer(request: web.Request) -> web.StreamResponse:
        queries.append(dict(request.query))
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0)
        return response

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/team/pods", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        config = tmp_path / "kubeconfig"
        config.write_text(yaml.safe_dump(kubeconfig(runner.addresses[0][1])))
        async with Cluster.connect(config) as client:
            return [event async for event in client.watch(PODS, "team", "a=b", "7")]
    finally:
        await runner.cleanup()


def kubeconfig(port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "me", "user": {}}],
    }


def test_lines_come_whole_however_they_are_cut_and_however_long(tmp_path: Path) -> None:
    long = {"type": "ADDED", "object": {"metadata": {"annotations": {"a": "x" * 300_000}}}}
    events = [added(1), long, bookmark(3)]
    text = "".join(f"{json.dumps(event)}\n" for event in events).encode()
    queries: list[dict[str, str]] = []
    assert asyncio.run(serve(tmp_path, [text[:100], text[100:70_000], text[70_000:]], queries)) == events
    assert queries == [
        {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": "300",
            "labelSelector": "a=b",
            "resourceVersion": "7",
        }
    ]


def test_an_error_among_the_events_is_raised_in_the_servers_words(tmp_path: Path) -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 7 (900)"}
    line = json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
    with pytest.raises(TransientError, match="too old resource version"):
        asyncio.run(serve(tmp_path, [line], []))
