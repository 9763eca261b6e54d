"""Which job is looked at when: one look per key at a time, wake-ups merged, failures tried again ever later.

Who calls this: watches, the progress poller and the resync wake keys; `__main__` pauses and resumes the
queue as leadership comes and goes. What a look does is not its business. Time is the event loop's; a queue
with nothing to do costs nothing: one timer is armed, for the earliest key.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from g2rpo_operator.errors import ClusterError, ConflictError, TransientError
from g2rpo_operator.world import Key

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 60.0
SPARE_ENTRIES = 64
"""Outdated entries that the heap may hold beside as many as there are valid ones."""

Process = Callable[[Key], Coroutine[Any, Any, float | None]]
"""Looks at a key; answers in how many seconds to look again, or None."""


@dataclass(frozen=True)
class Run:
    """One look that has ended."""

    key: Key
    waited_seconds: float
    """From the first wake-up to the beginning."""
    took_seconds: float
    error: BaseException | None
    """What it raised."""


def unseen(run: Run) -> None:
    """Nobody wants to know."""


@dataclass
class WorkQueue:
    """Keys to look at. It begins paused, and may be used from its event loop only."""

    process: Process
    workers: int
    """Looks at once."""
    ended: Callable[[Run], None] = unseen
    """Is told of every look that was not broken off."""
    randomness: Callable[[], float] = random.random
    """In [0, 1)."""
    paused: bool = True
    _ready: dict[Key, float] = field(default_factory=dict)
    """Keys that wait for a worker, oldest first, and since when."""
    _started: dict[Key, float] = field(default_factory=dict)
    """Keys in flight, and since when."""
    _again: set[Key] = field(default_factory=set)
    """Of those in flight: woken meanwhile."""
    _forgotten: set[Key] = field(default_factory=set)
    """Of those in flight: when they end nothing follows."""
    _failures: dict[Key, int] = field(default_factory=dict)
    _not_before: dict[Key, float] = field(default_factory=dict)
    """Keys whose last look failed, and how long they rest even if they are woken."""
    _due: dict[Key, float] = field(default_factory=dict)
    """Keys to look at later, and when."""
    _heap: list[tuple[float, Key]] = field(default_factory=list)
    """Of all in `_due`, and of what was there once."""
    _timer: asyncio.TimerHandle | None = None
    _tasks: set[asyncio.Task[float | None]] = field(default_factory=set)

    def wake(self, key: Key) -> None:
        """Look at a key as soon as a worker is free; during a look, once more after it."""
        now = _now()
        if key in self._started:
            self._again.add(key)
        elif self._not_before.get(key, now) > now:
            self._schedule(key, self._not_before[key])
        else:
            self._due.pop(key, None)
            self._ready.setdefault(key, now)
            self._dispatch()

    def wake_after(self, key: Key, seconds: float) -> None:
        """Look at a key later, unless something wakes it before; the earliest of several times holds."""
        if key not in self._ready:
            self._schedule(key, max(_now() + seconds, self._not_before.get(key, 0.0)))

    def forget(self, key: Key) -> None:
        """Drop all that is planned for a key; a look under way ends as it will."""
        for planned in (self._ready, self._due, self._failures, self._not_before):
            planned.pop(key, None)
        self._again.discard(key)
        if key in self._started:
            self._forgotten.add(key)

    def resume(self) -> None:
        """Begin looks, with the keys that have waited."""
        self.paused = False
        self._dispatch()

    def pause(self) -> None:
        """Begin no look, and break those under way off at their next request; their keys wait, as do new ones."""
        self.paused = True
        for task in self._tasks:
            task.cancel()

    async def drain(self, grace_seconds: float) -> None:
        """Begin no look and let those under way end, for so long; then break them off."""
        self.paused = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        self.pause()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def depth(self) -> int:
        """Keys that wait for a worker."""
        return len(self._ready)

    @property
    def in_flight(self) -> Mapping[Key, float]:
        """Keys being looked at, and for how many seconds."""
        now = _now()
        return {key: now - since for key, since in self._started.items()}

    @property
    def failures(self) -> Mapping[Key, int]:
        """Failed looks in a row, of keys whose last look failed."""
        return dict(self._failures)

    def oldest_wait_seconds(self) -> float:
        """For how long the first waiting key has waited; 0 when none does."""
        return next((_now() - since for since in self._ready.values()), 0.0)

    def _dispatch(self) -> None:
        while self._ready and not self.paused and len(self._started) < self.workers:
            key = next(iter(self._ready))
            now = _now()
            waited = now - self._ready.pop(key)
            self._started[key] = now
            task = asyncio.get_running_loop().create_task(self.process(key), name="/".join(key))
            self._tasks.add(task)
            task.add_done_callback(partial(self._end, key, waited))

    def _end(self, key: Key, waited: float, task: asyncio.Task[float | None]) -> None:
        self._tasks.discard(task)
        took = _now() - self._started.pop(key)
        if task.cancelled():
            self._again.add(key)  # whatever it has done so far, someone must look again
            self._follow(key, None, None)
        else:
            error = task.exception()
            self._follow(key, None if error else task.result(), error)
            self.ended(Run(key, waited, took, error))
        self._dispatch()

    def _follow(self, key: Key, after: float | None, error: BaseException | None) -> None:
        """What a look that has ended leads to."""
        again, forgotten = key in self._again, key in self._forgotten
        self._again.discard(key)
        self._forgotten.discard(key)
        self._not_before.pop(key, None)
        if error is None:
            self._failures.pop(key, None)
        elif not forgotten:
            after = self._pause_after(key, error)
        if again or (after is not None and after <= 0):
            self.wake(key)
        elif after is not None and not forgotten:
            self.wake_after(key, after)

    def _pause_after(self, key: Key, error: BaseException) -> float:
        """Seconds to the next try of a look that failed."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 30))
        pause *= 0.5 + 0.5 * self.randomness()
        rest = min(pause, FIRST_PAUSE_SECONDS)
        if isinstance(error, TransientError) and error.after_seconds is not None:
            pause += error.after_seconds
            rest = pause
        if not isinstance(
            error, ConflictError
        ):  # what changed it also wakes the key, and then there is no need to wait
            self._not_before[key] = _now() + rest
        _log(key, error, pause)
        return pause

    def _schedule(self, key: Key, when: float) -> None:
        if self._due.get(key, when) < when:
            return
        self._due[key] = when
        heapq.heappush(self._heap, (when, key))
        if len(self._heap) > 2 * len(self._due) + SPARE_ENTRIES:
            self._heap = [(when, key) for key, when in self._due.items()]
            heapq.heapify(self._heap)
        self._arm()

    def _arm(self) -> None:
        """Set the timer to the earliest key."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._timer = asyncio.get_running_loop().call_at(self._heap[0][0], self._fire, self._heap[0][0])

    def _fire(self, when: float) -> None:
        """Time has come for the keys that are due now."""
        now = max(_now(), when)  # timers may be early by the clock's resolution
        while self._heap and self._heap[0][0] <= now:
            due, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self._not_before.pop(key, None)
                self.wake(key)
        self._arm()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _log(key: Key, error: BaseException, pause: float) -> None:
    name = "/".join(key)
    if isinstance(error, ConflictError):
        logger.debug("%s: changed meanwhile; again in %.1f s", name, pause)
    elif isinstance(error, ClusterError):
        logger.warning("%s: %s; again in %.1f s", name, error, pause)
    else:
        logger.error("%s: unexpected; again in %.1f s", name, pause, exc_info=error)
