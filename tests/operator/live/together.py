"""Tests that run side by side: each waits most of the time, for pods, back-offs and clocks of whole seconds.

    @together
    def test_a_fault_leads_to_another_attempt(world): ...

    @alone
    def test_jobs_go_on_after_the_api_server_was_away(world): ...

All tests with the first mark that pytest is going to run start at once, when the first of them is due; each reports
its own result when its turn comes. Those with the second mark wait until these have ended. One operator serves them
all. Whatever a test is about, it also fails if something happened to its jobs that must never happen.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

from live.operators import Operator, Stage
from live.world import TEAMS, World

Script = Callable[[World], None]
AT_ONCE = 16
SCRIPTS: dict[Callable[..., None], Script] = {}
"""What to play, by the test that pytest knows."""


def together(script: Script) -> Callable[..., None]:
    """Make a test of a script that minds no others."""

    def test(played: Played) -> None:
        played.result(script)

    SCRIPTS[test] = script
    return named(test, script)


def alone(script: Script) -> Callable[..., None]:
    """Make a test of a script that measures time, or breaks what all others need."""

    def test(played: Played) -> None:
        played.finish()
        play(script, played.world(script))

    return named(test, script)


def named(test: Callable[..., None], script: Script) -> Callable[..., None]:
    """The test under the script's name; functools.wraps would have pytest ask for the script's own arguments."""
    test.__name__, test.__qualname__, test.__doc__ = script.__name__, script.__qualname__, script.__doc__
    test.__module__ = script.__module__
    return test


def job_name(script: Script) -> str:
    """A job's name that says which test it belongs to."""
    words = re.sub(r"[^a-z0-9]+", "-", script.__name__.removeprefix("test_").lower())
    return words[:40].strip("-")


class Played:
    """Scripts that were started."""

    def __init__(self, stage: Stage, operator: Operator, scripts: list[Script]) -> None:
        self.stage, self.operator, self.teams = stage, operator, cycle(TEAMS)
        self.pool = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="script")
        self.futures = {script: self.pool.submit(play, script, self.world(script)) for script in scripts}

    def world(self, script: Script) -> World:
        """Where a script plays."""
        return World(self.stage, self.operator, next(self.teams), job_name(script))

    def result(self, script: Script) -> None:
        """Wait for the end of a script; what it raised."""
        self.futures[script].result()

    def finish(self) -> None:
        """Wait for the end of all."""
        self.pool.shutdown(wait=True)


def play(script: Script, world: World) -> None:
    """Run a script to its end; then nothing of its jobs may be left, and nothing may have been wrong with them."""
    try:
        with world.closing:
            script(world)
            check(world)
    except BaseException as error:
        error.add_note(world.story())
        raise


def check(world: World) -> None:
    """Nothing happened to jobs of this name that must never happen."""
    for uid, namespace in world.recorder.jobs(world.name).items():
        world.recorder.catch_up(namespace)
        assert world.recorder.faults(uid) == []
