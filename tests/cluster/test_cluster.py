"""A Job's life on the test cluster, as the real controllers see it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from testcluster.api import ApiError
from testcluster.cluster import Cluster
from testcluster.process import wait_until

Object = dict[str, Any]
LABEL = "test.dev/job"


def job(namespace: str, pods: int = 2, gpus: int = 8, **template: Any) -> Object:
    """An Indexed Job whose pods want so many GPUs; `template` holds annotations, an image and a grace."""
    container = {"name": "main", "image": template.get("image", "trainer:1")}
    container["resources"] = {"limits": {"nvidia.com/gpu": str(gpus)}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job", "namespace": namespace},
        "spec": {
            "completions": pods,
            "parallelism": pods,
            "completionMode": "Indexed",
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}}]},
            "template": {
                "metadata": {"labels": {LABEL: "job"}, "annotations": template.get("annotations", {})},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": template.get("grace", 30),
                    "containers": [container],
                },
            },
        },
    }


def create(cluster: Cluster, namespace: str, **spec: Any) -> None:
    cluster.api.create(f"/apis/batch/v1/namespaces/{namespace}/jobs", job(namespace, **spec))


def conditions(cluster: Cluster, namespace: str) -> dict[str, Object]:
    """The Job's conditions that are true, by type."""
    found = cluster.api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs/job")["status"].get("conditions", [])
    return {condition["type"]: condition for condition in found if condition["status"] == "True"}


def code(pod: Object) -> int:
    """The exit code that the pod's status tells."""
    return int(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"])


def test_the_server_says_the_version_that_it_was_built_from(cluster: Cluster) -> None:
    assert cluster.api.get("/version")["gitVersion"] == "v1.37.2"


def test_an_indexed_job_runs_on_the_gpus_and_succeeds(cluster: Cluster, namespace: str) -> None:
    create(cluster, namespace)
    pods = cluster.pods.wait_running(namespace, LABEL, 2)
    assert {pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] for pod in pods} == {"0", "1"}
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2, "eight GPUs are a whole node"
    for pod in pods:
        cluster.pods.succeed(pod)
    wait_until(lambda: "Complete" in conditions(cluster, namespace), "the Job is complete")


def test_a_pods_exit_code_decides_what_the_job_says(cluster: Cluster, namespace: str) -> None:
    create(cluster, namespace)
    pods = cluster.pods.wait_running(namespace, LABEL, 2)
    cluster.pods.fail(pods[1], 3, "spec.rewards: unknown")
    wait_until(lambda: "Failed" in conditions(cluster, namespace), "the Job failed")
    failed = conditions(cluster, namespace)["Failed"]
    assert failed["reason"] == "PodFailurePolicy"
    assert "exit code 3" in failed["message"]


def test_what_does_not_fit_stays_pending_and_the_scheduler_says_why(cluster: Cluster, namespace: str) -> None:
    create(cluster, namespace, pods=1, gpus=9)

    def reason() -> str:
        pods = cluster.pods.matching(namespace, LABEL)
        found = [c for pod in pods for c in pod["status"].get("conditions", []) if c["type"] == "PodScheduled"]
        return str(found[0].get("message", "")) if found else ""

    wait_until(lambda: "Insufficient nvidia.com/gpu" in reason(), "the scheduler says what is missing")


@contextmanager
def kept(cluster: Cluster, pod: Object) -> Iterator[str]:
    """A deleted pod stays for a block, so that its end can be read; its path."""
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
    cluster.api.merge(path, {"metadata": {"finalizers": ["test.dev/look"]}})
    yield path
    cluster.api.merge(path, {"metadata": {"finalizers": None}})


def test_an_image_of_an_invalid_registry_cannot_be_pulled(cluster: Cluster, namespace: str) -> None:
    create(cluster, namespace, pods=1, image="registry.invalid/trainer:1")

    def waiting() -> list[str]:
        pods = cluster.pods.matching(namespace, LABEL)
        statuses = [status for pod in pods for status in pod["status"].get("containerStatuses", [])]
        return [status["state"]["waiting"]["reason"] for status in statuses]

    wait_until(lambda: waiting() == ["ImagePullBackOff"], "the image cannot be pulled")


def test_a_pod_can_be_told_by_annotation_how_long_it_runs_and_how_it_ends(cluster: Cluster, namespace: str) -> None:
    annotations = {"testcluster.dev/run-seconds": "1", "testcluster.dev/exit-code": "4"}
    create(cluster, namespace, pods=1, annotations=annotations)
    (pod,) = cluster.pods.wait(namespace, LABEL, 1, ("Failed",))
    assert code(pod) == 4


@pytest.mark.parametrize(
    ("annotations", "ends_with"),
    [
        ({}, 75),
        ({"testcluster.dev/sigterm-exit-code": "1", "testcluster.dev/sigterm-seconds": "1"}, 1),
        ({"testcluster.dev/sigterm-seconds": "100"}, 137),
    ],
    ids=["saves", "takes-a-second", "is-killed-after-its-grace"],
)
def test_a_deleted_pod_ends_as_it_was_told_to(
    cluster: Cluster, namespace: str, annotations: dict[str, str], ends_with: int
) -> None:
    create(cluster, namespace, pods=1, annotations=annotations, grace=2)
    (pod,) = cluster.pods.wait_running(namespace, LABEL, 1)
    with kept(cluster, pod) as path:
        cluster.pods.delete(pod)
        wait_until(lambda: cluster.api.get(path)["status"]["phase"] == "Failed", "the pod ended")
        assert code(cluster.api.get(path)) == ends_with
    cluster.pods.wait_gone(pod)


@pytest.mark.parametrize(("how", "reason"), [("evict", "EvictionByEvictionAPI"), ("preempt", "PreemptionByScheduler")])
def test_a_disrupted_pod_is_marked_and_goes(cluster: Cluster, namespace: str, how: str, reason: str) -> None:
    create(cluster, namespace, pods=1)
    (pod,) = cluster.pods.wait_running(namespace, LABEL, 1)
    with kept(cluster, pod) as path:
        getattr(cluster.pods, how)(pod)
        wait_until(lambda: cluster.api.get(path)["status"]["phase"] == "Failed", "the pod ended")
        found = {c["type"]: c for c in cluster.api.get(path)["status"]["conditions"]}
        assert found["DisruptionTarget"]["reason"] == reason
    cluster.pods.wait_gone(pod)


def test_a_pod_that_the_kubelet_evicts_stays_and_says_so(cluster: Cluster, namespace: str) -> None:
    create(cluster, namespace, pods=1)
    (pod,) = cluster.pods.wait_running(namespace, LABEL, 1)
    cluster.pods.evict_by_kubelet(pod)
    status = cluster.pods.get(pod)["status"]
    assert (status["phase"], status["reason"], code(cluster.pods.get(pod))) == ("Failed", "Evicted", 137)


def test_a_container_that_needs_too_much_memory_says_so(cluster: Cluster, namespace: str) -> None:
    create(cluster, namespace, pods=1)
    (pod,) = cluster.pods.wait_running(namespace, LABEL, 1)
    cluster.pods.fail(pod, 137, "last words", "OOMKilled")
    (container,) = cluster.pods.get(pod)["status"]["containerStatuses"]
    ended = container["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (137, "OOMKilled", "last words")


def test_a_pod_that_fails_has_an_exit_code(cluster: Cluster) -> None:
    with pytest.raises(ValueError, match="other than 0"):
        cluster.pods.fail({}, 0)


def test_a_pod_whose_image_is_gone_waits_for_it_and_is_not_started_again(cluster: Cluster, namespace: str) -> None:
    create(cluster, namespace, pods=1)
    (pod,) = cluster.pods.wait_running(namespace, LABEL, 1)
    cluster.pods.fail_to_pull(pod)
    other = job(namespace, pods=1)
    other["metadata"]["name"] = "other"
    other["spec"]["template"]["metadata"]["labels"] = {LABEL: "other"}
    cluster.api.create(f"/apis/batch/v1/namespaces/{namespace}/jobs", other)
    cluster.pods.wait_running(namespace, f"{LABEL}=other", 1)
    status = cluster.pods.get(pod)["status"]
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff"


def test_a_pod_ended_by_hand_does_not_end_again_by_its_timer(cluster: Cluster, namespace: str) -> None:
    for name in ("first", "second"):
        metadata = {"name": name, "annotations": {"testcluster.dev/run-seconds": "2"}}
        spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "trainer:1"}]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        cluster.api.create(f"/api/v1/namespaces/{namespace}/pods", body)
    first, second = cluster.pods.wait_running(namespace, "", 2)
    cluster.pods.fail(first, 9)
    wait_until(lambda: cluster.pods.get(second)["status"]["phase"] == "Succeeded", "the other's timer is over")
    assert code(cluster.pods.get(first)) == 9


def test_running_pods_have_loopback_addresses_at_which_anything_may_be_served(cluster: Cluster, namespace: str) -> None:
    create(cluster, namespace)
    addresses = [pod["status"]["podIP"] for pod in cluster.pods.wait_running(namespace, LABEL, 2)]
    assert len(set(addresses)) == 2
    for address in addresses:
        with socket.create_server((address, 9465)) as server:
            assert server.getsockname() == (address, 9465)


def test_the_audit_log_tells_who_asked_for_what(cluster: Cluster, namespace: str) -> None:
    config = cluster.kubeconfig_for_user("ada", "system:masters")
    cluster.kubectl("--kubeconfig", str(config), "-n", namespace, "create", "configmap", "noted")
    asked = [
        (event["verb"], event["objectRef"]["name"]) for event in cluster.audit_events("ada") if "objectRef" in event
    ]
    assert asked == [("create", "noted")]


def test_a_service_account_may_do_what_its_role_says_and_no_more(cluster: Cluster, namespace: str) -> None:
    make = ("-n", namespace, "create")
    cluster.kubectl(*make, "serviceaccount", "reader")
    cluster.kubectl(*make, "role", "reader", "--verb=get,list", "--resource=pods")
    cluster.kubectl(*make, "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:reader")
    config = str(cluster.kubeconfig_for_service_account(namespace, "reader"))
    assert cluster.kubectl("--kubeconfig", config, "get", "pods", "-o", "name") == ""
    with pytest.raises(RuntimeError, match="forbidden"):
        cluster.kubectl("--kubeconfig", config, "get", "configmaps")


def test_a_name_that_is_taken_is_refused_with_the_servers_reason(cluster: Cluster, namespace: str) -> None:
    create(cluster, namespace)
    with pytest.raises(ApiError, match="AlreadyExists") as refused:
        create(cluster, namespace)
    assert refused.value.code == 409
