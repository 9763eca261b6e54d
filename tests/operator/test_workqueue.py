"""The work queue in virtual time: what runs when, against what its contract says."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_operator.errors import ConflictError, TransientError
from g2rpo_operator.workqueue import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Key, Run, WorkQueue
from testoperator.virtualtime import run

A, B, C = ("space", "a"), ("space", "b"), ("space", "c")
Outcome = float | None | Exception


@dataclass
class Script:
    """Looks that take so many seconds and end as told; notes when each began and ended."""

    takes_seconds: float = 0.0
    outcomes: dict[Key, deque[Outcome]] = field(default_factory=dict)
    begun: list[tuple[float, Key]] = field(default_factory=list)
    ended: list[tuple[float, Key]] = field(default_factory=list)
    broken_off: list[Key] = field(default_factory=list)

    def then(self, key: Key, *outcomes: Outcome) -> None:
        """What the next looks at a key end with; afterwards None."""
        self.outcomes[key] = deque(outcomes)

    async def __call__(self, key: Key) -> float | None:
        loop = asyncio.get_running_loop()
        self.begun.append((loop.time(), key))
        try:
            await asyncio.sleep(self.takes_seconds)
        except asyncio.CancelledError:
            self.broken_off.append(key)
            raise
        self.ended.append((loop.time(), key))
        left = self.outcomes.get(key)
        outcome = left.popleft() if left else None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def times(self, key: Key) -> list[float]:
        return [time for time, begun in self.begun if begun == key]


def started(script: Script, workers: int = 8, randomness: Callable[[], float] = lambda: 1.0) -> WorkQueue:
    queue = WorkQueue(script, workers, randomness=randomness)
    queue.resume()
    return queue


def test_a_woken_key_is_looked_at_at_once_and_only_once() -> None:
    script = Script()

    async def main() -> None:
        queue = started(script)
        queue.wake(A)
        await asyncio.sleep(1000)

    run(main())
    assert script.begun == [(0.0, A)]


def test_any_number_of_wakes_during_a_look_lead_to_exactly_one_more() -> None:
    script = Script(takes_seconds=10)

    async def main() -> None:
        queue = started(script)
        queue.wake(A)
        for _ in range(5):
            await asyncio.sleep(1)
            queue.wake(A)
        await asyncio.sleep(1000)

    run(main())
    assert script.times(A) == [0.0, 10.0]


def test_wakes_before_a_worker_is_free_are_one() -> None:
    script = Script(takes_seconds=10)

    async def main() -> None:
        queue = started(script, workers=1)
        queue.wake(A)
        await asyncio.sleep(1)
        for _ in range(3):
            queue.wake(B)
        await asyncio.sleep(1000)

    run(main())
    assert script.times(B) == [10.0]


def test_keys_are_served_in_the_order_in_which_they_were_woken() -> None:
    script = Script(takes_seconds=1)

    async def main() -> None:
        queue = started(script, workers=1)
        for key in (C, A, B, A):
            queue.wake(key)
        await asyncio.sleep(100)

    run(main())
    assert [key for _, key in script.begun] == [C, A, B]


def test_a_key_that_wants_to_be_looked_at_later_is_looked_at_then() -> None:
    script = Script()
    script.then(A, 30.0, 5.0)

    async def main() -> None:
        queue = started(script)
        queue.wake(A)
        await asyncio.sleep(1000)

    run(main())
    assert script.times(A) == pytest.approx([0.0, 30.0, 35.0])


def test_at_once_means_again_but_behind_those_that_wait() -> None:
    script = Script(takes_seconds=1)
    script.then(A, 0.0)

    async def main() -> None:
        queue = started(script, workers=1)
        queue.wake(A)
        queue.wake(B)
        await asyncio.sleep(100)

    run(main())
    assert [key for _, key in script.begun] == [A, B, A]


def test_a_wake_takes_the_place_of_the_planned_look() -> None:
    script = Script()
    script.then(A, 30.0)

    async def main() -> None:
        queue = started(script)
        queue.wake(A)
        await asyncio.sleep(10)
        queue.wake(A)
        await asyncio.sleep(1000)

    run(main())
    assert script.times(A) == [0.0, 10.0]


def test_the_earliest_of_several_planned_looks_holds() -> None:
    script = Script()

    async def main() -> None:
        queue = started(script)
        for seconds in (50, 20, 80):
            queue.wake_after(A, seconds)
        queue.wake_after(B, 10)
        await asyncio.sleep(1000)

    run(main())
    assert script.begun == [(10.0, B), (20.0, A)]


def test_failures_are_tried_again_ever_later_up_to_a_minute() -> None:
    script = Script()
    script.then(A, *[ValueError("no") for _ in range(11)])

    async def main() -> None:
        queue = started(script)
        queue.wake(A)
        await asyncio.sleep(1000)
        assert not queue.failures

    run(main())
    times = script.times(A)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == pytest.approx([0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60])


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 40))
def test_pauses_are_jittered_between_half_and_all(randomness: float, failures: int) -> None:
    script = Script()
    script.then(A, *[ValueError("no") for _ in range(failures)])

    async def main() -> None:
        queue = started(script, randomness=lambda: randomness)
        queue.wake(A)
        await asyncio.sleep(10_000)

    run(main())
    times = script.times(A)
    assert len(times) == failures + 1
    full = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (failures - 1))
    assert full / 2 * 0.999 <= times[-1] - times[-2] <= full * 1.001


def test_success_ends_the_count_of_failures() -> None:
    script = Script()
    script.then(A, ValueError("1"), ValueError("2"), None, ValueError("3"))

    async def main() -> None:
        queue = started(script)
        queue.wake(A)
        await asyncio.sleep(1)
        assert queue.failures == {A: 2}
        await asyncio.sleep(99)
        assert queue.failures == {}
        queue.wake(A)
        await asyncio.sleep(100)

    run(main())
    assert script.times(A) == pytest.approx([0, 0.5, 1.5, 100, 100.5])


def test_failures_of_one_key_do_not_slow_another() -> None:
    script = Script()
    script.then(A, *[ValueError("no") for _ in range(8)])

    async def main() -> None:
        queue = started(script)
        queue.wake(A)
        await asyncio.sleep(40)
        queue.wake(B)
        await asyncio.sleep(0.001)

    run(main())
    assert script.times(B) == [40.0]


def test_nothing_makes_a_key_go_sooner_than_the_server_asked() -> None:
    script = Script(takes_seconds=1)
    script.then(A, TransientError("too many requests", after_seconds=20))

    async def main() -> None:
        queue = started(script)
        queue.wake(A)
        await asyncio.sleep(0.5)
        queue.wake(A)  # during the look
        for _ in range(10):
            await asyncio.sleep(1)
            queue.wake(A)
            queue.wake_after(A, 0.1)
        await asyncio.sleep(1000)

    run(main())
    first, second = script.times(A)
    assert first == 0.0
    assert second == pytest.approx(1 + 20 + 0.5)


def test_a_key_that_fails_and_wakes_itself_does_not_spin() -> None:
    seen: list[float] = []

    async def main() -> None:
        async def process(key: Key) -> None:
            seen.append(asyncio.get_running_loop().time())
            queue.wake(key)
            raise ValueError("after a write that the watch will tell of")

        queue = WorkQueue(process, workers=1)
        queue.resume()
        queue.wake(A)
        await asyncio.sleep(100)
        queue.pause()

    run(main())
    assert len(seen) <= 100 / (FIRST_PAUSE_SECONDS / 2) + 1


def test_a_wake_after_a_conflict_is_answered_at_once() -> None:
    script = Script()
    script.then(A, ConflictError("changed"))

    async def main() -> None:
        queue = started(script)
        queue.wake(A)
        await asyncio.sleep(0.125)
        queue.wake(A)
        await asyncio.sleep(100)

    run(main())
    assert script.times(A) == [0.0, 0.125]


def test_a_forgotten_key_is_not_looked_at_again() -> None:
    script = Script(takes_seconds=2)
    script.then(A, 30.0)
    script.then(B, ValueError("no"))

    async def main() -> None:
        queue = started(script, workers=2)
        queue.wake(A)
        queue.wake(B)
        queue.wake(C)
        await asyncio.sleep(1)
        queue.wake(B)
        for key in (A, B, C):
            queue.forget(key)
        await asyncio.sleep(1000)
        assert not queue.failures

    run(main())
    assert script.begun == [(0.0, A), (0.0, B)]


def test_a_wake_after_forgetting_counts() -> None:
    script = Script(takes_seconds=2)

    async def main() -> None:
        queue = started(script)
        queue.wake(A)
        await asyncio.sleep(1)
        queue.forget(A)
        queue.wake(A)
        await asyncio.sleep(1000)

    run(main())
    assert script.times(A) == [0.0, 2.0]


def test_a_queue_begins_paused_and_keeps_what_was_woken() -> None:
    script = Script()

    async def main() -> None:
        queue = WorkQueue(script, 8)
        queue.wake(A)
        queue.wake_after(B, 5)
        await asyncio.sleep(10)
        assert (queue.depth, queue.oldest_wait_seconds()) == (2, 10.0)
        queue.resume()
        await asyncio.sleep(1)
        assert (queue.depth, queue.oldest_wait_seconds()) == (0, 0.0)

    run(main())
    assert script.begun == [(10.0, A), (10.0, B)]


def test_a_pause_breaks_looks_off_and_their_keys_are_looked_at_later() -> None:
    script = Script(takes_seconds=10)

    async def main() -> None:
        queue = started(script, workers=1)
        queue.wake(A)
        queue.wake(B)
        await asyncio.sleep(3)
        queue.pause()
        await asyncio.sleep(0.5)
        assert not queue.in_flight
        await asyncio.sleep(3.5)
        queue.resume()
        await asyncio.sleep(100)

    run(main())
    assert script.broken_off == [A]
    assert sorted(script.begun) == [(0.0, A), (7.0, B), (17.0, A)]


def test_draining_lets_looks_end_and_begins_no_other() -> None:
    script = Script(takes_seconds=10)

    async def main() -> float:
        queue = started(script, workers=1)
        queue.wake(A)
        queue.wake(B)
        await asyncio.sleep(3)
        await queue.drain(grace_seconds=60)
        return asyncio.get_running_loop().time()

    assert run(main()) == 10.0
    assert (script.begun, script.broken_off) == ([(0.0, A)], [])


def test_draining_breaks_off_what_takes_too_long() -> None:
    script = Script(takes_seconds=1000)

    async def main() -> float:
        queue = started(script)
        queue.wake(A)
        await asyncio.sleep(1)
        await queue.drain(grace_seconds=5)
        return asyncio.get_running_loop().time()

    assert run(main()) == 6.0
    assert script.broken_off == [A]


def test_looks_under_way_are_told_with_their_age() -> None:
    script = Script(takes_seconds=100)

    async def main() -> None:
        queue = started(script)
        queue.wake(A)
        await asyncio.sleep(40)
        queue.wake(B)
        await asyncio.sleep(2)
        assert queue.in_flight == {A: 42.0, B: 2.0}
        queue.pause()

    run(main())


def test_each_look_is_told_with_its_wait_its_length_and_its_end() -> None:
    script, told = Script(takes_seconds=4), list[Run]()
    script.then(B, error := ValueError("no"))

    async def main() -> None:
        queue = WorkQueue(script, 1, told.append)
        queue.resume()
        queue.wake(A)
        queue.wake(B)
        await asyncio.sleep(8.25)
        queue.wake(C)
        queue.pause()  # a look that is broken off is not told
        await asyncio.sleep(10)

    run(main())
    assert told == [Run(A, 0.0, 4.0, None), Run(B, 4.0, 4.0, error)]


def test_the_log_tells_bugs_with_a_traceback_and_the_servers_trouble_without(caplog: pytest.LogCaptureFixture) -> None:
    script = Script()
    script.then(A, TransientError("etcd is gone"))
    script.then(B, ZeroDivisionError("oops"))
    script.then(C, ConflictError("changed"))

    async def main() -> None:
        queue = started(script)
        for key in (A, B, C):
            queue.wake(key)
        await asyncio.sleep(0.25)

    with caplog.at_level(logging.INFO, "g2rpo_operator.workqueue"):
        run(main())
    found = [(record.levelname, record.exc_info is not None, record.getMessage()) for record in caplog.records]
    assert found == [
        ("WARNING", False, "space/a: etcd is gone; again in 0.5 s"),
        ("ERROR", True, "space/b: unexpected; again in 0.5 s"),
    ]


def test_nothing_is_scheduled_or_kept_of_keys_with_nothing_to_do() -> None:
    script = Script()

    async def main() -> None:
        queue = started(script)
        for number in range(1000):
            queue.wake(("space", str(number)))
        await asyncio.sleep(1)
        assert (queue.depth, queue.in_flight, queue.failures) == (0, {}, {})
        with pytest.raises(RuntimeError, match="nothing can ever happen"):  # no timer, no task
            await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="nothing can ever happen"):
        run(main())


def test_a_key_planned_again_and_again_takes_the_room_of_a_few() -> None:
    script = Script()

    async def main() -> None:
        queue = started(script)
        for _ in range(10_000):
            queue.wake_after(A, 300)
            queue.wake(A)
            await asyncio.sleep(1)
        assert len(queue._heap) < 200

    run(main())
    assert script.times(A) == [float(second) for second in range(10_000)]


class Strict:
    """Looks of a second that fail the test when a key runs twice at once, or too many keys do."""

    def __init__(self, workers: int, outcomes: list[float | None]) -> None:
        self.workers, self.outcomes = workers, deque(outcomes)
        self.running: Counter[Key] = Counter()
        self.begun: dict[Key, float] = {}

    async def __call__(self, key: Key) -> float | None:
        self.running[key] += 1
        assert self.running[key] == 1, "twice at once"
        assert self.running.total() <= self.workers
        self.begun[key] = asyncio.get_running_loop().time()
        try:
            await asyncio.sleep(1)
        finally:
            self.running[key] -= 1
        outcome = self.outcomes.popleft() if self.outcomes else None
        if outcome is not None and outcome < 0:
            raise ValueError("no")
        return outcome


actions = st.lists(
    st.tuples(st.sampled_from(["wake", "later", "wait", "pause", "resume"]), st.sampled_from([A, B, C])), max_size=40
)


@given(actions, st.integers(1, 3), st.lists(st.sampled_from([None, 0.0, 3.0, -1.0]), max_size=30))
def test_whatever_happens_no_key_runs_twice_at_once_and_no_wake_is_lost(
    steps: list[tuple[str, Key]], workers: int, outcomes: list[float | None]
) -> None:
    strict = Strict(workers, outcomes)
    woken: dict[Key, float] = {}

    async def main() -> None:
        queue = WorkQueue(strict, workers)
        do: dict[str, Callable[[Key], None]] = {
            "wake": queue.wake,
            "later": lambda key: queue.wake_after(key, 2.5),
            "pause": lambda _: queue.pause(),
            "resume": lambda _: queue.resume(),
        }
        for action, key in steps:
            if action == "wait":
                await asyncio.sleep(0.75)
                continue
            do[action](key)
            if action in ("wake", "later"):
                woken[key] = asyncio.get_running_loop().time()
        queue.resume()
        await asyncio.sleep(10_000)
        assert (queue.depth, queue.in_flight, queue.failures) == (0, {}, {})

    run(main())
    assert {key for key, time in woken.items() if strict.begun.get(key, -1.0) < time} == set()
