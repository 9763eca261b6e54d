"""What people do to jobs: suspend, resume, stop, change, delete; and what they take away from them."""

from __future__ import annotations

from g2rpo_api import contract
from live.together import alone, together
from live.trainer import last_word
from live.world import World, condition
from testcluster.process import wait_until

QUEUE = {contract.LABEL_QUEUE: "research"}


@together
def test_a_job_that_is_created_suspended_has_nothing_until_it_is_resumed(world: World) -> None:
    uid = world.create(suspend=True)
    status = world.phase("Suspended")
    assert (status["attempt"], world.leftovers()) == (0, [])
    assert condition(status, "Suspended") == ("True", "Suspended")
    assert "startTime" not in status, "its deadline has not begun"
    world.change(suspend=False)
    world.running(attempt=1)
    world.succeed(attempt=1)
    assert condition(world.phase("Succeeded"), "Suspended") == ("False", "NotSuspended")
    assert world.attempts(uid) == {1: 1}


@together
def test_suspending_ends_the_pods_and_resuming_begins_the_next_attempt(world: World) -> None:
    uid = world.create()
    world.running()
    world.change(suspend=True)
    status = world.phase("Suspended")
    assert {pod["status"]["phase"] for pod in world.pods_of(1)} <= {"Succeeded", "Failed"}, "nothing holds a GPU"
    world.without_pods(1)
    assert condition(status, "Running") == ("False", "Suspended")
    world.change(suspend=False)
    world.running(attempt=2)
    world.succeed(attempt=2)
    status = world.phase("Succeeded")
    assert (status["attempt"], status["restarts"], status["disruptions"]) == (2, 0, 0)
    assert world.attempts(uid) == {1: 1, 2: 1}
    assert [reason for _, reason in world.events() if reason in ("Suspended", "Resumed")] == ["Suspended", "Resumed"]


@together
def test_a_job_can_be_suspended_during_the_pause_before_its_next_attempt(world: World) -> None:
    uid = world.create(policy={"restartBackoffSeconds": 600})
    world.lose(world.running()[0], 1)
    world.phase("Restarting", attempt=2)
    world.change(suspend=True)
    status = world.phase("Suspended")
    assert (status["attempt"], status["restarts"]) == (2, 1)
    assert world.attempts(uid) == {1: 1}
    world.delete("G2RPOJob", world.name)
    world.gone()


@together
def test_the_workers_of_a_suspended_job_can_be_changed_and_the_next_attempt_runs_on_the_new_ones(world: World) -> None:
    world.create()
    world.running(pods=2)
    world.change(suspend=True)
    world.phase("Suspended")
    world.change(workers={"nodes": 4})
    world.change(suspend=False)
    pods = world.running(attempt=2, pods=4)
    ranks = {variable["name"]: variable.get("value") for variable in pods[3]["spec"]["containers"][0]["env"]}
    assert ranks[contract.ENV_NODES] == "4"
    world.succeed(attempt=2)
    world.phase("Succeeded")


@together
def test_a_wish_to_stop_reaches_the_trainer_and_the_job_succeeds_with_the_reason(world: World) -> None:
    uid = world.create()
    first, second = world.running()
    world.change(stop=True)
    world.wait("it stops", lambda status: condition(status, "Running") == ("True", "Stopping"))
    config = f"{world.name}-a1"
    wait_until(lambda: contract.CONFIG_STOP in (world.get("ConfigMap", config) or {})["data"], f"{config} says so")
    stopped = {"reason": "Requested", "message": "spec.stop is true"}
    world.pods.succeed(first, last_word(world.name, attempt=1, iteration=12, stopped=stopped))
    world.pods.succeed(second)
    status = world.phase("Succeeded")
    assert condition(status, "Complete") == ("True", "Stopped")
    assert status["progress"]["step"] == "12/100"
    assert world.attempts(uid) == {1: 1}


@together
def test_a_job_that_is_stopped_before_it_began_trains_once_and_is_told_so_from_the_start(world: World) -> None:
    world.create(stop=True)
    world.running()
    assert contract.CONFIG_STOP in (world.get("ConfigMap", f"{world.name}-a1") or {})["data"]
    world.succeed(attempt=1)
    world.phase("Succeeded")


@together
def test_objects_that_someone_deletes_are_created_again_and_the_attempt_goes_on(world: World) -> None:
    uid = world.create()
    world.running()
    world.replaced("ConfigMap", f"{world.name}-a1")
    world.replaced("Service", world.name)
    world.succeed(attempt=1)
    status = world.phase("Succeeded")
    assert (status["restarts"], status["disruptions"], world.attempts(uid)) == (0, 0, {1: 1})


@together
def test_another_attempt_follows_when_someone_deletes_the_attempt(world: World) -> None:
    uid = world.create()
    for attempt, policy in (1, "Background"), (2, "Foreground"), (3, "Orphan"):
        world.running(attempt)
        world.delete("Job", f"{world.name}-a{attempt}", propagationPolicy=policy)
        status = world.wait("the next", lambda status, due=attempt + 1: status["attempt"] == due)
        assert status["lastFailure"]["reason"] in ("PodsLost", "Disrupted")
    world.running(attempt=4)
    world.succeed(attempt=4)
    status = world.phase("Succeeded")
    assert (status["restarts"], status["disruptions"]) == (0, 3)
    assert world.attempts(uid) == {1: 1, 2: 1, 3: 1, 4: 1}


@together
def test_kueue_admits_evicts_and_admits_again_and_is_never_contradicted(world: World) -> None:
    uid = world.create(labels=QUEUE)
    status = world.phase("Queued")
    assert condition(status, "Running") == ("False", "Queued")
    child = f"{world.name}-a1"
    job = world.get("Job", child)
    assert job is not None
    assert (job["spec"]["suspend"], job["metadata"]["labels"][contract.LABEL_QUEUE]) == (True, "research")
    for _ in range(2):
        assert world.pods_of(1) == []
        world.api.merge(world.path("Job", child), {"spec": {"suspend": False}})
        world.running(attempt=1)
        world.api.merge(world.path("Job", child), {"spec": {"suspend": True}})
        world.phase("Queued", attempt=1)
        world.without_pods(1)
    world.api.merge(world.path("Job", child), {"spec": {"suspend": False}})
    world.running(attempt=1)
    world.succeed(attempt=1)
    status = world.phase("Succeeded")
    assert (status["attempt"], status["restarts"], status["disruptions"]) == (1, 0, 0)
    assert world.attempts(uid) == {1: 1}


@together
def test_a_service_of_that_name_that_is_someone_elses_is_left_alone_and_named(world: World) -> None:
    spec = {"clusterIP": "None", "selector": {"app": "other"}, "ports": [{"port": 80}]}
    theirs = world.api.create(world.path("Service"), {"metadata": {"name": world.name}, "spec": spec})
    world.create()
    status = world.phase("Failed")
    assert condition(status, "Failed") == ("True", "NameConflict")
    message = next(c["message"] for c in status["conditions"] if c["type"] == "Failed")
    assert f"Service {world.name}" in message
    assert (world.get("Service", world.name) or {})["metadata"]["uid"] == theirs["metadata"]["uid"]
    world.delete("Service", world.name)


@together
def test_a_job_that_is_deleted_and_created_again_under_its_name_at_once_runs_anew(world: World) -> None:
    uids = [world.create()]
    for policy in ("Background", "Foreground"):
        world.running()
        world.delete("G2RPOJob", world.name, propagationPolicy=policy)
        wait_until(lambda uid=uids[-1]: world.recorder.is_deleted(uid), "the job is gone")
        uids.append(world.create())
    world.running()
    alive = {pod["metadata"]["labels"][contract.LABEL_JOB_UID] for pod in world.pods_of(1)}
    assert alive == {uids[-1]}
    world.succeed(attempt=1)
    status = world.phase("Succeeded")
    assert (status["attempt"], status["restarts"], status["disruptions"]) == (1, 0, 0)
    assert [world.attempts(uid) for uid in uids] == [{1: 1}] * 3


@together
def test_a_deleted_job_leaves_nothing(world: World) -> None:
    world.create()
    world.lose(world.running()[0], 1)
    first, _ = world.running(attempt=2)
    world.trainer(first, attempt=2, iteration=3)
    world.there("ConfigMap", f"{world.name}-curve")
    world.delete("G2RPOJob", world.name)
    world.gone()


@alone
def test_of_all_these_jobs_no_object_outlives_its_job(world: World) -> None:
    world.create()
    world.running()
    world.delete("G2RPOJob", world.name)
    world.gone()
    wait_until(lambda: not world.recorder.ownerless(), "everything has a job that it belongs to", 60)
