"""What is said of an attempt's pods in one reason and one sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from g2rpo_api.progress import ProgressReport
from g2rpo_api.status import Reason
from g2rpo_operator.statuses import progress_of
from g2rpo_operator.waiting import Waiting, all_run, all_scheduled, waiting
from g2rpo_operator.world import Attempt, Pod, View
from testoperator.records import (
    at,
    attempt_of,
    child,
    condition,
    ended_pod,
    job,
    later,
    pending_pod,
    pod,
    report,
    running_status,
    status,
    time,
    view,
)

NO_ROOM = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu."


def starting(*pods: Pod, **fields: object) -> View:
    """An attempt whose pods have never all run."""
    return view(status=status(), attempt=attempt_of(*pods, **fields))


def telling(told: ProgressReport, attempt: Attempt | None = None) -> View:
    """Ranks that run and have told this."""
    now = {"attempt": attempt} if attempt else {}
    return view(status=running_status(progress=progress_of(told)), **now)


def said_of(seen: View) -> tuple[bool, Reason]:
    found = waiting(seen)
    return found.running, found.reason


def held(reason: str, message: str = "") -> Pod:
    return pod(1, phase="Pending", waiting_reason=reason, waiting_message=message)


def test_a_job_that_kueue_holds_is_queued_whatever_its_pods_do() -> None:
    for pods in ((), (pod(0), pod(1)), (pending_pod(0, unschedulable=NO_ROOM),)):
        seen = starting(*pods, job=child(suspended=True))
        assert said_of(seen) == (False, Reason.QUEUED)
        assert said_of(replace(seen, status=running_status())) == (False, Reason.QUEUED)
    queued = job({"labels": {"kueue.x-k8s.io/queue-name": "gold"}})
    assert "kubectl describe workload" in waiting(replace(starting(job=child(suspended=True)), job=queued)).message


def test_a_job_that_a_person_suspended_below_the_operator_is_not_put_down_to_kueue() -> None:
    message = waiting(starting(job=child(suspended=True))).message
    assert "Kueue" not in message
    assert f"kubectl patch job {child().name}" in message


def test_a_job_without_pods_waits_for_them() -> None:
    assert waiting(starting()) == Waiting(False, Reason.CONTAINERS_STARTING, "waiting for 2 pods to run")
    one = replace(starting(), job=job(workers={"nodes": 1}))
    assert waiting(one).message == "waiting for 1 pod to run"


def test_for_a_minute_what_was_announced_stands() -> None:
    announced = status(condition("Running", "False", "Disrupted", message="the node went"))
    seen = view(status=announced, attempt=attempt_of(pod(0), pending_pod(1), job=child(start_time=time(100))))
    assert waiting(replace(seen, now=at(159))) == Waiting(False, Reason.DISRUPTED, "the node went")
    assert said_of(replace(seen, now=at(160))) == (False, Reason.CONTAINERS_STARTING)


def test_the_scheduler_is_quoted_with_the_name_of_the_pod() -> None:
    seen = starting(pod(0), pending_pod(1, unschedulable=NO_ROOM))
    assert waiting(seen) == Waiting(False, Reason.UNSCHEDULABLE, f"{pending_pod(1).name}: {NO_ROOM}")


@pytest.mark.parametrize(
    "wait", ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"]
)
def test_an_image_that_cannot_be_pulled_is_named_with_what_to_mend(wait: str) -> None:
    found = waiting(starting(pod(0), held(wait, 'Back-off pulling image "trainer:2"')))
    assert (found.running, found.reason) == (False, Reason.IMAGE_PULL_FAILED)
    for part in (pod(1).name, wait, 'image "trainer:2"', "spec.image", "imagePullSecrets"):
        assert part in found.message


def test_a_missing_secret_is_named_with_what_to_do() -> None:
    found = waiting(starting(pod(0), held("CreateContainerConfigError", 'secret "hub" not found')))
    assert (found.running, found.reason) == (False, Reason.CONFIG_MISSING)
    for part in (pod(1).name, "CreateContainerConfigError", 'secret "hub" not found', "create the Secret"):
        assert part in found.message


@pytest.mark.parametrize("wait", ["CreateContainerError", "RunContainerError"])
def test_a_runtime_that_cannot_start_a_container_sends_nobody_to_look_for_a_secret(wait: str) -> None:
    found = waiting(starting(pod(0), held(wait, "context deadline exceeded")))
    assert (found.running, found.reason) == (False, Reason.CONTAINERS_STARTING)
    assert f"{pod(1).name}: {wait}: context deadline exceeded; the node's container runtime" in found.message
    assert "Secret" not in found.message


def test_a_complaint_without_words_ends_without_a_colon() -> None:
    assert waiting(starting(held("ErrImagePull"))).message.startswith(f"{pod(1).name}: ErrImagePull; ")


@pytest.mark.parametrize("wait", ["", "ContainerCreating", "PodInitializing"])
def test_pods_that_are_getting_ready_are_starting(wait: str) -> None:
    assert said_of(starting(pod(0), held(wait))) == (False, Reason.CONTAINERS_STARTING)


def test_no_room_is_told_before_an_image_and_an_image_before_a_secret() -> None:
    secret = replace(held("CreateContainerConfigError"), index=2)
    image = replace(held("ErrImagePull"), index=1)
    room = replace(pending_pod(unschedulable=NO_ROOM), index=3)
    assert said_of(starting(secret, image, room))[1] == Reason.UNSCHEDULABLE
    assert said_of(starting(secret, image))[1] == Reason.IMAGE_PULL_FAILED
    assert said_of(starting(secret))[1] == Reason.CONFIG_MISSING


@pytest.mark.parametrize(
    "words", ['persistentvolumeclaim "runs" not found. not found', "pod has unbound immediate PersistentVolumeClaims."]
)
def test_a_claim_that_is_not_there_or_has_no_volume_is_no_lack_of_nodes(words: str) -> None:
    found = waiting(starting(pending_pod(unschedulable=f"0/1 nodes are available: {words}"), pending_pod(1)))
    assert found.reason == Reason.CONFIG_MISSING
    assert words in found.message
    assert "create the Secret, ConfigMap or volume" in found.message


def test_ranks_that_have_finished_nothing_yet_are_starting() -> None:
    assert said_of(view(status=running_status())) == (True, Reason.RANKS_STARTING)
    assert said_of(telling(report(0, phase="Starting"))) == (True, Reason.RANKS_STARTING)
    assert said_of(telling(report(50, attempt=2))) == (True, Reason.RANKS_STARTING)


def test_why_progress_is_unknown_is_said_once_the_trainer_had_time_to_answer() -> None:
    silent = replace(view(status=running_status(since=30), now=89), progress_error="connection refused")
    assert "progress" not in waiting(silent).message
    assert "connection refused" in waiting(later(silent, 1)).message
    assert "progress" not in waiting(view(status=running_status())).message


@pytest.mark.parametrize(("pods", "said"), [((), "0 of 2"), ((pod(0),), "1 of 2")])
def test_pods_that_nobody_creates_for_a_minute_are_refused(pods: tuple[Pod, ...], said: str) -> None:
    seen = starting(*pods, job=child(start_time=time(100)))
    assert said_of(replace(seen, now=at(159))) == (False, Reason.CONTAINERS_STARTING)
    found = waiting(replace(seen, now=at(160)))
    assert (found.running, found.reason) == (False, Reason.FAILED_CREATE)
    assert said in found.message
    assert f"kubectl describe job {child().name}" in found.message


def test_pods_that_are_there_or_a_job_that_has_not_begun_are_not_refused() -> None:
    assert said_of(starting(pod(0), pending_pod(1), job=child(start_time=time(0)))) == (
        False,
        Reason.CONTAINERS_STARTING,
    )
    assert said_of(starting(job=child(start_time=""))) == (False, Reason.CONTAINERS_STARTING)


@pytest.mark.parametrize("phase", ["Training", "Evaluating", "Finished"])
def test_iterations_make_it_training(phase: str) -> None:
    assert said_of(telling(report(phase=phase))) == (True, Reason.TRAINING)


def test_a_wish_to_end_early_is_told_while_it_is_carried_out() -> None:
    for seen in (view(), telling(report())):
        assert said_of(replace(seen, job=job(stop=True))) == (True, Reason.STOPPING)


def test_ranks_that_go_down_with_another_are_still_called_running() -> None:
    found = waiting(telling(report(), attempt_of(ended_pod(1), pod(1), job=child(failing=True))))
    assert (found.running, found.reason) == (True, Reason.TRAINING)
    assert "failed" in found.message


def test_an_attempt_that_ran_once_runs_until_it_is_over() -> None:
    finishing = attempt_of(ended_pod(0), pod(1))
    losing = attempt_of(pod(0))
    for attempt in (finishing, losing):
        assert waiting(telling(report(), attempt)).running


def test_all_run_when_every_container_has_started_and_none_failed() -> None:
    assert all_run(starting(pod(0), pod(1)))
    assert all_run(starting(ended_pod(0), pod(1)))
    assert not all_run(starting(pod(0)))
    assert not all_run(starting(pod(0), pending_pod(1)))
    assert not all_run(starting(pod(0), ended_pod(1, 1)))
    assert not all_run(starting())


def test_all_are_scheduled_when_every_pod_has_a_node() -> None:
    placed = pod(1, phase="Pending")
    assert all_scheduled(starting(pod(0), placed))
    assert not all_scheduled(starting(placed))
    assert not all_scheduled(starting(pod(0), pending_pod(1)))
    assert not all_scheduled(starting())
