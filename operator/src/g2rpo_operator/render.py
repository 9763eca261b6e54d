"""A job and the number of an attempt → the manifests of its ConfigMap, headless Service and Indexed Job. Pure.

Who calls this: `reconcile.py`, for the parts that a decision wants created.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from g2rpo_api import contract
from g2rpo_api.job import G2RPOJob, WorkersSpec
from g2rpo_operator.world import Owner, View

INDEX_FIELD = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
LINGER_INTERVALS = 2
"""Progress intervals that a finished first rank waits for its last numbers to be fetched."""
TMP_DIR = "/tmp"
STOP_TEXT = "spec.stop is true"
"""Content of the trainer's stop file."""

Manifest = dict[str, Any]


def attempt_name(job: str, attempt: int) -> str:
    """Name of the Job and ConfigMap of an attempt."""
    return f"{job}-a{attempt}"


def curve_name(job: str) -> str:
    """Name of the ConfigMap that keeps a job's reward curve."""
    return f"{job}-curve"


def first_pod_address(job: str, attempt: int) -> str:
    """Name in the cluster's DNS of the pod at which all ranks meet."""
    return f"{attempt_name(job, attempt)}-0.{job}"


def labels(owner: Owner, attempt: int = 0) -> dict[str, str]:
    """What marks an object as belonging to a job, and to an attempt where it does."""
    marks = {
        "app.kubernetes.io/name": contract.TRAINER,
        "app.kubernetes.io/instance": owner.name,
        "app.kubernetes.io/managed-by": contract.MANAGER,
        contract.LABEL_JOB: owner.name,
        contract.LABEL_JOB_UID: owner.uid,
    }
    return marks | ({contract.LABEL_ATTEMPT: str(attempt)} if attempt else {})


def _metadata(owner: Owner, name: str, attempt: int = 0) -> Manifest:
    reference = {
        "apiVersion": contract.API_VERSION,
        "kind": contract.KIND,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": labels(owner, attempt),
        "ownerReferences": [reference],
    }


def spec_digest(job: G2RPOJob) -> str:
    """SHA-256 of spec.training with every default spelt out, hexadecimal, 16 digits."""
    training = json.dumps(job.spec.training.model_dump(mode="json", by_alias=True), sort_keys=True)
    return hashlib.sha256(training.encode()).hexdigest()[:16]


def config_map(view: View) -> Manifest:
    """The job as the trainer reads it: training, and how many ranks there are."""
    workers = {"nodes": view.job.spec.workers.nodes, "processesPerNode": view.job.spec.workers.processes_per_node}
    document = {
        "apiVersion": contract.API_VERSION,
        "kind": contract.KIND,
        "metadata": {"name": view.job.metadata.name, "namespace": view.job.metadata.namespace},
        "spec": {"workers": workers, "training": view.job.spec.training.model_dump(mode="json", by_alias=True)},
    }
    number = view.attempt.number
    stop = {contract.CONFIG_STOP: STOP_TEXT} if view.job.spec.stop else {}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(view.owner, attempt_name(view.job.metadata.name, number), number),
        "data": {contract.CONFIG_JOB: json.dumps(document, indent=1), **stop},
    }


def curve_config_map(owner: Owner, data: Mapping[str, str]) -> Manifest:
    """The whole reward curve, which outlives the pods."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(owner, curve_name(owner.name)),
        "data": dict(data),
    }


def service(view: View) -> Manifest:
    """Headless Service that gives every pod a stable name before it is ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(view.owner, view.job.metadata.name),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {contract.LABEL_JOB_UID: view.uid},
            "ports": [
                {"name": contract.PORT_NAME, "port": contract.DEFAULT_PORT},
                {"name": "rendezvous", "port": contract.MASTER_PORT},
            ],
        },
    }


def child_job(view: View, progress_interval_seconds: float) -> Manifest:
    """Indexed Job with one pod per node.

    It never starts a pod again, since a lone new rank would hang the others. A failed index does not make it delete the
    pods of the others, as `backoffLimit` would: the rank that failed first need not be in the pod that ends first, and
    its log would be gone with its pod.
    """
    nodes, number = view.job.spec.workers.nodes, view.attempt.number
    metadata = _metadata(view.owner, attempt_name(view.job.metadata.name, number), number)
    queue = view.job.metadata.labels.get(contract.LABEL_QUEUE)
    if queue:
        metadata["labels"][contract.LABEL_QUEUE] = queue
    spec = {
        "completionMode": "Indexed",
        "completions": nodes,
        "parallelism": nodes,
        "backoffLimitPerIndex": 0,
        "podReplacementPolicy": "Failed",
        "template": {
            "metadata": _pod_metadata(view, number),
            "spec": pod_spec(view, LINGER_INTERVALS * progress_interval_seconds),
        },
    }
    if queue:
        spec["suspend"] = True  # Kueue takes it from here
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _pod_metadata(view: View, attempt: int) -> Manifest:
    workers = view.job.spec.workers
    metadata: Manifest = {"labels": {**workers.labels, **labels(view.owner, attempt)}}
    annotations = {"kubectl.kubernetes.io/default-container": contract.CONTAINER, **workers.annotations}
    return {**metadata, "annotations": annotations}


def pod_spec(view: View, linger_seconds: float) -> Manifest:
    """Pod that meets the restricted Pod Security Standard, holds no API token and needs no ssh."""
    workers, policy = view.job.spec.workers, view.job.spec.policy
    user = workers.security
    spec: Manifest = {
        "restartPolicy": "Never",
        "subdomain": view.job.metadata.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": policy.termination_grace_period_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user.run_as_user,
            "runAsGroup": user.run_as_group,
            "seccompProfile": {"type": "RuntimeDefault"},
            **({"fsGroup": user.fs_group, "fsGroupChangePolicy": "OnRootMismatch"} if user.fs_group else {}),
        },
        "containers": [container(view, linger_seconds)],
        "volumes": volumes(view.job, view.attempt.number),
    }
    return spec | _placement(workers)


def _placement(workers: WorkersSpec) -> Manifest:
    """Where the pods may run, as far as the job says."""
    wishes = {
        "nodeSelector": workers.node_selector,
        "tolerations": [_plain(toleration) for toleration in workers.tolerations],
        "affinity": workers.affinity,
        "priorityClassName": workers.priority_class_name,
        "runtimeClassName": workers.runtime_class_name,
        "schedulerName": workers.scheduler_name,
        "serviceAccountName": workers.service_account_name,
        "imagePullSecrets": [_plain(secret) for secret in workers.image_pull_secrets],
    }
    return {key: wish for key, wish in wishes.items() if wish}


def container(view: View, linger_seconds: float) -> Manifest:
    """The trainer."""
    workers = view.job.spec.workers
    return {
        "name": contract.CONTAINER,
        "image": view.image,
        "imagePullPolicy": view.job.spec.image_pull_policy,
        "command": ["g2rpo-train"],
        "args": [f"{contract.CONFIG_DIR}/{contract.CONFIG_JOB}"],
        "env": [*environment(view, linger_seconds), *(_plain(variable) for variable in workers.env)],
        "ports": [{"name": contract.PORT_NAME, "containerPort": contract.DEFAULT_PORT}],
        "resources": resources(workers),
        "terminationMessagePath": contract.TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], **({"add": ["IPC_LOCK"]} if workers.rdma else {})},
        },
        "volumeMounts": mounts(view.job),
    }


def resources(workers: WorkersSpec) -> Manifest:
    """Requests and limits, with an accelerator for every process."""
    devices = {}
    if workers.resource_name:
        devices[workers.resource_name] = str(workers.processes_per_node)
    if workers.rdma:
        devices[workers.rdma.resource_name] = str(workers.rdma.count)
    wanted = {"requests": dict(workers.resources.requests), "limits": {**workers.resources.limits, **devices}}
    return {key: amounts for key, amounts in wanted.items() if amounts}


def environment(view: View, linger_seconds: float) -> list[Manifest]:
    """What tells a process its place among the others, in our names and in torchrun's."""
    name, number, workers = view.job.metadata.name, view.attempt.number, view.job.spec.workers
    place = {
        contract.ENV_NODES: str(workers.nodes),
        contract.ENV_ATTEMPT: str(number),
        contract.ENV_RUNS_DIR: contract.RUNS_DIR,
        contract.ENV_PORT: str(contract.DEFAULT_PORT),
        contract.ENV_STOP_FILE: f"{contract.CONFIG_DIR}/{contract.CONFIG_STOP}",
        contract.ENV_TERMINATION_LOG: contract.TERMINATION_LOG,
        contract.ENV_LINGER_SECONDS: f"{linger_seconds:g}",
        "MASTER_ADDR": first_pod_address(name, number),
        "MASTER_PORT": str(contract.MASTER_PORT),
        "PET_NNODES": str(workers.nodes),
        "PET_NPROC_PER_NODE": str(workers.processes_per_node),
        "PET_MASTER_ADDR": first_pod_address(name, number),
        "PET_MASTER_PORT": str(contract.MASTER_PORT),
        "HOME": TMP_DIR,
        "HF_HOME": f"{contract.CACHE_DIR}/huggingface",
        "TORCH_EXTENSIONS_DIR": f"{contract.CACHE_DIR}/torch_extensions",
        "TORCHINDUCTOR_CACHE_DIR": f"{contract.CACHE_DIR}/inductor",
        "TRITON_CACHE_DIR": f"{contract.CACHE_DIR}/triton",
        "MPLCONFIGDIR": f"{contract.CACHE_DIR}/matplotlib",
    }
    index = {"fieldRef": {"fieldPath": INDEX_FIELD}}
    ranks = [{"name": key, "valueFrom": index} for key in (contract.ENV_NODE_RANK, "PET_NODE_RANK")]
    theirs = {variable.name for variable in workers.env}
    return [*ranks, *({"name": key, "value": value} for key, value in place.items() if key not in theirs)]


def volumes(job: G2RPOJob, attempt: int) -> list[Manifest]:
    """The operator's volumes and the job's own."""
    runs = _plain(job.spec.storage.runs)
    runs.pop("subPath", None)
    memory = job.spec.workers.shared_memory
    return [
        {"name": "g2rpo-config", "configMap": {"name": attempt_name(job.metadata.name, attempt)}},
        {"name": "g2rpo-runs", **(runs or {"emptyDir": {}})},
        {"name": "g2rpo-cache", "emptyDir": {}},
        {"name": "g2rpo-tmp", "emptyDir": {}},
        {"name": "g2rpo-shm", "emptyDir": {"medium": "Memory", **({"sizeLimit": memory} if memory else {})}},
        *(_plain(volume) for volume in job.spec.workers.volumes),
    ]


def mounts(job: G2RPOJob) -> list[Manifest]:
    """Where the volumes appear. The whole configuration folder is mounted, so that the stop file can appear in it."""
    inside = job.spec.storage.runs.sub_path
    return [
        {"name": "g2rpo-config", "mountPath": contract.CONFIG_DIR, "readOnly": True},
        {"name": "g2rpo-runs", "mountPath": contract.RUNS_DIR, **({"subPath": inside} if inside else {})},
        {"name": "g2rpo-cache", "mountPath": contract.CACHE_DIR},
        {"name": "g2rpo-tmp", "mountPath": TMP_DIR},
        {"name": "g2rpo-shm", "mountPath": "/dev/shm"},
        *(_plain(mount) for mount in job.spec.workers.volume_mounts),
    ]


def _plain(model: Any) -> Manifest:
    """A model of Kubernetes' own shape as it stands in a manifest."""
    return dict(model.model_dump(mode="json", by_alias=True, exclude_none=True))
