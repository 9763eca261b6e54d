"""Manifests as a real API server judges them: a dry run that refuses every field it does not know."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from g2rpo_operator import render
from g2rpo_operator.world import Attempt, View
from testcluster.api import ApiError
from testcluster.cluster import Cluster
from testoperator.podsecurity import SPOILERS, Spoiler
from testoperator.records import job, view
from testoperator.workers import EVERYTHING, LONGEST

Manifest = dict[str, Any]

STRICT = "dryRun=All&fieldValidation=Strict"
MANY = {"prompts": {"path": "prompts.txt", "perIteration": 1024}}
JOBS: dict[str, Manifest] = {
    "plain": {},
    "every field": {"workers": EVERYTHING, "storage": {"runs": {"persistentVolumeClaim": {"claimName": "runs"}}}},
    "stopped": {"stop": True},
    "queued": {"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "gold"}}},
    "widest": {"metadata": {"name": LONGEST}, "workers": {"nodes": 1024}, "training": MANY},
    "runs on NFS": {"storage": {"runs": {"nfs": {"server": "nfs.example", "path": "/runs"}, "subPath": "team"}}},
    "runs on the node": {"storage": {"runs": {"hostPath": {"path": "/mnt/runs"}}}},
    "runs in memory": {"storage": {"runs": {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}}},
}


def seen(namespace: str, metadata: Manifest | None = None, **spec: Any) -> View:
    """A late attempt of a job in this namespace."""
    return view(job({"namespace": namespace, **(metadata or {})}, **copy.deepcopy(spec)), attempt=Attempt(99999))


def dry_run(cluster: Cluster, manifest: Manifest) -> Manifest:
    """What the API server would store."""
    group = "api/v1" if manifest["apiVersion"] == "v1" else f"apis/{manifest['apiVersion']}"
    path = f"/{group}/namespaces/{manifest['metadata']['namespace']}/{manifest['kind'].lower()}s"
    return cluster.api.create(f"{path}?{STRICT}", manifest)


def assert_within(asked: Any, stored: Any, path: str = "") -> None:
    """The API server added to it, and neither dropped nor changed a thing."""
    if isinstance(asked, dict):
        for key, value in asked.items():
            assert_within(value, stored.get(key), f"{path}.{key}")
    elif isinstance(asked, list):
        assert len(asked) == len(stored), path
        for index, (wanted, kept) in enumerate(zip(asked, stored, strict=True)):
            assert_within(wanted, kept, f"{path}[{index}]")
    else:
        assert stored == asked or (asked in (False, "", 0) and stored is None), path


@pytest.mark.parametrize("kind", JOBS)
def test_the_api_server_takes_every_manifest_as_it_is(cluster: Cluster, namespace: str, kind: str) -> None:
    about = seen(namespace, **JOBS[kind])
    curve = render.curve_config_map(about.owner, {"curve.csv": "iteration,reward\n"})
    for manifest in (render.config_map(about), render.service(about), render.child_job(about, 15), curve):
        assert_within(json.loads(json.dumps(manifest)), dry_run(cluster, manifest))


def test_a_field_that_kubernetes_does_not_know_would_be_noticed(cluster: Cluster, namespace: str) -> None:
    manifest = render.child_job(seen(namespace), 15)
    manifest["spec"]["template"]["spec"]["enableServiceLink"] = False
    with pytest.raises(ApiError, match="enableServiceLink"):
        dry_run(cluster, manifest)


def pod_of(namespace: str, **spec: Any) -> Manifest:
    """A pod such as the Job controller makes."""
    template = render.child_job(seen(namespace, **spec), 15)["spec"]["template"]
    metadata = {**template["metadata"], "name": "pod", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copy.deepcopy(template["spec"])}


@pytest.fixture
def restricted(cluster: Cluster, namespace: str) -> str:
    """A namespace that takes only pods of the restricted standard."""
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.api.merge(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": label}})
    return namespace


def test_a_namespace_of_the_restricted_standard_takes_the_pods(cluster: Cluster, restricted: str) -> None:
    dry_run(cluster, pod_of(restricted))
    dry_run(cluster, pod_of(restricted, workers={"env": EVERYTHING["env"], "security": EVERYTHING["security"]}))


def test_a_fast_network_needs_a_namespace_of_a_weaker_standard(cluster: Cluster, restricted: str) -> None:
    with pytest.raises(ApiError, match="IPC_LOCK"):
        dry_run(cluster, pod_of(restricted, workers={"rdma": EVERYTHING["rdma"]}))


@pytest.mark.parametrize(("spoil", "violation"), SPOILERS, ids=[violation for _, violation in SPOILERS])
def test_the_api_server_refuses_what_our_reading_of_the_standard_refuses(
    cluster: Cluster, restricted: str, spoil: Spoiler, violation: str
) -> None:
    pod = pod_of(restricted)
    spoil(pod["spec"])
    with pytest.raises(ApiError) as refused:
        dry_run(cluster, pod)
    assert refused.value.code == 422 or "PodSecurity" in str(refused.value), violation
