"""A small honest model of Kubernetes: objects, the Job controller, garbage collection, kubelets, lost nodes.

Each method is one event; whether an event can happen now is asked with the lists of pods. What it leaves out: the
order in which watches deliver, and everything that a job of ours does not use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from g2rpo_operator.observe import INDEX_ANNOTATION, child_job_of, part_of, pod_of
from g2rpo_operator.world import Children, Target
from testoperator.records import START

Manifest = dict[str, Any]


def written(moment: datetime) -> str:
    return moment.replace(tzinfo=None, microsecond=0).isoformat() + "Z"


@dataclass
class Pod:
    """A pod as the API server keeps it."""

    name: str
    uid: str
    job: str
    """uid of its Job."""
    template: Manifest
    index: int
    phase: str = "Pending"
    node: str = ""
    exit_code: int | None = None
    ended: str = ""
    leaves: str = ""
    """deletionTimestamp."""
    disruption: str = ""
    reason: str = ""
    tracked: bool = True
    """Whether the Job controller has still to count it."""
    orphan: bool = False
    """Whether its Job was deleted without it."""

    @property
    def over(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    @property
    def attempt(self) -> int:
        return int(self.template["metadata"]["labels"]["g2rpo.dev/attempt"])

    def manifest(self) -> Manifest:
        """What the API server tells of it."""
        metadata = {"name": self.name, "uid": self.uid, "namespace": "team", **self.template["metadata"]}
        metadata["annotations"] = {**metadata.get("annotations", {}), INDEX_ANNOTATION: str(self.index)}
        metadata["ownerReferences"] = [{"kind": "Job", "uid": self.job}]
        metadata["ownerReferences"] = [] if self.orphan else [{"kind": "Job", "uid": self.job}]
        if self.leaves:
            metadata["deletionTimestamp"] = self.leaves
        state: Manifest = {"running": {}} if self.phase == "Running" else {}
        if self.exit_code is not None:
            state = {"terminated": {"exitCode": self.exit_code, "finishedAt": self.ended}}
        targets = [{"type": "DisruptionTarget", "status": "True", "reason": self.disruption}] if self.disruption else []
        status = {"phase": self.phase, "reason": self.reason, "conditions": targets}
        status["containerStatuses"] = [{"name": "trainer", "state": state}]
        return {"metadata": metadata, "spec": {"nodeName": self.node} if self.node else {}, "status": status}


@dataclass
class Job:
    """An Indexed Job as the API server keeps it."""

    uid: str
    created: Manifest
    suspended: bool = False
    condition: str = ""
    """Failed or Complete."""
    succeeded: set[int] = field(default_factory=set)
    """Indexes whose pod ended well, and is counted."""
    failed: set[int] = field(default_factory=set)
    """Indexes whose pod did not; they get no other."""
    deleting: bool = False

    @property
    def over(self) -> bool:
        return self.condition in ("Failed", "Complete")

    @property
    def nodes(self) -> int:
        found: int = self.created["spec"]["completions"]
        return found

    def manifest(self) -> Manifest:
        """What the API server tells of it."""
        metadata = {**self.created["metadata"], "uid": self.uid}
        if self.deleting:
            metadata["deletionTimestamp"] = written(START)
        told = [self.condition, "FailureTarget"] if self.condition == "Failed" else [self.condition]
        conditions = [{"type": each, "status": "True", "message": "FailedIndexes"} for each in told if each]
        status = {"conditions": conditions, "failed": len(self.failed)}
        return {"metadata": metadata, "spec": {"suspend": self.suspended}, "status": status}


@dataclass
class Kubernetes:
    """The objects of one G2RPOJob, but for itself."""

    now: datetime = START + timedelta(milliseconds=500)
    jobs: dict[str, Job] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    parts: dict[str, Manifest] = field(default_factory=dict)
    """ConfigMaps and Services."""
    lost: set[str] = field(default_factory=set)
    """Nodes that do not answer."""
    _numbers: count[int] = field(default_factory=count)

    # what the operator does

    def children(self) -> Children:
        """Everything, as the operator's store would hand it out."""
        parts = {
            kind: [part_of(m) for m in self.parts.values() if m["kind"] == kind] for kind in ("ConfigMap", "Service")
        }
        return Children(
            tuple(child_job_of(job.manifest()) for job in self.jobs.values()),
            tuple(pod_of(pod.manifest()) for pod in self.pods.values()),
            tuple(parts["ConfigMap"]),
            tuple(parts["Service"]),
        )

    def create(self, manifest: Manifest) -> bool:
        """Create an object; False when the name is taken."""
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        uid = f"{kind}-{name}-{next(self._numbers)}"
        if kind == "Job":
            if any(job.created["metadata"]["name"] == name for job in self.jobs.values()):
                return False
            self.jobs[uid] = Job(uid, manifest, suspended=manifest["spec"].get("suspend", False))
            return True
        if any((m["kind"], m["metadata"]["name"]) == (kind, name) for m in self.parts.values()):
            return False
        self.parts[uid] = {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}
        return True

    def delete(self, target: Target) -> None:
        """Delete an object in the background; a pod that is forced goes at once."""
        self.jobs.pop(target.uid, None)
        self.parts.pop(target.uid, None)
        pod = self.pods.get(target.uid)
        if pod is not None and target.force:
            del self.pods[target.uid]
        elif pod is not None:
            failed = {other.job for other in self.pods.values() if other.phase == "Failed"}
            assert pod.orphan or pod.job in failed, "pods go with their Job, unless that is kept to be looked at"
            self.send_away(pod)

    def delete_alone(self, job: Job) -> None:
        """Delete a Job without its pods, as `kubectl delete --cascade=orphan` does."""
        del self.jobs[job.uid]
        for pod in self.pods.values():
            if pod.job == job.uid:
                pod.orphan, pod.tracked = True, False

    # controllers

    def control_jobs(self) -> None:
        """One pass of the Job controller over every Job."""
        for job in self.jobs.values():
            pods = [pod for pod in self.pods.values() if pod.job == job.uid]
            if job.over:
                self._count(pods)
            elif job.deleting:
                self._count(pods)
                for pod in pods:
                    self.send_away(pod)
            elif job.suspended:
                self._stop(pods)
                self._count([pod for pod in pods if not pod.over])  # these never count as failed
            else:
                self._drive(job, pods)

    def _drive(self, job: Job, pods: list[Pod]) -> None:
        ended = [pod for pod in pods if pod.over and pod.tracked]
        job.succeeded |= {pod.index for pod in ended if pod.phase == "Succeeded"}
        job.failed |= {pod.index for pod in ended if pod.phase == "Failed"}
        self._count(ended)
        left = set(range(job.nodes)) - job.succeeded - job.failed
        if not left:
            job.condition = "Failed" if job.failed else "Complete"
        for index in sorted(left - {pod.index for pod in pods if not pod.over}):
            self._start_pod(job, index)

    def _start_pod(self, job: Job, index: int) -> None:
        number, name = next(self._numbers), job.created["metadata"]["name"]
        pod = Pod(f"{name}-{index}-{number}", f"pod-{number}", job.uid, job.created["spec"]["template"], index)
        self.pods[pod.uid] = pod

    def _stop(self, pods: list[Pod]) -> None:
        for pod in pods:
            if not pod.over and not pod.leaves:
                self.send_away(pod)

    @staticmethod
    def _count(pods: list[Pod]) -> None:
        for pod in pods:
            pod.tracked = False

    def collect_garbage(self) -> None:
        """Pods of Jobs that are gone go, too; pods that have ended and may go are gone."""
        for uid, pod in list(self.pods.items()):
            forsaken = pod.job not in self.jobs and not pod.orphan
            if forsaken:
                self._stop([pod])
                self._count([pod])
            if pod.over and not pod.tracked and (pod.leaves or forsaken):
                del self.pods[uid]
        for uid, job in list(self.jobs.items()):
            if job.deleting and not any(pod.job == uid for pod in self.pods.values()):
                del self.jobs[uid]

    def give_up_lost_nodes(self) -> None:
        """Pods of nodes that do not answer are deleted; they stay until somebody can tell that they ended."""
        for pod in self.alive():
            if pod.node in self.lost:
                self.send_away(pod, "DeletionByTaintManager")

    # kubelets, the scheduler, and what comes from outside

    def pending(self) -> list[Pod]:
        return [pod for pod in self.pods.values() if pod.phase == "Pending" and not pod.leaves]

    def unplaced(self) -> list[Pod]:
        return [pod for pod in self.pending() if not pod.node]

    def placed(self) -> list[Pod]:
        return [pod for pod in self.pending() if pod.node and pod.node not in self.lost]

    def alive(self) -> list[Pod]:
        return [pod for pod in self.pods.values() if not pod.over]

    def running(self) -> list[Pod]:
        """Pods whose node answers."""
        return [pod for pod in self.pods.values() if pod.phase == "Running" and pod.node not in self.lost]

    def leaving(self) -> list[Pod]:
        return [pod for pod in self.alive() if pod.leaves and pod.node not in self.lost]

    def place(self, pod: Pod) -> None:
        free = [node for node in ("node-0", "node-1", "node-2") if node not in self.lost]
        pod.node = free[pod.index % len(free)]

    def start(self, pod: Pod) -> None:
        pod.phase = "Running"

    def end(self, pod: Pod, exit_code: int | None) -> None:
        """Its container ends; without a code it never ran."""
        pod.phase = "Succeeded" if exit_code == 0 else "Failed"
        pod.exit_code = exit_code
        pod.ended = "" if exit_code is None else written(self.now)

    def send_away(self, pod: Pod, disruption: str = "") -> None:
        """Ask it to end within its grace."""
        grace = pod.template["spec"]["terminationGracePeriodSeconds"]
        pod.leaves = pod.leaves or written(self.now + timedelta(seconds=grace))
        pod.disruption = pod.disruption or disruption

    def evict(self, pod: Pod) -> None:
        """The kubelet ends it for want of a resource."""
        pod.disruption, pod.reason = "TerminationByKubelet", "Evicted"
        self.end(pod, 137 if pod.phase == "Running" else None)
