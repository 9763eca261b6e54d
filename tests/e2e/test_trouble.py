"""What befalls a job that runs: each test does it to the same job and leaves it training in a later attempt."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from scenes import OPERATOR_NAMESPACE, Job, Object, Team

from testcluster.process import wait_until
from testnode.facts import NODE

FOREVER = 100_000


@pytest.fixture(scope="module")
def job(team: Team) -> Iterator[Job]:
    """A job that trains for as long as the tests of this module take."""
    policy = {"progressTimeoutSeconds": 45, "terminationGracePeriodSeconds": 60, "maxRestarts": 10}
    with team.job("storm", {"policy": policy}, {"iterations": FOREVER}) as running:
        yield running


@pytest.fixture
def before(job: Job) -> Object:
    """Its status while it trains."""
    return job.wait_iteration(job.status.get("progress", {}).get("iteration", 0) + 1, job.status.get("attempt", 1))


@contextmanager
def restarted(job: Job, before: Object, restarts: int, disruptions: int) -> Iterator[None]:
    """Inside something happens after which the next attempt goes on without a lost or doubled iteration."""
    yield
    after = job.wait_iteration(before["progress"]["iteration"] + 1, before["attempt"] + 1)
    counted = {"attempt": 1, "restarts": restarts, "disruptions": disruptions}
    assert {key: after.get(key, 0) - before.get(key, 0) for key in counted} == counted
    done = job.iterations()
    assert done == list(range(len(done)))


def test_a_pod_that_is_deleted_saves_first_and_is_no_restart(job: Job, before: Object) -> None:
    with restarted(job, before, restarts=0, disruptions=1):
        pod = job.pod(before["attempt"], 1)["metadata"]
        job.node.api.delete(f"/api/v1/namespaces/{job.namespace}/pods/{pod['name']}")
    assert job.status["lastFailure"]["reason"] == "Disrupted"
    assert job.status["progress"]["checkpoint"]["iteration"] >= before["progress"]["iteration"]


def test_a_rank_that_is_killed_is_a_restart(job: Job, before: Object) -> None:
    with restarted(job, before, restarts=1, disruptions=0):
        os.kill(job.ranks(before["attempt"], 1)[0], signal.SIGKILL)
    failure = job.status["lastFailure"]
    assert (failure["reason"], failure["exitCode"]) == ("Killed", 137)
    assert failure["pod"].startswith(f"storm-a{before['attempt']}-1-")


def test_a_drained_node_is_no_restart_and_the_job_waits_for_room(job: Job, before: Object) -> None:
    with restarted(job, before, restarts=0, disruptions=1):
        job.node.kubectl("cordon", NODE)
        try:
            chosen = f"--pod-selector=g2rpo.dev/job={job.name}"
            job.node.kubectl("drain", NODE, chosen, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
            job.wait(
                lambda status: (
                    {"type": "Running", "reason": "Unschedulable"}.items() <= job.condition("Running").items()
                ),
                "the job says that no node takes it",
            )
        finally:
            job.node.kubectl("uncordon", NODE)


def test_the_operators_death_is_not_noticed_by_the_job(job: Job, before: Object) -> None:
    uids = [pod["metadata"]["uid"] for pod in job.pods(before["attempt"])]
    operators = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods"
    (dead,) = (
        pod["metadata"] for pod in job.node.api.items(operators, labelSelector="app.kubernetes.io/name=g2rpo-operator")
    )
    job.node.api.delete(f"{operators}/{dead['name']}", gracePeriodSeconds=0)
    wait_until(lambda: not job.node.api.answers(f"{operators}/{dead['name']}"), "the operator's pod is gone", 60)
    after = job.wait_iteration(before["progress"]["iteration"] + 3, before["attempt"])
    assert after["attempt"] == before["attempt"]
    assert [pod["metadata"]["uid"] for pod in job.pods(after["attempt"])] == uids


def test_suspended_it_saves_and_frees_the_gpus_and_goes_on(job: Job, before: Object) -> None:
    job.change(suspend=True)
    suspended = job.wait_phase("Suspended")
    assert not [pod for pod in job.pods(before["attempt"]) if pod["status"]["phase"] == "Running"]
    assert suspended["progress"]["checkpoint"]["iteration"] == job.iterations()[-1]
    saved = {**suspended, "attempt": before["attempt"]}  # a suspended job tells of the attempt to come
    with restarted(job, saved, restarts=0, disruptions=0):
        job.change(suspend=False)


def test_a_rank_that_hangs_is_found_and_restarted(job: Job, before: Object) -> None:
    with restarted(job, before, restarts=1, disruptions=0):
        for pid in job.ranks(before["attempt"], 1):
            os.kill(pid, signal.SIGSTOP)
    assert job.status["lastFailure"]["reason"] == "ProgressStalled"


def test_stopped_it_exports_and_succeeds(job: Job, before: Object) -> None:
    job.change(stop=True)
    ended = job.wait_phase("Succeeded")
    assert job.condition("Complete")["reason"] == "Stopped"
    assert ended["attempt"] == before["attempt"]
    assert list((job.runs / job.name / "export").rglob("*.safetensors"))
