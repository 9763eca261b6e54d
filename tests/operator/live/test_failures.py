"""Every way in which an attempt can fail, and what follows: counted, uncounted, or the end."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from live.together import together
from live.world import World, condition
from testcluster.api import Object
from testcluster.pods import containers

SPARE = {"testcluster.dev/spare": "true"}
STUCK_SECONDS = 150


def seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def counts(status: Object) -> tuple[int, int, int]:
    return status["attempt"], status["restarts"], status["disruptions"]


def message(status: Object, kind: str) -> str:
    """Of a condition."""
    return str(next(found["message"] for found in status["conditions"] if found["type"] == kind))


def names_of(pods: list[Object]) -> dict[str, str]:
    """Names of pods by uid."""
    return {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in pods}


def run_to_the_end(world: World, attempt: int) -> Object:
    """The attempt runs and every rank succeeds; the status."""
    world.running(attempt)
    world.succeed(attempt)
    return world.phase("Succeeded")


@pytest.mark.slow
@together
def test_a_lost_node_holds_its_pod_for_ever_and_the_job_goes_on_elsewhere(world: World) -> None:
    nodes = world.cluster.nodes(2, gpus=1, prefix=f"spare-{world.name[-5:]}", labels=SPARE, taint=True)
    try:
        uid = world.create(workers={"nodes": 1, "resourceName": "nvidia.com/gpu", "nodeSelector": SPARE})
        (pod,) = world.running(pods=1)
        world.cluster.lose_node(pod["spec"]["nodeName"])
        (other,) = world.running(attempt=2, pods=1, seconds=STUCK_SECONDS)
        assert other["spec"]["nodeName"] != pod["spec"]["nodeName"]
        world.pods.wait_gone(pod)
        world.pods.succeed(other)
        status = world.phase("Succeeded")
        assert counts(status) == (2, 0, 1)
        assert status["lastFailure"]["node"] == pod["spec"]["nodeName"]
        assert world.attempts(uid) == {1: 1, 2: 1}
    finally:
        for node in nodes:
            world.cluster.remove_node(node)


@together
def test_a_fault_is_followed_by_another_attempt_after_a_pause_that_doubles_until_restarts_are_used_up(
    world: World,
) -> None:
    uid = world.create(policy={"restartBackoffSeconds": 1, "maxRestarts": 2})
    for attempt, pause in (1, 1), (2, 2):
        _, culprit = world.running(attempt)
        world.lose(culprit, 1, "Traceback:\nRuntimeError: no such layer")
        status = world.wait(f"attempt {attempt + 1} is due", lambda status, due=attempt + 1: status["attempt"] == due)
        assert counts(status) == (attempt + 1, attempt, 0)
        assert condition(status, "Running") == ("False", "Fault")
        assert seconds_between(status["attemptTime"], status["retryTime"]) == pause
        failure = status["lastFailure"]
        told = {key: failure[key] for key in ("attempt", "reason", "exitCode", "pod", "node", "lastLines")}
        assert told == {
            "attempt": attempt, "reason": "Bug", "exitCode": 1, "pod": culprit["metadata"]["name"],
            "node": culprit["spec"]["nodeName"], "lastLines": "Traceback:\nRuntimeError: no such layer",
        }  # fmt: skip
        world.running(attempt + 1)
        begun = world.recorder.of("Job", uid)[attempt].first["metadata"]["creationTimestamp"]
        assert seconds_between(status["retryTime"], begun) >= 0
    first, _ = world.running(3)
    world.lose(first, 137, reason="OOMKilled")
    status = world.phase("Failed")
    assert condition(status, "Failed") == ("True", "RestartsExhausted")
    assert counts(status) == (3, 2, 0)
    assert status["lastFailure"]["reason"] == "OutOfMemory"
    assert world.attempts(uid) == {1: 1, 2: 1, 3: 1}


@together
def test_pods_of_the_newest_failed_attempts_are_kept_for_their_logs(world: World) -> None:
    world.create(policy={"keepFailedAttempts": 1})
    culprits = []
    for attempt in (1, 2):
        culprits.append(world.running(attempt)[0])
        world.lose(culprits[-1], 1)
    run_to_the_end(world, attempt=3)
    world.without_pods(1)
    assert culprits[1]["metadata"]["name"] in [pod["metadata"]["name"] for pod in world.pods_of(2)]
    assert world.get("ConfigMap", f"{world.name}-a2")
    assert world.get("ConfigMap", f"{world.name}-a1") is None


@together
def test_the_log_of_the_rank_that_failed_stays_when_another_pod_ends_before_its_own(world: World) -> None:
    world.create()
    culprit, other = world.running()
    world.pods.fail(other, 7)
    world.wait("it is told", lambda status: "a rank failed" in message(status, "Running"))
    world.pods.fail(culprit, 1)
    status = run_to_the_end(world, attempt=2)
    assert status["lastFailure"]["pod"] == culprit["metadata"]["name"]
    assert names_of(world.pods_of(1)) == names_of([culprit, other])


@together
def test_ranks_that_do_not_notice_are_ended_in_time(world: World) -> None:
    uid = world.create()
    culprit, _ = world.running()
    world.pods.fail(culprit, 1)
    status = run_to_the_end(world, attempt=2)
    assert counts(status) == (2, 1, 0)
    assert status["lastFailure"]["pod"] == culprit["metadata"]["name"]
    assert names_of(world.pods_of(1)) == names_of([culprit])
    assert world.attempts(uid) == {1: 1, 2: 1}


@together
def test_a_job_that_the_trainer_refuses_is_not_tried_again(world: World) -> None:
    uid = world.create()
    first, _ = world.running()
    world.lose(first, 2, "spec.training.model.path: no such model")
    status = world.phase("Failed")
    assert condition(status, "Failed") == ("True", "InvalidSpec")
    assert status["lastFailure"]["lastLines"] == "spec.training.model.path: no such model"
    assert (counts(status), world.attempts(uid)) == ((1, 0, 0), {1: 1})


@together
def test_a_job_that_diverges_is_not_tried_again(world: World) -> None:
    uid = world.create()
    _, second = world.running()
    world.lose(second, 5)
    status = world.phase("Failed")
    assert condition(status, "Failed") == ("True", "Diverged")
    assert (counts(status), world.attempts(uid)) == ((1, 0, 0), {1: 1})


def goes_on_uncounted(world: World, *reasons: str) -> None:
    """Another attempt follows, which is not counted as a restart, for one of these reasons."""
    status = run_to_the_end(world, attempt=2)
    assert counts(status) == (2, 0, 1)
    assert status["lastFailure"]["reason"] in reasons
    assert ("Warning", status["lastFailure"]["reason"]) in world.events()


# A pod that is deleted may be gone before the operator has looked at how it ended.


@together
def test_an_eviction_is_not_counted_as_a_restart(world: World) -> None:
    world.create(policy={"maxRestarts": 0})
    world.pods.evict(world.running()[1])
    goes_on_uncounted(world, "Disrupted", "PodsLost")


@together
def test_an_eviction_by_the_kubelet_is_not_counted_as_a_restart(world: World) -> None:
    world.create(policy={"maxRestarts": 0})
    world.pods.evict_by_kubelet(world.running()[1])
    goes_on_uncounted(world, "Disrupted")


@together
def test_a_preemption_is_not_counted_as_a_restart(world: World) -> None:
    world.create(policy={"maxRestarts": 0})
    world.pods.preempt(world.running()[0])
    goes_on_uncounted(world, "Disrupted", "PodsLost")


@together
def test_a_pod_that_someone_deletes_is_not_counted_as_a_restart(world: World) -> None:
    world.create(policy={"maxRestarts": 0})
    world.pods.delete(world.running()[0])
    goes_on_uncounted(world, "Disrupted", "PodsLost")


@together
def test_disruptions_have_a_limit_of_their_own(world: World) -> None:
    uid = world.create(policy={"maxDisruptions": 1})
    for attempt in (1, 2):
        world.pods.evict(world.running(attempt)[0])
    status = world.phase("Failed")
    assert condition(status, "Failed") == ("True", "DisruptionsExhausted")
    assert (counts(status), world.attempts(uid)) == ((2, 0, 1), {1: 1, 2: 1})


@together
def test_ranks_without_a_sign_of_life_are_restarted(world: World) -> None:
    uid = world.create(policy={"progressTimeoutSeconds": 3})
    trainer = world.trainer(world.running()[0], attempt=1, iteration=7)
    world.wait("iterations come in", lambda status: condition(status, "Running") == ("True", "Training"))
    assert trainer.document["beat"] > time.time() - 30
    status = world.wait("the next attempt is due", lambda status: status["attempt"] == 2)
    assert status["lastFailure"]["reason"] == "ProgressStalled"
    status = run_to_the_end(world, attempt=2)
    assert (counts(status), world.attempts(uid)) == ((2, 1, 0), {1: 1, 2: 1})
    assert ("Warning", "ProgressStalled") in world.events()


@together
def test_a_job_fails_when_its_deadline_is_over(world: World) -> None:
    uid = world.create(policy={"activeDeadlineSeconds": 20})
    world.running()
    status = world.phase("Failed")
    assert condition(status, "Failed") == ("True", "DeadlineExceeded")
    assert seconds_between(status["startTime"], status["completionTime"]) in (20, 21)
    world.without_pods(1)
    assert world.attempts(uid) == {1: 1}


@together
def test_a_job_for_which_no_node_has_room_says_so_and_runs_once_there_is_one(world: World) -> None:
    world.create(workers={"resourceName": "nvidia.com/gpu", "nodes": 1, "nodeSelector": {"room": world.name}})
    status = world.wait("why it waits", lambda status: condition(status, "Running") == ("False", "Unschedulable"))
    assert status["phase"] == "Pending"
    message = next(c["message"] for c in status["conditions"] if c["type"] == "Running")
    assert "didn't match Pod's node affinity/selector" in message
    (node,) = world.cluster.nodes(1, prefix=f"room-{world.name[-5:]}", labels={"room": world.name}, taint=True)
    try:
        world.running(pods=1)
        world.succeed(attempt=1)
        world.phase("Succeeded")
        assert ("Warning", "Unschedulable") in world.events()
    finally:
        world.cluster.remove_node(node)


@together
def test_an_image_that_cannot_be_pulled_is_told_and_the_job_runs_once_it_can(world: World) -> None:
    uid = world.create(workers={"nodes": 1}, image="registry.invalid/trainer:1")
    status = world.wait("why it waits", lambda status: condition(status, "Running") == ("False", "ImagePullFailed"))
    assert status["phase"] == "Starting"
    (pod,) = world.pods_of(1)
    running = containers(pod, {"running": {"startedAt": pod["status"]["startTime"]}})
    world.pods.write(pod, {"phase": "Running", "podIP": "127.0.0.1", "containerStatuses": running})
    world.running(pods=1)
    world.succeed(attempt=1)
    assert counts(world.phase("Succeeded")) == (1, 0, 0)
    assert world.attempts(uid) == {1: 1}


@together
def test_an_image_that_is_never_pulled_fails_the_job_when_its_time_to_start_is_over(world: World) -> None:
    world.create(image="registry.invalid/trainer:1", policy={"startTimeoutSeconds": 3})
    status = world.phase("Failed")
    assert condition(status, "Failed") == ("True", "StartTimeout")
    assert "registry.invalid/trainer:1" in next(c["message"] for c in status["conditions"] if c["type"] == "Failed")
    world.without_pods(1)


@together
def test_a_name_that_no_image_can_have_fails_the_job_at_once(world: World) -> None:
    world.create(workers={"nodes": 1}, image="registry.invalid/trainer:1")
    world.wait("it waits", lambda status: condition(status, "Running") == ("False", "ImagePullFailed"))
    (pod,) = world.pods_of(1)
    waiting = {"reason": "InvalidImageName", "message": "couldn't parse image name"}
    world.pods.write(pod, {"containerStatuses": containers(pod, {"waiting": waiting})})
    status = world.phase("Failed")
    assert condition(status, "Failed") == ("True", "ImagePullFailed")
    assert status["lastFailure"]["reason"] == "Image"
