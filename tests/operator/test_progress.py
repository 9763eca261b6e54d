"""Progress is read of real HTTP servers; what they say, or fail to say, is noted, and curves are kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientSession, web

from g2rpo_api import contract
from g2rpo_operator.errors import AlreadyExistsError
from g2rpo_operator.fetch import PodFetch
from g2rpo_operator.metrics import Metrics
from g2rpo_operator.progress import MAX_CURVE_BYTES, Board, FetchError, Poller, Reading, Source
from g2rpo_operator.world import Owner

OWNER = Owner("team", "job", "u1")
KEY = ("team", "job")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def document(**changes: Any) -> dict[str, Any]:
    """What a trainer answers at /progress."""
    return {
        "job": "job", "attempt": 1, "phase": "Training", "iteration": 3, "total": 10, "percent": 30.0,
        "etaSeconds": 70.0, "beat": 1.7e9, "rewards": [], "curve": [], "checkpoint": None, **changes,
    }  # fmt: skip


def source(ip: str = "127.0.0.1") -> Source:
    """The first pod of attempt 1."""
    return Source(OWNER, 1, "job-a1-0-abcde", ip)


@dataclass
class Scripted:
    """Answers of a trainer by path; an exception stands for none."""

    answers: dict[str, bytes | Exception]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, _: Source, path: str, limit: int) -> bytes:
        self.asked.append(path)
        answer = self.answers[path]
        if isinstance(answer, Exception):
            raise answer
        assert len(answer) <= limit
        return answer


@dataclass
class ConfigMaps:
    """The part of the API server that the poller writes to."""

    kept: dict[str, dict[str, str]] = field(default_factory=dict)

    async def create(self, _: Any, namespace: str, manifest: dict[str, Any]) -> dict[str, Any]:
        name = f"{namespace}/{manifest['metadata']['name']}"
        if name in self.kept:
            raise AlreadyExistsError(name)
        self.kept[name] = manifest["data"]
        return manifest

    async def patch(self, _: Any, namespace: str, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        self.kept[f"{namespace}/{name}"].update(patch["data"])
        return patch


@dataclass
class Bench:
    """A poller with everything around it."""

    fetch: Scripted
    now: datetime = NOW

    def __post_init__(self) -> None:
        self.woken: list[tuple[str, str]] = []
        self.maps = ConfigMaps()
        self.board = Board()
        self.board.follow(source(), NOW)
        cluster: Any = self.maps
        self.poller = Poller(cluster, self.board, self.fetch, self.woken.append, Metrics(), lambda: self.now)

    def round(self) -> Reading:
        asyncio.run(self.poller.round())
        return self.board.reading("u1")


def answers(progress: dict[str, Any], csv: str = "iteration\n1\n") -> dict[str, bytes | Exception]:
    """A healthy trainer."""
    texts = {
        contract.PATH_PROGRESS: json.dumps(progress),
        contract.PATH_CURVE_CSV: csv,
        contract.PATH_CURVE_SVG: "<svg/>",
    }
    return {path: text.encode() for path, text in texts.items()}


def test_an_answer_is_noted_and_wakes_the_job_once() -> None:
    bench = Bench(Scripted(answers(document())))
    reading = bench.round()
    assert reading.report is not None
    assert (reading.report.iteration, reading.error) == (3, "")
    bench.round()
    assert bench.woken == [KEY]


@pytest.mark.parametrize("change", [{"iteration": 4}, {"phase": "Evaluating"}, {"attempt": 2}])
def test_news_wakes_the_job_again(change: dict[str, Any]) -> None:
    bench = Bench(Scripted(answers(document())))
    bench.round()
    bench.fetch.answers = answers(document(**change))
    bench.round()
    assert bench.woken == [KEY, KEY]


def test_a_later_beat_alone_wakes_nobody_and_is_noted() -> None:
    bench = Bench(Scripted(answers(document())))
    bench.round()
    bench.fetch.answers = answers(document(beat=1.8e9))
    reading = bench.round()
    assert reading.report is not None
    assert reading.report.beat == 1.8e9
    assert bench.woken == [KEY]


@pytest.mark.parametrize(
    "trouble", [FetchError("connection refused"), b"<html>", json.dumps(document(iteration="three")).encode()]
)
def test_trouble_keeps_the_last_report_and_says_why(trouble: bytes | Exception) -> None:
    bench = Bench(Scripted(answers(document())))
    bench.round()
    bench.fetch.answers = {contract.PATH_PROGRESS: trouble}
    reading = bench.round()
    assert reading.report is not None
    assert reading.report.iteration == 3
    assert reading.error
    assert "\n" not in reading.error


def test_what_a_pod_says_after_it_was_left_is_not_noted() -> None:
    bench = Bench(Scripted(answers(document())))
    bench.board.leave("u1")
    assert not bench.board.note("u1", Reading())
    assert bench.round() == Reading()


def test_listening_begins_anew_with_another_pod_only() -> None:
    board, later = Board(), NOW + timedelta(minutes=1)
    board.follow(source(), NOW)
    board.follow(source(), later)
    assert board.listening_since("u1") == NOW
    board.follow(source("127.0.0.9"), later)
    assert board.listening_since("u1") == later
    board.leave("u1")
    assert board.listening_since("u1") is None


def test_who_can_read_nobody_of_several_is_blind_and_listens_anew_when_it_sees_again() -> None:
    board, later, again = Board(), NOW + timedelta(minutes=1), NOW + timedelta(minutes=9)
    for uid in ("u1", "u2"):
        board.follow(Source(Owner("team", uid, uid), 1, uid, "127.0.0.1"), NOW)
    for answered, blind in (([True, False], False), ([False, False], True), ([False, False], True)):
        board.judge(answered, later)
        assert (board.blind, board.listening_since("u1")) == (blind, NOW)
    board.judge([False, True], again)
    assert not board.blind
    assert board.listening_since("u1") == board.listening_since("u2") == again


def test_one_job_alone_that_does_not_answer_may_be_at_fault_itself() -> None:
    bench = Bench(Scripted({contract.PATH_PROGRESS: FetchError("connection refused")}))
    bench.round()
    assert not bench.board.blind
    other = Source(Owner("team", "other", "u2"), 1, "other-a1-0-abcde", "127.0.0.2")
    bench.board.follow(other, NOW)
    bench.round()
    assert bench.board.blind


def test_the_curve_is_kept_once_a_minute_while_iterations_come_in() -> None:
    bench = Bench(Scripted(answers(document(), csv="first")))
    bench.round()
    bench.fetch.answers = answers(document(iteration=4), csv="second")
    bench.round()
    assert bench.maps.kept["team/job-curve"] == {"curve.csv": "first", "curve.svg": "<svg/>"}
    bench.now += timedelta(seconds=61)
    bench.round()
    assert bench.maps.kept["team/job-curve"]["curve.csv"] == "second"


def test_no_curve_is_asked_for_before_the_first_iteration_or_without_a_new_one() -> None:
    bench = Bench(Scripted(answers(document(iteration=0))))
    bench.round()
    assert contract.PATH_CURVE_CSV not in bench.fetch.asked
    bench.fetch.answers = answers(document())
    bench.round()
    bench.now += timedelta(seconds=1000)
    bench.round()
    assert bench.fetch.asked.count(contract.PATH_CURVE_CSV) == 1


def test_the_curve_of_a_finished_run_is_kept_at_once() -> None:
    bench = Bench(Scripted(answers(document(), csv="first")))
    bench.round()
    bench.fetch.answers = answers(document(phase="Finished", iteration=10), csv="whole")
    bench.round()
    assert bench.maps.kept["team/job-curve"]["curve.csv"] == "whole"


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def fetched(answer: Answer, monkeypatch: pytest.MonkeyPatch, limit: int = MAX_CURVE_BYTES) -> bytes:
    """What PodFetch gets of a real server."""

    async def talk() -> bytes:
        application = web.Application()
        application.router.add_get("/progress", answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        monkeypatch.setattr(contract, "DEFAULT_PORT", runner.addresses[0][1])
        try:
            async with ClientSession() as session:
                return await PodFetch(session, timeout_seconds=0.5)(source(), "/progress", limit)
        finally:
            await runner.cleanup()

    return asyncio.run(talk())


def test_a_pod_is_asked_at_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * 100_000)

    assert fetched(answer, monkeypatch) == b"x" * 100_000


def test_a_pod_that_says_too_much_is_not_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * 1001)

    with pytest.raises(FetchError, match="more than 1000 bytes"):
        fetched(answer, monkeypatch, limit=1000)


@pytest.mark.parametrize("status", [302, 404, 500])
def test_any_other_status_is_no_answer(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "http://127.0.0.1:1/"})

    with pytest.raises(FetchError, match=str(status)):
        fetched(answer, monkeypatch)


def test_a_pod_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError("never")

    with pytest.raises(FetchError, match=r"no answer within 0\.5 s"):
        fetched(answer, monkeypatch)


def test_a_pod_that_does_not_listen_is_told_as_such() -> None:
    async def talk() -> bytes:
        async with ClientSession() as session:
            return await PodFetch(session, timeout_seconds=5)(source("127.255.255.254"), "/progress", 10)

    with pytest.raises(FetchError, match=r"127\.255\.255\.254"):
        asyncio.run(talk())
