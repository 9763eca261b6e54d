"""A job's whole life and the one end that it must have, whatever breaks on the way."""

from __future__ import annotations

from live.world import World, condition


def whole_life(world: World) -> None:
    """create → run → fault → restart → suspend → resume → succeed → time to live over."""
    uid = world.create(policy={"ttlSecondsAfterFinished": 1})
    first, _ = world.running(attempt=1)
    world.trainer(first, attempt=1, iteration=5)
    world.there("ConfigMap", f"{world.name}-curve")
    world.lose(first, 1, "RuntimeError: boom")
    world.running(attempt=2)
    world.change(suspend=True)
    world.phase("Suspended")
    world.change(suspend=False)
    world.running(attempt=3)
    world.succeed(attempt=3)
    world.gone()
    world.recorder.catch_up(world.namespace)
    status = world.recorder.states(uid)[-1]["status"]
    assert (status["phase"], status["attempt"], status["restarts"], status["disruptions"]) == ("Succeeded", 3, 1, 0)
    assert condition(status, "Complete") == ("True", "Completed")
    assert condition(status, "Running") == ("False", "Finished")
    assert condition(status, "Suspended") == ("False", "NotSuspended")
    assert (status["lastFailure"]["attempt"], status["lastFailure"]["reason"]) == (1, "Bug")
    assert status["lastFailure"]["lastLines"] == "RuntimeError: boom"
    assert world.attempts(uid) == {1: 1, 2: 1, 3: 1}
    assert world.recorder.faults(uid) == []
