"""What is installed works on a real cluster: roles, restricted pods, columns, a status that the schema takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from g2rpo_api.contract import API_VERSION, GROUP, PLURAL
from g2rpo_api.install import NAMESPACE, REPLICAS
from g2rpo_api.rbac import OPERATOR, operator_roles
from g2rpo_api.status import JobStatus
from testapi.examples import job_of
from testcluster.api import ApiError
from testcluster.cluster import Cluster
from testcluster.process import wait_until

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{OPERATOR}"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
NOW = "2026-01-02T03:04:05Z"
SPEC: dict[str, Any] = {
    "training": {
        "iterations": 300,
        "model": {"family": "SD3", "path": "org/model", "train": {"type": "LoRA"}},
        "prompts": {"path": "prompts.txt"},
        "sampling": {"height": 64, "width": 64},
        "algorithm": {"type": "G2RPO"},
        "rewards": [{"name": "ocr", "type": "PaddleOCR"}],
    }
}


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster in which the manifests were applied, as a person would."""
    cluster.kubectl("apply", "-f", str(MANIFESTS))
    wait_until(lambda: cluster.api.answers(f"/apis/{API_VERSION}/{PLURAL}"), "jobs are served")
    yield cluster
    for name in ("operator.yaml", "rbac.yaml"):
        cluster.kubectl("delete", "--wait=false", "-f", str(MANIFESTS / name))
    wait_until(lambda: not cluster.api.answers(f"/api/v1/namespaces/{NAMESPACE}"), f"{NAMESPACE} is gone", 60)


def may(cluster: Cluster, user: str, verb: str, resource: str, namespace: str = "") -> bool:
    """Whether a user may do something; `resource` is like g2rpojobs.g2rpo.dev/status."""
    name, _, part = resource.partition("/")
    plural, _, group = name.partition(".")
    wish = {"verb": verb, "group": group, "resource": plural, "subresource": part, "namespace": namespace}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    answer = cluster.api.create(REVIEWS, {**review, "spec": {"user": user, "resourceAttributes": wish}})
    return bool(answer["status"]["allowed"])


def test_manifests_can_be_applied_again(installed: Cluster) -> None:
    told = installed.kubectl("apply", "-f", str(MANIFESTS)).splitlines()
    assert len(told) == 11
    assert [line for line in told if line.endswith(" created")] == []


def test_replicas_are_let_in_though_only_restricted_pods_are(installed: Cluster) -> None:
    def pods() -> list[dict[str, Any]]:
        return installed.api.items(
            f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector="app.kubernetes.io/part-of=g2rpo"
        )

    wait_until(lambda: len(pods()) == REPLICAS, "all replicas were created")
    (container,) = pods()[0]["spec"]["containers"]
    assert {variable["name"] for variable in container["env"]} == {"POD_NAME", "POD_NAMESPACE"}
    bare = {"containers": [{"name": "a", "image": "a"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": bare}
    with pytest.raises(ApiError, match="violates PodSecurity"):
        installed.api.create(f"/api/v1/namespaces/{NAMESPACE}/pods", pod)


@pytest.mark.parametrize(
    ("verbs", "resource"),
    [
        ("get list watch delete", f"{PLURAL}.{GROUP}"),
        ("update", f"{PLURAL}.{GROUP}/status"),
        ("update", f"{PLURAL}.{GROUP}/finalizers"),
        ("get list watch create delete", "jobs.batch"),
        ("get list watch create", "services"),
        ("get list watch create patch delete", "configmaps"),
        ("get list watch delete", "pods"),
        ("create", "events"),
    ],
)
def test_the_operator_may_do_its_work_everywhere(verbs: str, resource: str, installed: Cluster) -> None:
    assert [verb for verb in verbs.split() if not may(installed, ACCOUNT, verb, resource, "anywhere")] == []
    assert [verb for verb in ("list", "watch") if verb in verbs and not may(installed, ACCOUNT, verb, resource)] == []


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("get", "secrets"),
        ("list", "secrets"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("get", "pods/log"),
        ("get", "pods/proxy"),
        ("create", f"{PLURAL}.{GROUP}"),
        ("update", f"{PLURAL}.{GROUP}"),
        ("update", "services"),
        ("list", "nodes"),
        ("get", "leases.coordination.k8s.io"),
        ("list", "customresourcedefinitions.apiextensions.k8s.io"),
        ("create", "clusterroles.rbac.authorization.k8s.io"),
    ],
)
def test_the_operator_may_do_nothing_else(verb: str, resource: str, installed: Cluster) -> None:
    assert not may(installed, ACCOUNT, verb, resource, "anywhere")


def test_the_operator_elects_a_leader_at_home_only(installed: Cluster) -> None:
    for verb in ("get", "create", "update"):
        assert may(installed, ACCOUNT, verb, "leases.coordination.k8s.io", NAMESPACE)
        assert not may(installed, ACCOUNT, verb, "leases.coordination.k8s.io", "kube-system")


def test_an_operator_of_some_namespaces_may_do_nothing_in_others(cluster: Cluster, namespace: str) -> None:
    for manifest in operator_roles(namespace, [namespace]):
        plural = f"{manifest['kind'].lower()}s"
        cluster.api.create(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{plural}", manifest)
    account = f"system:serviceaccount:{namespace}:{OPERATOR}"
    for resource in (f"{PLURAL}.{GROUP}", "pods", "jobs.batch"):
        wait_until(
            lambda resource=resource: may(cluster, account, "watch", resource, namespace), f"rights on {resource}"
        )
        assert not may(cluster, account, "watch", resource, "default")
        assert not may(cluster, account, "watch", resource)


@pytest.mark.parametrize(
    ("role", "verbs"),
    [
        ("view", {"get", "list", "watch"}),
        ("edit", {"get", "list", "watch", "create", "update", "patch", "delete"}),
        ("admin", {"get", "list", "watch", "create", "update", "patch", "delete"}),
    ],
)
def test_people_with_the_usual_roles_can_use_jobs(
    role: str, verbs: set[str], installed: Cluster, namespace: str
) -> None:
    user = f"{role}-{namespace}"
    installed.kubectl("create", "rolebinding", role, "-n", namespace, f"--clusterrole={role}", f"--user={user}")
    resource = f"{PLURAL}.{GROUP}"
    wait_until(lambda: may(installed, user, "watch", resource, namespace), f"{role} sees jobs")
    everything = ("get", "list", "watch", "create", "update", "patch", "delete")
    assert {verb for verb in everything if may(installed, user, verb, resource, namespace)} == verbs
    assert not may(installed, user, "update", f"{resource}/status", namespace), "the status is the operator's"
    assert not may(installed, user, "list", resource, "default")


@pytest.mark.parametrize("path", sorted((MANIFESTS / "samples").glob("*.yaml")), ids=lambda path: path.stem)
def test_samples_are_taken_by_the_server(path: Path, installed: Cluster, namespace: str) -> None:
    job = f"g2rpojob.{GROUP}/{path.stem}"
    told = installed.kubectl("apply", "-n", namespace, "--validate=strict", "--dry-run=server", "-f", str(path))
    assert told.strip() == f"{job} created (server dry run)"


def test_a_job_is_owned_in_parts_and_may_be_applied_server_side_again(installed: Cluster, namespace: str) -> None:
    """Who owns each key would be half of the object. A part belongs to one: another is refused, or takes all of it."""
    path = f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}/whole"
    manifest = {**job_of(SPEC, "whole"), "metadata": {"name": "whole", "namespace": namespace}}

    def apply(job: dict[str, Any], manager: str) -> None:
        told = ("apply", "--server-side", f"--field-manager={manager}", "-f", "-")
        installed.kubectl(*told, input=json.dumps(job))

    apply(manifest, "anna")
    job = installed.api.get(path)
    completed = job["spec"]
    assert completed["training"].keys() > SPEC["training"].keys(), "defaults are filled in"
    told = {"phase": "Suspended", "attempt": 1, "observedGeneration": 1}
    installed.api.request("PUT", f"{path}/status", {**job, "status": told})
    apply(manifest, "anna")
    job = installed.api.get(path)
    assert (job["metadata"]["generation"], job["status"]["attempt"]) == (1, 1)
    assert job["spec"] == completed
    owned = {entry["manager"]: entry["fieldsV1"] for entry in job["metadata"]["managedFields"]}
    assert owned["anna"] == {"f:spec": {"f:training": {}}}
    assert [fields for manager, fields in owned.items() if manager != "anna"] == [{"f:status": {}}]
    other = {**SPEC, "training": {**SPEC["training"], "iterations": 400}}
    with pytest.raises(RuntimeError, match=r"conflict with \"anna\".*\.spec\.training"):
        apply({**manifest, "spec": other}, "bert")


STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "phase": "Running",
    "attempt": 2,
    "attemptTime": NOW,
    "restarts": 1,
    "disruptions": 0,
    "retryTime": NOW,
    "startTime": NOW,
    "scheduledTime": NOW,
    "runningTime": NOW,
    "completionTime": NOW,
    "usage": {"activeSeconds": 60.5, "gpuSeconds": 484.0, "gpuHours": 0.13, "time": NOW},
    "conditions": [
        {
            "type": "Running",
            "status": "True",
            "reason": "Training",
            "message": "iterations come in",
            "lastTransitionTime": NOW,
            "observedGeneration": 1,
        }
    ],
    "progress": {
        "attempt": 2,
        "iteration": 40,
        "total": 300,
        "step": "40/300",
        "percent": 13.3,
        "etaSeconds": 2**40,
        "phase": "Training",
        "reward": 0.4321,
        "best": 0.5,
        "delta": 0.1234,
        "heldOut": 0.25,
        "clipRatio": 0.01,
        "imagesPerSecond": 12.5,
        "rewards": [
            {"name": "ocr", "role": "Train", "mean": 0.4321, "best": None, "delta": 0.1},
            {"name": "judge", "role": "HeldOut", "mean": None, "best": None, "delta": None},
        ],
        "curve": [{"iteration": index, "reward": index / 64} for index in range(64)],
        "checkpoint": {"iteration": 40, "time": NOW},
        "beatTime": NOW,
    },
    "lastFailure": {
        "attempt": 1,
        "reason": "OutOfMemory",
        "message": "rank 3 was killed",
        "pod": "job-a1-0",
        "node": "node-0",
        "exitCode": 137,
        "lastLines": "…",
        "time": NOW,
    },
    "image": "g2rpo/trainer:1",
    "seed": 2**63 - 1,
    "specHash": "0123456789abcdef",
}


@pytest.fixture
def running(installed: Cluster, namespace: str) -> str:
    """Path of a job whose status says everything that a status can say."""
    path = f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}"
    job = installed.api.create(path, job_of(SPEC))
    told = JobStatus.model_validate(STATUS).model_dump(mode="json", by_alias=True)
    installed.api.request("PUT", f"{path}/job/status?fieldValidation=Strict", {**job, "status": told})
    return f"{path}/job"


def test_the_example_says_everything() -> None:
    assert set(STATUS) == {info.alias for info in JobStatus.model_fields.values()}


def test_a_status_is_stored_as_it_was_written(running: str, installed: Cluster) -> None:
    stored = installed.api.get(running)["status"]
    assert JobStatus.model_validate(stored) == JobStatus.model_validate(STATUS)
    assert stored["seed"] == 2**63 - 1


def test_columns_show_how_a_job_is(running: str, installed: Cluster, namespace: str) -> None:
    def columns(*options: str) -> dict[str, str]:
        head, row = installed.kubectl("get", "g2j", "-n", namespace, *options).splitlines()
        starts = [head.index(name) for name in head.split()]
        return {name: row[start:].split("  ")[0].strip() for name, start in zip(head.split(), starts, strict=True)}

    seen = columns()
    assert seen.pop("AGE")
    assert seen == {
        "NAME": "job",
        "PHASE": "Running",
        "ITER": "40/300",
        "REWARD": "0.4321",
        "BEST": "0.5",
        "Δ": "0.1234",
        "RESTARTS": "1",
        "GPU-H": "0.13",
    }
    wide = columns("-o", "wide")
    assert (wide["HELD-OUT"], wide["ATTEMPT"], wide["MESSAGE"]) == ("0.25", "2", "iterations come in")


def test_jobs_are_found_by_phase_and_by_category(running: str, installed: Cluster, namespace: str) -> None:
    def names(*what: str) -> str:
        return installed.kubectl("get", *what, "-n", namespace, "-o", "name").strip()

    assert names("g2j", "--field-selector", "status.phase=Running") == f"g2rpojob.{GROUP}/job"
    assert names("g2j", "--field-selector", "status.phase=Failed") == ""
    assert names("g2rpo") == names("ml") == f"g2rpojob.{GROUP}/job"


@pytest.mark.parametrize(
    "broken",
    [
        {"phase": "Sleeping"},
        {"attempt": -1},
        {"conditions": [*STATUS["conditions"], *STATUS["conditions"]]},
        {"progress": {"step": "1/2"}},
        {"startTime": "yesterday"},
    ],
    ids=json.dumps,
)
def test_what_no_operator_writes_is_refused(broken: dict[str, Any], running: str, installed: Cluster) -> None:
    job = installed.api.get(running)
    (key,) = broken
    with pytest.raises(ApiError, match=rf"status\.{key}"):
        installed.api.request("PUT", f"{running}/status", {**job, "status": {**job["status"], **broken}})


def test_people_cannot_write_a_status_with_the_job(running: str, installed: Cluster) -> None:
    changed = installed.api.merge(running, {"status": {"phase": "Succeeded"}, "spec": {"image": "a"}})
    assert (changed["status"]["phase"], changed["spec"]["image"]) == ("Running", "a")


def test_kubectl_explains_every_key(installed: Cluster) -> None:
    told = installed.kubectl("explain", "g2j.spec.training.algorithm.g2rpo.granularities")
    assert "Strides at which every branch is finished" in " ".join(told.split())
