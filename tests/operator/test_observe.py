"""Manifests as an API server sends them, and what the operator makes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from g2rpo_operator.observe import attempt_of, child_job_of, observe, owner_of, part_of, pod_of
from g2rpo_operator.world import ChildJob, Children, Part, Pod
from testoperator.records import child, config_map, ended_pod, pod, time

Manifest = dict[str, Any]

LABELS = {"g2rpo.dev/job": "portrait", "g2rpo.dev/job-uid": "uid-1", "g2rpo.dev/attempt": "3"}


def manifest(spec: Manifest | None = None, status: Manifest | None = None, **metadata: Any) -> Manifest:
    owners = [{"kind": "Job", "uid": "job-3"}]
    place = {"name": "portrait-a3-1-abcde", "namespace": "team", "uid": "uid-9", "labels": LABELS}
    common = {**place, "ownerReferences": owners}
    return {"metadata": common | metadata, "spec": spec or {}} | ({"status": status} if status is not None else {})


def container(state: Manifest, name: str = "trainer") -> Manifest:
    return {"containerStatuses": [{"name": name, "state": state}]}


def test_the_labels_name_the_owner() -> None:
    assert owner_of(manifest()) == (("team", "portrait"), "uid-1")


@pytest.mark.parametrize("labels", [{}, {"g2rpo.dev/job": "portrait"}, {"g2rpo.dev/job-uid": "uid-1"}, None])
def test_an_object_without_both_labels_belongs_to_nobody(labels: dict[str, str] | None) -> None:
    assert owner_of(manifest(labels=labels)) is None


@pytest.mark.parametrize(("label", "number"), [("3", 3), ("12", 12), ("x", 0), ("-1", 0), ("", 0)])
def test_the_attempt_is_a_label_and_0_when_it_is_no_number(label: str, number: int) -> None:
    assert attempt_of(manifest(labels={"g2rpo.dev/attempt": label})) == number


def test_the_attempt_is_0_where_there_is_no_label() -> None:
    assert attempt_of(manifest(labels={})) == attempt_of(manifest(labels=None)) == 0


@pytest.mark.parametrize("written", ["", "first", "-1", "²"])
def test_a_pod_that_somebody_made_up_harms_nobody(written: str) -> None:
    """Labels and annotations of a pod are its author's; an error here would end the operator."""
    metadata = {"name": "a", "uid": "b", "annotations": {"batch.kubernetes.io/job-completion-index": written}}
    assert pod_of({"metadata": metadata, "spec": {}}).index == 0


def test_a_pod_that_was_just_created_has_nothing_but_its_place() -> None:
    annotations = {"batch.kubernetes.io/job-completion-index": "1"}
    found = pod_of(manifest(annotations=annotations))
    expected = Pod(name="portrait-a3-1-abcde", uid="uid-9", attempt=3, index=1, phase="Pending", job_uid="job-3")
    assert found == expected
    assert not found.running
    assert not found.over


def test_a_running_pod_has_a_node_and_an_address() -> None:
    status = {"phase": "Running", "podIP": "10.1.2.3", **container({"running": {"startedAt": "2026-03-01T12:00:00Z"}})}
    found = pod_of(manifest({"nodeName": "gpu-4"}, status))
    assert (found.scheduled, found.node, found.ip) == (True, "gpu-4", "10.1.2.3")
    assert found.running
    assert found.exit_code is None


def test_the_schedulers_complaint_is_kept() -> None:
    complaint = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu."
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": complaint}
    assert pod_of(manifest(status={"phase": "Pending", "conditions": [refused]})).unschedulable == complaint
    for other in ({"reason": "SchedulingGated"}, {"status": "True"}):
        assert pod_of(manifest(status={"conditions": [refused | other]})).unschedulable == ""


def test_when_the_scheduler_chose_a_node_is_kept() -> None:
    chosen = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-03-01T12:00:00Z"}
    assert pod_of(manifest(status={"conditions": [chosen]})).scheduled_at == "2026-03-01T12:00:00Z"
    assert pod_of(manifest(status={"conditions": [chosen | {"status": "False"}]})).scheduled_at == ""
    assert pod_of(manifest(status={})).scheduled_at == ""


def test_a_refusal_without_words_is_still_a_refusal() -> None:
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    assert pod_of(manifest(status={"conditions": [refused]})).unschedulable


def test_what_the_container_waits_for_is_kept() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    found = pod_of(manifest({"nodeName": "gpu-4"}, {"phase": "Pending", **container(waiting)}))
    assert (found.waiting_reason, found.waiting_message) == ("ImagePullBackOff", "Back-off pulling image")


def test_only_the_trainers_container_counts() -> None:
    sidecar = container({"terminated": {"exitCode": 9}}, name="istio-proxy")["containerStatuses"]
    trainer = container({"running": {}})["containerStatuses"]
    assert pod_of(manifest(status={"phase": "Running", "containerStatuses": sidecar + trainer})).exit_code is None


def test_how_the_container_ended_is_kept() -> None:
    end = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-03-01T12:05:00Z", "message": "line\n"}
    found = pod_of(manifest(status={"phase": "Failed", **container({"terminated": end})}))
    assert (found.exit_code, found.terminated_reason, found.last_word) == (137, "OOMKilled", "line\n")
    assert found.finished_at == "2026-03-01T12:05:00Z"
    assert found.failed
    assert found.over


def test_null_values_that_old_kubelets_send_are_like_absent_ones() -> None:
    end = {"exitCode": 1, "finishedAt": None}
    status = {"phase": "Failed", "conditions": None, **container({"terminated": end})}
    assert pod_of(manifest(status=status, annotations=None, labels=None)).finished_at == ""
    assert pod_of(manifest(status={"containerStatuses": None})).exit_code is None


@pytest.mark.parametrize(
    "reason", ["PreemptionByScheduler", "DeletionByTaintManager", "EvictionByEvictionAPI", "TerminationByKubelet"]
)
def test_the_condition_of_a_disruption_gives_its_reason(reason: str) -> None:
    disrupted = {"type": "DisruptionTarget", "status": "True", "reason": reason}
    assert pod_of(manifest(status={"phase": "Running", "conditions": [disrupted]})).disruption == reason
    assert pod_of(manifest(status={"conditions": [disrupted | {"status": "False"}]})).disruption == ""


@pytest.mark.parametrize("reason", ["Evicted", "Preempting", "NodeLost", "NodeShutdown", "Terminated", "Shutdown"])
def test_a_kubelet_that_sets_no_condition_tells_a_disruption_by_the_pods_reason(reason: str) -> None:
    found = pod_of(manifest(status={"phase": "Failed", "reason": reason, "message": "The node was low on memory."}))
    assert found.disruption == reason
    assert found.message == "The node was low on memory."


def test_a_rank_that_had_finished_when_its_node_was_drained_was_not_disrupted() -> None:
    disrupted = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
    assert pod_of(manifest(status={"phase": "Succeeded", "conditions": [disrupted]})).disruption == ""


def test_a_pod_that_failed_by_itself_was_not_disrupted() -> None:
    assert pod_of(manifest(status={"phase": "Failed", "reason": "DeadlineExceeded"})).disruption == ""


@pytest.mark.parametrize("owners", [[], None])
def test_a_pod_whose_job_was_deleted_without_it_is_an_orphan(owners: list[Manifest] | None) -> None:
    assert pod_of(manifest(ownerReferences=owners)).job_uid == ""
    assert pod_of(manifest()).job_uid == "job-3"


def test_a_pod_on_its_way_out_does_not_count_as_running() -> None:
    going = pod_of(manifest(status={"phase": "Running"}, deletionTimestamp="2026-03-01T12:10:00Z"))
    assert going.deletion_time == "2026-03-01T12:10:00Z"
    assert not going.running
    assert not going.over


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], {}),
        ([("Suspended", "True")], {}),
        ([("SuccessCriteriaMet", "True")], {}),
        ([("Complete", "True")], {"complete": True}),
        ([("Complete", "False"), ("Failed", "False")], {}),
        ([("FailureTarget", "True")], {"message": "said"}),
        ([("FailureTarget", "True"), ("Failed", "True")], {"failed": True, "message": "said"}),
    ],
)
def test_the_conditions_of_a_job_say_where_it_is(conditions: list[tuple[str, str]], expected: Manifest) -> None:
    told = [{"type": kind, "status": status, "message": "said"} for kind, status in conditions]
    found = child_job_of(manifest(status={"conditions": told}, name="portrait-a3"))
    assert found == ChildJob(name="portrait-a3", uid="uid-9", attempt=3, **expected)
    assert found.over == bool({"complete", "failed"} & set(expected))


def test_a_job_counts_pods_that_failed() -> None:
    assert [child_job_of(manifest(status={"failed": count})).failing for count in (0, 1)] == [False, True]


def test_a_job_may_be_suspended_or_on_its_way_out() -> None:
    assert child_job_of(manifest({"suspend": True})).suspended
    assert child_job_of(manifest({}, deletionTimestamp="2026-03-01T12:10:00Z")).deleting


def test_the_request_to_stop_is_a_key_of_the_config_map() -> None:
    plain = part_of(manifest() | {"data": {"job.json": "{}"}})
    asked = part_of(manifest() | {"data": {"job.json": "{}", "stop": ""}})
    assert (plain.attempt, plain.stop, asked.stop) == (3, False, True)
    assert part_of(manifest()).stop is False


def test_the_current_attempt_is_told_from_older_ones() -> None:
    curve, service = Part("portrait-curve", "curve", 0), Part("portrait", "service", 0)
    everything = Children(
        jobs=(child(1, failed=True), child(2), child(3)),
        pods=(ended_pod(1, 0, attempt=1), pod(1, 3), pod(0, 3), pod(0, 2)),
        config_maps=(curve, config_map(3), config_map(2)),
        services=(service,),
    )
    seen = observe(3, everything)
    assert (seen.job, seen.config_map, seen.service) == (child(3), config_map(3), service)
    assert [found.index for found in seen.pods] == [0, 1]
    assert seen.older_jobs == (child(1, failed=True), child(2))
    assert [found.attempt for found in seen.older_pods] == [1, 2]
    assert seen.older_config_maps == (config_map(2),), "the curve belongs to no attempt and stays"


def test_pods_of_a_job_that_was_created_again_belong_to_the_past() -> None:
    left, new = pod(0, job_uid="job-1-deleted", disruption="EvictionByEvictionAPI"), pod(1)
    seen = observe(1, Children(jobs=(child(),), pods=(left, new)))
    assert (seen.pods, seen.older_pods) == ((new,), (left,))
    assert observe(1, Children(pods=(left, new))).pods == (left, new), "until then they are the attempt's"


def test_a_pod_that_had_ended_before_it_was_deleted_still_tells_how() -> None:
    gone, before = ended_pod(75, 1, deletion_time=time(120)), ended_pod(75, attempt=1)
    seen = observe(
        2, Children(jobs=(child(2),), pods=(pod(0, 2),), parted=(replace(gone, attempt=2, job_uid="job-2"), before))
    )
    assert [(found.index, found.exit_code) for found in seen.pods] == [(0, None), (1, 75)]
    assert seen.parted == (before,)
    again = observe(1, Children(jobs=(child(),), pods=(pod(0), pod(1)), parted=(gone,)))
    assert again.pods == (pod(0), pod(1)), "another took its place"
    resumed = observe(1, Children(jobs=(child(start_time=time(101)),), parted=(gone,)))
    assert resumed.pods == (), "it ended when its Job was suspended"


def test_what_is_not_there_is_missing() -> None:
    seen = observe(1, Children())
    assert (seen.job, seen.config_map, seen.service, seen.pods) == (None, None, None, ())
    assert not seen.older_alive


@pytest.mark.parametrize(
    ("children", "alive"),
    [
        (Children(jobs=(child(1),)), True),
        (Children(jobs=(child(1, failing=True),)), True),
        (Children(jobs=(child(1, failing=True),), pods=(ended_pod(1), pod(1))), True),
        (Children(jobs=(child(1, failing=True),), pods=(ended_pod(1),)), False),
        (Children(jobs=(child(1, failed=True),), pods=(ended_pod(1),)), False),
        (Children(jobs=(child(1, complete=True),), pods=(ended_pod(0),)), False),
        (Children(pods=(pod(),)), True),
        (Children(pods=(pod(deletion_time="2026-03-01T12:10:00Z"),)), True),
    ],
)
def test_an_older_attempt_lives_until_its_job_and_all_its_pods_have_ended(children: Children, alive: bool) -> None:
    assert observe(2, children).older_alive is alive
    assert observe(1, children).older_alive is False, "it is the current one"


def test_one_pod_speaks_for_each_index_the_one_that_goes_on() -> None:
    ended = Pod("a", "1", 1, 0, "Failed")
    leaving = Pod("b", "2", 1, 0, "Running", deletion_time="2026-03-01T12:10:00Z")
    starting = Pod("c", "3", 1, 0, "Pending")
    for order in ((ended, leaving, starting), (starting, leaving, ended)):
        assert observe(1, Children(pods=order)).pods == (starting,)
        assert observe(1, Children(pods=tuple(p for p in order if p != starting))).pods == (leaving,)
