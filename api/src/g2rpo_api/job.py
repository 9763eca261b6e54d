"""The G2RPOJob: one YAML that a cluster gets and that `g2rpo-train` runs without one.

Who calls this: `parse.py`, the operator and the trainer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from g2rpo_api.base import WHOLE, Count, Items, Model, Positive, spelled
from g2rpo_api.notation import LABEL_KEY, ExtendedResource, Labels, ObjectName, Quantity, Texts
from g2rpo_api.pods import Env, LocalObject, RDMASpec, ResourcesSpec, SecurityContext, Tolerations
from g2rpo_api.rules import Fault, Rule, Spelling
from g2rpo_api.training import TrainingSpec
from g2rpo_api.volumes import RunsVolume, VolumeMounts, Volumes

NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
MAX_NAME = 48
"""Longest job name: attempts, pods and services add their suffixes and stay within 63 characters."""


class Metadata(Model):
    """The part of Kubernetes' ObjectMeta that matters here; the API server's other keys are let pass."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, spelled(NAME, MAX_NAME, "lower-case letters and digits, - inside, a letter first")]
    """Name of the job, and of its run folder."""
    namespace: str | None = None
    """Namespace on a cluster."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels, for selecting."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations, for tools."""


def _own_resource_rule(part: str) -> Rule:
    amounts = f"self.resources.{part}"
    return Rule(
        f"!has(self.resourceName) || !has(self.resources) || !has({amounts}) || !(self.resourceName in {amounts})",
        "must not name resourceName; remove it: every process gets one; processesPerNode says how many",
        f".resources.{part}",
        "FieldValueForbidden",
    )


class WorkersSpec(Model):
    """The processes that train together; one process is one rank. Without a cluster only the first two count.

    Can be changed while the job is suspended; the next attempt runs on the new ones.
    """

    nodes: Annotated[int, Field(ge=1, le=1024), WHOLE] = 1
    """Machines, one pod each on a cluster."""
    processes_per_node: Annotated[int, Field(ge=1, le=64), WHOLE] = 1
    """Training processes on each machine: one per GPU, or one per two cores or so on a CPU."""
    resource_name: ExtendedResource | None = None
    """Extended resource of which every process gets one: nvidia.com/gpu, nvidia.com/mig-3g.40gb, amd.com/gpu.
    Empty trains on CPUs."""
    resources: ResourcesSpec = ResourcesSpec()
    """Processors and memory of each pod."""
    shared_memory: Quantity | None = None
    """Size of /dev/shm, which ranks of a pod and data loaders share. Empty allows as much as the memory limit."""
    rdma: RDMASpec | None = None
    """Fast network between the nodes, where the cluster has one; adds the capability IPC_LOCK."""
    node_selector: Labels = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: Tolerations = ()
    """Taints that the pods put up with."""
    affinity: dict[str, Any] = Field(default_factory=dict)
    """Kubernetes' affinity, passed on as it is."""
    priority_class_name: ObjectName | None = None
    """Priority of the pods: who may preempt whom."""
    runtime_class_name: ObjectName | None = None
    """Container runtime, where GPUs need their own."""
    scheduler_name: ObjectName | None = None
    """Scheduler, where the default one is not meant."""
    service_account_name: ObjectName | None = None
    """Service account of the pods, for image pull secrets and pod identity; its token is not mounted."""
    image_pull_secrets: Annotated[Items[LocalObject], Field(max_length=16)] = ()
    """Secrets with credentials of the image's registry."""
    security: SecurityContext = SecurityContext()
    """User and groups of the trainer."""
    env: Env = ()
    """Environment variables of the trainer: credentials of hubs and trackers by Secret, NCCL settings."""
    volumes: Volumes = ()
    """Further volumes: model weights, prompts."""
    volume_mounts: VolumeMounts = ()
    """Where they are mounted."""
    labels: Labels = Field(default_factory=dict)
    """Further labels of the pods."""
    annotations: Texts = Field(default_factory=dict)
    """Further annotations of the pods: secondary networks, sidecar injection off."""

    unique: ClassVar[dict[str, str]] = {"volumes": "name", "volume_mounts": "mount_path", "env": "name"}
    free_keys: ClassVar[dict[str, Spelling]] = dict.fromkeys(("node_selector", "labels", "annotations"), LABEL_KEY)
    rules: ClassVar[tuple[Rule, ...]] = (
        *(_own_resource_rule(part) for part in ("requests", "limits")),
        Rule(
            "!has(self.volumeMounts) || self.volumeMounts.all(mount, has(self.volumes) && "
            "self.volumes.exists(volume, volume.name == mount.name))",
            "must name volumes in workers.volumes; add the volume, or mend the name",
            ".volumeMounts",
        ),
    )

    @property
    def ranks(self) -> int:
        """Processes in all, the world size."""
        return self.nodes * self.processes_per_node

    def faults(self) -> Iterator[Fault]:
        """Accelerators counted twice, mounts of volumes that are not there."""
        for part, amounts in (("requests", self.resources.requests), ("limits", self.resources.limits)):
            if self.resource_name in amounts:
                hint = "remove it: every process gets one; processesPerNode says how many"
                yield Fault(("resources", part, self.resource_name), "an amount", "absent: it is resourceName", hint)
        names = [volume.name for volume in self.volumes]
        for index, mount in enumerate(self.volume_mounts):
            if mount.name not in names:
                allowed = f"the name of one of workers.volumes ({', '.join(names) or 'there are none'})"
                yield Fault(("volumeMounts", index, "name"), mount.name, allowed, "add the volume, or mend the name")


class StorageSpec(Model):
    """Where a run is kept. Without a cluster it is the folder that --runs names."""

    runs: RunsVolume = RunsVolume()
    """Volume of the run folders: checkpoints, curves, reports, exported weights."""


class PolicySpec(Model):
    """How long a job may take, and how often it may be tried again."""

    max_restarts: Annotated[int, Field(ge=0, le=1000), WHOLE] = 3
    """Restarts after a fault of the job's own (a crash, a hang, memory exhausted) before it counts as failed."""
    max_disruptions: Annotated[int, Field(ge=0, le=10000), WHOLE] = 20
    """Restarts after a disruption from outside (preemption, eviction, a lost node) before it counts as failed."""
    restart_backoff_seconds: Annotated[int, Field(ge=0, le=3600), WHOLE] = 10
    """Pause before the first restart after a fault; it doubles with each further one, up to 10 minutes or this."""
    active_deadline_seconds: Positive | None = None
    """Longest time from the first attempt on, suspended time not counted; no limit when empty. The job then ends
    as Failed; its checkpoints stay."""
    start_timeout_seconds: Positive | None = 1800
    """Longest time from all pods being scheduled to all running: pulling images, mounting volumes. Waiting for
    room in the cluster does not count. The job then ends as Failed; no limit when null."""
    progress_timeout_seconds: Positive | None = 1800
    """Longest silence of running ranks: without a new iteration, evaluation or checkpoint for so long they count as
    hung and are restarted. Several times the longest iteration; no limit when null."""
    ttl_seconds_after_finished: Count | None = None
    """When a finished job is deleted with everything in the cluster that belongs to it; never when empty. Run
    folders stay."""
    termination_grace_period_seconds: Annotated[int, Field(ge=1, le=86400), WHOLE] = 300
    """Time that a pod gets to save a checkpoint when it must go."""
    keep_failed_attempts: Annotated[int, Field(ge=0, le=10), WHOLE] = 2
    """Failed attempts whose pods, and so their logs, are kept for inspection."""


class JobSpec(Model):
    """What to train, and on how many processes."""

    image: Annotated[str, spelled(r"^[^ \t\n\f\r]+$", 512, "no spaces")] | None = None
    """Trainer image; the operator's default when empty. A change takes effect at the next attempt."""
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When the image is pulled."""
    suspend: bool = False
    """True stops the pods after a checkpoint and frees their GPUs; false goes on from there."""
    stop: bool = False
    """True ends training early, for good: checkpoint, evaluation, export, then Succeeded."""
    workers: WorkersSpec = WorkersSpec()
    """The processes that train together."""
    storage: StorageSpec = StorageSpec()
    """Where the run is kept. Cannot be changed."""
    policy: PolicySpec = PolicySpec()
    """How long the job may take, and how often it may be tried again."""
    training: TrainingSpec
    """What is trained, on what, by which rules. Cannot be changed: a different training is a different job."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.training.prompts.perIteration % (self.workers.nodes * self.workers.processesPerNode) == 0",
            "must be a multiple of workers.nodes x workers.processesPerNode: every rank gets the same number of "
            "prompts; change it, or the workers",
            ".training.prompts.perIteration",
        ),
        Rule(
            "self.stop || !oldSelf.stop",
            "cannot be taken back: a job that was stopped ends; create another job",
            ".stop",
            "FieldValueForbidden",
        ),
    )

    def faults(self) -> Iterator[Fault]:
        """Ranks that would get unequal numbers of prompts."""
        ranks, prompts = self.workers.ranks, self.training.prompts.per_iteration
        if prompts % ranks:
            workers = (
                f"workers.nodes x workers.processesPerNode = {self.workers.nodes} x {self.workers.processes_per_node}"
            )
            nearest = max(1, round(prompts / ranks)) * ranks
            hint = f"every rank gets the same number of prompts: set it to {nearest}, or change the workers"
            allowed = f"a multiple of {ranks}, the number of ranks ({workers})"
            yield Fault(("training", "prompts", "perIteration"), prompts, allowed, hint)


STATUS_WRITTEN = "self.?status.usage.time != oldSelf.?status.usage.time"
"""A status is written without the spec, and a spec without the status. Comparing whole specs is about a fifth of what a
write of a status costs the API server, and the operator writes most of those."""


FIXED = {
    "training": "cannot be changed: a different training is a different job; create one under another name",
    "storage": "cannot be changed: the checkpoints are there; create another job",
}
"""Parts of the spec that stay as they were created, and what is said to who changes them."""


def unchanged(part: str, otherwise: str, unless: str = "") -> Rule:
    """A part of the spec that stays as it is, but for jobs of which `unless` is true."""
    same = f"{STATUS_WRITTEN} || {unless}self.spec.{part} == oldSelf.spec.{part}"
    return Rule(same, otherwise, f".spec.{part}", "FieldValueForbidden")


class G2RPOJob(Model):
    """A training run of a flow-matching image model against rewards."""

    api_version: Literal["g2rpo.dev/v1alpha1"]
    """Version of this definition."""
    kind: Literal["G2RPOJob"]
    """Kind of object."""
    metadata: Metadata
    """Name and labels."""
    spec: JobSpec
    """What to train, and on how many processes."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *(unchanged(part, otherwise) for part, otherwise in FIXED.items()),
        unchanged(
            "workers",
            "can be changed only while the job is suspended; set suspend: true first",
            unless="oldSelf.spec.suspend || ",
        ),
    )
