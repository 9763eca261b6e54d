"""The ordinary life of a job, and what a person sees of it with kubectl alone."""

from __future__ import annotations

import json

from g2rpo_api import contract
from live.together import together
from live.trainer import CSV, SVG, last_word
from live.world import World, condition
from testcluster.process import wait_until


@together
def test_a_job_runs_shows_its_progress_keeps_its_curve_and_succeeds(world: World) -> None:
    uid = world.create()
    first, second = world.running()
    trainer = world.trainer(first, attempt=1, iteration=40)
    status = world.wait("progress is told", lambda status: condition(status, "Running") == ("True", "Training"))
    assert status["progress"] | {"rewards": 0, "curve": 0, "checkpoint": 0, "beatTime": 0} == {
        "attempt": 1, "iteration": 40, "total": 100, "step": "40/100", "percent": 40, "etaSeconds": 321,
        "phase": "Training", "reward": 0.4321, "best": 0.5432, "delta": 0.1234, "heldOut": 0.2345,
        "clipRatio": 0.0625, "imagesPerSecond": 98.76, "rewards": 0, "curve": 0, "checkpoint": 0, "beatTime": 0,
    }  # fmt: skip
    assert status["progress"]["curve"] == trainer.document["curve"]
    assert world.there("ConfigMap", f"{world.name}-curve")["data"] == {"curve.csv": CSV, "curve.svg": SVG}
    world.pods.succeed(first, last_word(world.name, attempt=1, iteration=100))
    world.pods.succeed(second)
    status = world.phase("Succeeded")
    assert condition(status, "Complete") == ("True", "Completed")
    assert condition(status, "Running") == ("False", "Finished")
    assert status["progress"]["step"] == "100/100", "the last word counts, not the last answer"
    assert (status["attempt"], status["restarts"], status["disruptions"]) == (1, 0, 0)
    assert world.attempts(uid) == {1: 1}


@together
def test_kubectl_shows_how_far_a_job_is_and_describe_shows_what_happened(world: World) -> None:
    world.create()
    first, _ = world.running()
    world.trainer(first, attempt=1, iteration=40)
    world.wait("progress is told", lambda status: status.get("progress"))
    get = ("get", "g2j", world.name, "-n", world.namespace)
    head, row = (line.split() for line in world.cluster.kubectl(*get).splitlines())
    assert head == ["NAME", "PHASE", "ITER", "REWARD", "BEST", "Δ", "RESTARTS", "GPU-H", "AGE"]
    assert row[:7] == [world.name, "Running", "40/100", "0.4321", "0.5432", "0.1234", "0"]
    head, row = (line.split() for line in world.cluster.kubectl(*get, "-o", "wide").splitlines())
    wide = ["HELD-OUT", "CLIP", "IMG/S", "ETA(S)", "ATTEMPT", "MESSAGE", "AGE"]
    assert head == ["NAME", "PHASE", "ITER", "REWARD", "BEST", "Δ", "RESTARTS", "GPU-H", *wide]
    assert row[8:13] == ["0.2345", "0.0625", "98.76", "321", "1"]
    world.lose(first, 1, "Traceback\nRuntimeError: the reward is gone")
    world.running(attempt=2)
    world.succeed(attempt=2)
    world.phase("Succeeded")
    wait_until(lambda: ("Normal", "Completed") in world.events(), "the end is an event")
    assert world.events() == [
        ("Normal", "Running"), ("Warning", "Fault"), ("Normal", "Running"), ("Normal", "Completed"),
    ]  # fmt: skip
    described = world.cluster.kubectl("describe", "g2rpojob", world.name, "-n", world.namespace)
    told = described[described.index("Events:") :]
    assert "RuntimeError: the reward is gone" in told
    assert "g2rpo-operator" in told


@together
def test_pods_find_each_other_by_name_and_hold_no_credential(world: World) -> None:
    uid = world.create()
    first, _ = world.running()
    service = world.get("Service", world.name)
    assert service is not None
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert service["spec"]["selector"] == {contract.LABEL_JOB_UID: uid}
    environment = {variable["name"]: variable.get("value") for variable in first["spec"]["containers"][0]["env"]}
    assert environment["MASTER_ADDR"] == f"{first['spec']['hostname']}.{first['spec']['subdomain']}"
    assert first["spec"]["subdomain"] == world.name
    assert first["spec"]["automountServiceAccountToken"] is False
    assert not [volume for volume in first["spec"]["volumes"] if "projected" in volume or "secret" in volume]
    config = world.get("ConfigMap", f"{world.name}-a1")
    assert config is not None
    document = json.loads(config["data"][contract.CONFIG_JOB])
    assert document["spec"]["training"] == world.job()["spec"]["training"] | document["spec"]["training"]
    world.succeed(attempt=1)
    world.phase("Succeeded")


@together
def test_a_finished_job_is_deleted_with_all_that_is_its_own_when_its_time_is_over(world: World) -> None:
    world.create(policy={"ttlSecondsAfterFinished": 2})
    first, _ = world.running()
    world.trainer(first, attempt=1, iteration=40)
    world.there("ConfigMap", f"{world.name}-curve")
    world.succeed(attempt=1)
    world.phase("Succeeded")
    world.gone()


@together
def test_a_finished_job_never_runs_again_whatever_happens_to_its_objects(world: World) -> None:
    uid = world.create()
    world.running()
    world.succeed(attempt=1)
    world.phase("Succeeded")
    for kind, name in ("Job", f"{world.name}-a1"), ("ConfigMap", f"{world.name}-a1"), ("Service", world.name):
        world.delete(kind, name, propagationPolicy="Background")
    world.bare()
    world.change(policy={"maxRestarts": 7})  # a reason to look at it once more
    status = world.wait("the change was seen", lambda status: status["observedGeneration"] == 2)
    assert (status["phase"], world.leftovers(), world.attempts(uid)) == ("Succeeded", [], {1: 1})


@together
def test_jobs_of_one_name_in_two_namespaces_have_nothing_to_do_with_each_other(world: World) -> None:
    twin = world.twin()
    uids = world.create(), twin.create()
    ours, _ = world.running()
    twin.running()
    world.lose(ours, 1)
    world.running(attempt=2)
    twin.succeed(attempt=1)
    world.succeed(attempt=2)
    assert twin.phase("Succeeded")["restarts"] == 0
    assert world.phase("Succeeded")["restarts"] == 1
    assert [world.attempts(uid) for uid in uids] == [{1: 1, 2: 1}, {1: 1}]


@together
def test_a_job_in_a_namespace_that_is_not_served_is_left_alone(world: World) -> None:
    elsewhere = world.elsewhere("default")
    uid = elsewhere.create()
    world.create()
    world.running()
    assert "status" not in elsewhere.job()
    assert elsewhere.attempts(uid) == {}
    elsewhere.delete("G2RPOJob", world.name)
    world.succeed(attempt=1)
    world.phase("Succeeded")
