"""The crash test: a job's whole life, with the operator killed before and after each of its write requests.

One life without a crash says which writes there are. Then the same life is lived once for each of them and each of the
two moments, several lives at once: the operator gets SIGKILL and is started again at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from queue import Queue
from typing import Literal

import pytest

from live.operators import Operator, Stage
from live.proxy import Ambush
from live.together import Played
from live.traffic import Request
from live.whole import whole_life
from live.world import World

LANES = 8
"""Lives at once, each with an operator of its own."""
SHORT_LEASE = {"lease_duration_seconds": 2, "lease_renew_deadline_seconds": 1.5, "lease_retry_seconds": 0.3}
Moment = Literal["before", "after"]
MOMENTS: tuple[Moment, ...] = ("before", "after")
TRIES = 3
"""Two writes may fall into one, so that a life has not each of them."""
RARE = 2
"""So many writes of the first life may have been chance, and never come again."""


@dataclass(frozen=True)
class Crash:
    """Where the operator is killed."""

    write: str
    """What the request does to the job named JOB."""
    moment: Moment


@dataclass
class Lane:
    """An operator that serves one life after the other in a namespace of its own."""

    stage: Stage
    namespace: str
    operator: Operator

    def live(self, name: str) -> list[str]:
        """A whole life without a crash; the different writes that it took."""
        self.play(name)
        return list(dict.fromkeys(what(request, name) for request in self.operator.proxy.writes(name)))

    def die(self, name: str, crash: Crash) -> bool:
        """A whole life in which the operator is killed; whether it came to that."""

        def meant(request: Request) -> bool:
            return request.write and what(request, name) == crash.write

        ambush = Ambush(crash.moment, meant, self.operator.kill_and_launch)
        self.operator.proxy.ambush = ambush
        try:
            self.play(name)
        except BaseException as error:
            error.add_note(f"the operator was killed {crash.moment} {ambush.sprung}")
            raise
        return ambush.sprung is not None

    def play(self, name: str) -> None:
        world = World(self.stage, self.operator, self.namespace, name)
        try:
            whole_life(world)
        except BaseException as error:
            error.add_note(world.story())
            raise


@pytest.fixture
def lanes(stage: Stage, played: Played) -> Iterator[Queue[Lane]]:
    """Operators, each in its namespace. The tests that run side by side were started: they wait most of the time."""
    free: Queue[Lane] = Queue()
    with ExitStack() as ending:
        for namespace in (f"crash-{number}" for number in range(LANES)):
            stage.cluster.add_namespace(namespace)
            ending.callback(stage.cluster.remove_namespace, namespace)
            # Only news of another phase is written at once, so that each life takes the same writes.
            operator = stage.operator(namespace, status_interval_seconds=15, **SHORT_LEASE)
            ending.callback(stage.retire, operator)
            operator.component.launch()
            free.put(Lane(stage, namespace, operator))
        yield free


def what(request: Request, name: str) -> str:
    """What a request does, in words that are the same for every life."""
    return str(request).replace(name, "JOB")


def die_once(lanes: Queue[Lane], number: int, crash: Crash) -> bool:
    """Live with a crash, in the first lane that is free; whether it came to that."""
    lane = lanes.get()
    try:
        return any(lane.die(f"life-{number}-{attempt}", crash) for attempt in range(TRIES))
    finally:
        lanes.put(lane)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_life_ends_the_same_wherever_the_operator_is_killed(lanes: Queue[Lane]) -> None:
    lane = lanes.get()
    writes = lane.live("undisturbed")
    lanes.put(lane)
    assert len(writes) >= 20, "\n".join(writes)
    crashes = [Crash(write, moment) for write, moment in product(writes, MOMENTS)]
    with ThreadPoolExecutor(LANES) as pool:
        lives = {crash: pool.submit(die_once, lanes, number, crash) for number, crash in enumerate(crashes)}
    problems = [error for life in lives.values() if isinstance(error := life.exception(), Exception)]
    if problems:
        raise ExceptionGroup(f"{len(problems)} of {len(crashes)} lives did not end as they should", problems)
    missed = {crash.write for crash, life in lives.items() if not life.result()}
    assert len(missed) <= RARE, missed
