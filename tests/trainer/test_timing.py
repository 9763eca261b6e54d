from __future__ import annotations

from g2rpo_trainer.journal import SpentEntry
from g2rpo_trainer.timing import Counter, Meter, Stopwatch


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_inner_phase_stops_the_outer_one() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    clock.now = 100.0
    with watch.phase("rollout"):
        clock.now += 1
        with watch.phase("reward"):
            clock.now += 10
        clock.now += 2
    clock.now += 1000
    with watch.phase("rollout"):
        clock.now += 4
    assert watch.take() == {"rollout": 7.0, "reward": 10.0}
    assert watch.take() == {}


def test_a_phase_left_by_an_error_is_booked() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    try:
        with watch.phase("train"):
            clock.now += 3
            raise KeyError
    except KeyError:
        pass
    assert watch.take() == {"train": 3.0}


def test_a_meter_adds_attempts_up_and_multiplies_by_ranks() -> None:
    clock = Clock()
    clock.now = 50.0
    meter = Meter(4, clock)
    clock.now += 30
    assert meter.read() == SpentEntry(seconds=30.0, rank_seconds=120.0)
    meter.resume(SpentEntry(seconds=1000.0, rank_seconds=1500.0))
    clock.now += 10
    assert meter.read() == SpentEntry(seconds=1040.0, rank_seconds=1660.0)


def test_a_paused_counter_counts_nothing() -> None:
    counter = Counter()
    counter.add(2)
    with counter.paused():
        counter.add(40)
    counter.add(1)
    assert counter.take() == 3
