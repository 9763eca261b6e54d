"""Manifests as the API server sends them → records; the records of one job → its current attempt. Pure.

Who calls this: `store.py` for each manifest that arrives, `reconcile.py` for each look at a job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from g2rpo_api import contract
from g2rpo_operator.world import Attempt, ChildJob, Children, Key, Part, Pod, Summary

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
POD_EVICTED = (
    "Evicted",
    "Preempting",
    "NodeLost",
    "NodeShutdown",
    "Terminated",
    "Shutdown",
    "UnexpectedAdmissionError",
)
"""status.reason of pods that kubelets end without the condition DisruptionTarget."""

Manifest = Mapping[str, Any]


def owner_of(manifest: Manifest) -> tuple[Key, str] | None:
    """The job that an object belongs to and that job's uid, as its labels say; None for strangers."""
    metadata = manifest["metadata"]
    labels = metadata.get("labels") or {}
    if contract.LABEL_JOB not in labels or contract.LABEL_JOB_UID not in labels:
        return None
    return (metadata["namespace"], labels[contract.LABEL_JOB]), labels[contract.LABEL_JOB_UID]


def attempt_of(manifest: Manifest) -> int:
    """Number of the attempt that an object belongs to; 0 for what all attempts share."""
    label = (manifest["metadata"].get("labels") or {}).get(contract.LABEL_ATTEMPT, "0")
    return int(label) if label.isdigit() else 0


def pod_of(manifest: Manifest) -> Pod:
    """Record of a pod."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    state, scheduled = _container_state(status), conditions.get("PodScheduled", {})
    waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
    index = (metadata.get("annotations") or {}).get(INDEX_ANNOTATION, "")
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        attempt=attempt_of(manifest),
        index=int(index) if index.isdecimal() else 0,  # anyone may write it who may create pods
        phase=status.get("phase", "Pending"),
        node=manifest["spec"].get("nodeName", ""),
        ip=status.get("podIP", ""),
        scheduled=bool(manifest["spec"].get("nodeName")),
        scheduled_at=(scheduled.get("lastTransitionTime") or "") if scheduled.get("status") == "True" else "",
        unschedulable=_unschedulable(scheduled),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=terminated.get("exitCode"),
        terminated_reason=terminated.get("reason", ""),
        finished_at=terminated.get("finishedAt") or "",
        last_word=terminated.get("message", ""),
        disruption=_disruption(conditions.get("DisruptionTarget", {}), status),
        deletion_time=metadata.get("deletionTimestamp", ""),
        message=status.get("message", ""),
        job_uid=next((owner["uid"] for owner in metadata.get("ownerReferences") or () if owner["kind"] == "Job"), ""),
    )


def _container_state(status: Manifest) -> Manifest:
    """State of the trainer's container; containers that others injected do not count."""
    for container in status.get("containerStatuses") or ():
        if container["name"] == contract.CONTAINER:
            state: Manifest = container.get("state") or {}
            return state
    return {}


def _unschedulable(condition: Manifest) -> str:
    if condition.get("status") == "False" and condition.get("reason") == "Unschedulable":
        return str(condition.get("message") or "no node fits")
    return ""


def _disruption(condition: Manifest, status: Manifest) -> str:
    if status.get("phase") == "Succeeded":
        return ""  # its work was done before its node was drained
    if condition.get("status") == "True":
        return str(condition.get("reason") or "DisruptionTarget")
    reason = str(status.get("reason", ""))
    return reason if reason in POD_EVICTED else ""


def child_job_of(manifest: Manifest) -> ChildJob:
    """Record of an attempt's Job."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    true = {c["type"]: c for c in status.get("conditions") or () if c.get("status") == "True"}
    telling = true.get("Failed") or true.get("FailureTarget") or {}
    return ChildJob(
        name=metadata["name"],
        uid=metadata["uid"],
        attempt=attempt_of(manifest),
        start_time=status.get("startTime") or "",
        suspended=bool(manifest["spec"].get("suspend")),
        complete="Complete" in true,
        failed="Failed" in true,
        failing=bool(status.get("failed")),
        deleting="deletionTimestamp" in metadata,
        message=telling.get("message", ""),
    )


def part_of(manifest: Manifest) -> Part:
    """Record of a ConfigMap or Service."""
    metadata = manifest["metadata"]
    stop = contract.CONFIG_STOP in (manifest.get("data") or {})
    return Part(metadata["name"], metadata["uid"], attempt_of(manifest), stop)


def summary_of(manifest: Manifest) -> Summary:
    """What metrics tell of a job."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    progress = status.get("progress") or {}
    rewards = progress.get("rewards") or ()
    return Summary(
        namespace=metadata["namespace"],
        name=metadata["name"],
        phase=status.get("phase", "Pending"),
        attempt=status.get("attempt", 0),
        image=status.get("image", ""),
        gpu_seconds=(status.get("usage") or {}).get("gpuSeconds", 0.0),
        iteration=progress.get("iteration"),
        rewards=tuple((entry["name"], entry["role"], entry["mean"]) for entry in rewards if "mean" in entry),
    )


def observe(number: int, children: Children) -> Attempt:
    """The current attempt among everything that belongs to a job.

    Pods of this attempt's number whose Job was deleted and created again are as good as an older attempt's.
    """
    job = next((job for job in children.jobs if job.attempt == number), None)

    def current(pod: Pod) -> bool:
        return pod.attempt == number and (job is None or pod.job_uid == job.uid)

    def counted(pod: Pod) -> bool:
        """A Job that was suspended has begun again without what ended before."""
        return current(pod) and (job is None or pod.finished_at >= job.start_time)

    return Attempt(
        number=number,
        job=job,
        config_map=next((part for part in children.config_maps if part.attempt == number), None),
        service=next((part for part in children.services if part.attempt == 0), None),
        pods=_newest((*(pod for pod in children.parted if counted(pod)), *filter(current, children.pods))),
        older_jobs=tuple(job for job in children.jobs if 0 < job.attempt < number),
        older_pods=tuple(pod for pod in children.pods if pod.attempt <= number and not current(pod)),
        older_config_maps=tuple(part for part in children.config_maps if 0 < part.attempt < number),
        parted=tuple(pod for pod in children.parted if not current(pod)),
    )


def _newest(pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """One pod for each index: the one that still runs, before those it replaced."""
    chosen: dict[int, Pod] = {}
    for pod in sorted(pods, key=lambda pod: (pod.over, bool(pod.deletion_time), pod.name), reverse=True):
        chosen[pod.index] = pod
    return tuple(chosen[index] for index in sorted(chosen))
