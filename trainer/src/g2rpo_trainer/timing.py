"""What an iteration costs: wall time by phase, counts, and calls of rewards; what a run costs.

A phase that opens inside another one stops the outer clock, so the phases of an iteration add up to
at most its wall time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, get_args

from g2rpo_trainer.journal import Phase, SpentEntry


@dataclass(frozen=True)
class Pace:
    """Seconds of one rank in one iteration."""

    compute: float
    """Of the rollout: model, decoding, rewards. Ranks exchange nothing meanwhile, but weights at ZeRO stage 3."""
    wait: float
    """From its end to the slowest rank's."""


@dataclass(frozen=True)
class RankState:
    """What one rank took in one iteration."""

    rank: int
    machine: int
    """The first rank of its machine."""
    pace: Pace
    memory: Mapping[str, int]
    """Bytes by kind."""


CallResult = Literal["ok", "unscored", "invalid", "failed"]
RESULTS: tuple[CallResult, ...] = get_args(CallResult)


@dataclass(frozen=True)
class RewardCall:
    """A reward was asked about a batch of pictures."""

    reward: str
    result: CallResult
    seconds: float


class Stopwatch:
    """Accumulates seconds per phase."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        """Start with nothing measured; `clock` gives seconds."""
        self._clock = clock
        self._seconds: dict[Phase, float] = {}
        self._open: list[Phase] = []
        self._since = 0.0

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Count the time inside as `name`."""
        self._settle()
        self._open.append(name)
        try:
            yield
        finally:
            self._settle()
            self._open.pop()

    def take(self) -> dict[Phase, float]:
        """Seconds by phase since the last call."""
        seconds, self._seconds = self._seconds, {}
        return seconds

    def _settle(self) -> None:
        """Book the time since the last change to the innermost open phase."""
        now = self._clock()
        if self._open:
            self._seconds[self._open[-1]] = self._seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now


class Counter:
    """Counts what an iteration costs beside time."""

    def __init__(self) -> None:
        """Start at 0."""
        self._count = 0
        self._paused = False

    def add(self, amount: int) -> None:
        """Count, unless paused."""
        if not self._paused:
            self._count += amount

    def take(self) -> int:
        """The count since the last call."""
        count, self._count = self._count, 0
        return count

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing inside."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False


class CallLog:
    """Remembers calls of rewards."""

    def __init__(self) -> None:
        """Start with none."""
        self._calls: list[RewardCall] = []

    def add(self, call: RewardCall) -> None:
        """Remember one."""
        self._calls.append(call)

    def take(self) -> list[RewardCall]:
        """Those since the last call."""
        calls, self._calls = self._calls, []
        return calls


class Meter:
    """Adds up what all attempts of a run take."""

    def __init__(self, ranks: int, clock: Callable[[], float] = perf_counter) -> None:
        """Begin an attempt on so many ranks; `clock` gives seconds."""
        self._ranks = ranks
        self._clock = clock
        self._started = clock()
        self._before = SpentEntry(seconds=0.0, rank_seconds=0.0)

    def resume(self, before: SpentEntry) -> None:
        """Take up what earlier attempts took."""
        self._before = before

    def read(self) -> SpentEntry:
        """What all attempts took until now."""
        seconds = self._clock() - self._started
        return SpentEntry(
            seconds=self._before.seconds + seconds,
            rank_seconds=self._before.rank_seconds + seconds * self._ranks,
        )
