"""What the operator knows of the objects that belong to a job: small records in place of whole manifests.

Who calls this: `observe.py` makes them, everything pure reads them. No clock, no API.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from g2rpo_api.job import G2RPOJob
from g2rpo_api.progress import ProgressReport
from g2rpo_api.status import JobStatus, Phase

Key = tuple[str, str]
"""Namespace and name of a job."""
Kind = Literal["G2RPOJob", "Job", "Pod", "Service", "ConfigMap"]
KINDS: tuple[Kind, ...] = ("G2RPOJob", "Job", "Pod", "Service", "ConfigMap")
"""What the operator watches. Jobs come first: what is listed after them is at least as new."""


@dataclass(frozen=True)
class Pod:
    """One pod of an attempt."""

    name: str
    uid: str
    attempt: int
    index: int
    """Completion index, the rank of the node."""
    phase: str
    """Pending, Running, Succeeded, Failed or Unknown."""
    node: str = ""
    ip: str = ""
    scheduled: bool = False
    scheduled_at: str = ""
    """When its node was chosen, as the scheduler says."""
    unschedulable: str = ""
    """The scheduler's complaint; empty when there is none."""
    waiting_reason: str = ""
    """Why the container does not run: ImagePullBackOff, CreateContainerConfigError, …"""
    waiting_message: str = ""
    exit_code: int | None = None
    terminated_reason: str = ""
    """OOMKilled, Error, Completed, …"""
    finished_at: str = ""
    """RFC 3339; empty while the container runs."""
    last_word: str = ""
    """Termination message."""
    disruption: str = ""
    """Why it was disrupted: reason of the condition DisruptionTarget, Evicted, …; empty when it was not."""
    deletion_time: str = ""
    """When its grace is over, once it is being deleted."""
    message: str = ""
    """The kubelet's or a controller's explanation of the phase."""
    job_uid: str = ""
    """Its Job; empty when that was deleted without it, so that nobody else ends it."""

    @property
    def over(self) -> bool:
        """Whether its container will not run again."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def failed(self) -> bool:
        """Whether it ended badly."""
        return self.phase == "Failed"

    @property
    def running(self) -> bool:
        """Whether its container runs and may go on."""
        return self.phase == "Running" and not self.deletion_time


@dataclass(frozen=True)
class ChildJob:
    """The Indexed Job of an attempt."""

    name: str
    uid: str
    attempt: int
    start_time: str = ""
    """When its controller began, or began again after a suspension, to create pods."""
    suspended: bool = False
    complete: bool = False
    failed: bool = False
    """All its pods have ended and one of them badly."""
    failing: bool = False
    """One of its pods has ended badly; those that end because it is suspended do not count."""
    deleting: bool = False
    message: str = ""
    """The Job controller's explanation."""

    @property
    def over(self) -> bool:
        """Whether it starts no further pod."""
        return self.complete or self.failed


@dataclass(frozen=True)
class Part:
    """A ConfigMap or Service of a job."""

    name: str
    uid: str
    attempt: int
    """0 for what all attempts share."""
    stop: bool = False
    """Whether a ConfigMap carries the request to end early."""


@dataclass(frozen=True)
class Children:
    """Every object that belongs to one job, whatever the attempt."""

    jobs: tuple[ChildJob, ...] = ()
    pods: tuple[Pod, ...] = ()
    config_maps: tuple[Part, ...] = ()
    services: tuple[Part, ...] = ()
    parted: tuple[Pod, ...] = ()
    """Pods that had ended before they were deleted, the last one of each index."""


@dataclass(frozen=True)
class Attempt:
    """The objects of the current attempt, and what is left of older ones."""

    number: int
    job: ChildJob | None = None
    config_map: Part | None = None
    service: Part | None = None
    pods: tuple[Pod, ...] = ()
    """Newest pod of each index, by index, even if it is gone, once it had ended; of the current Job only, once there is
    one."""
    older_jobs: tuple[ChildJob, ...] = ()
    older_pods: tuple[Pod, ...] = ()
    older_config_maps: tuple[Part, ...] = ()
    parted: tuple[Pod, ...] = ()
    """Pods of older attempts that had ended before they were deleted."""

    @property
    def failing(self) -> bool:
        """Whether a pod ended badly: the ranks of the others notice, and end."""
        return self.job is not None and self.job.failing

    def shows_failure(self, job: ChildJob) -> bool:
        """Whether there is a pod whose log tells how an attempt failed."""
        failed = job.failed or job.failing
        return failed and any(pod.failed for pod in (*self.pods, *self.older_pods) if pod.job_uid == job.uid)

    @property
    def older_alive(self) -> bool:
        """Whether something of an older attempt still runs, or is about to.

        A Job whose pods are kept may wait for ever to create one more, as for a quota; it would be ended at once.
        """
        begun = any(not job.over and not self.shows_failure(job) for job in self.older_jobs)
        return begun or any(not pod.over for pod in self.older_pods)


@dataclass(frozen=True)
class Owner:
    """The job that objects belong to."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class View:
    """All that a decision is made of."""

    job: G2RPOJob
    uid: str
    generation: int
    status: JobStatus
    attempt: Attempt
    progress: ProgressReport | None
    """The newest report of the current attempt, if one was read."""
    now: datetime
    default_image: str
    progress_error: str = ""
    """Why the newest attempt to read progress failed; empty when it did not."""
    blind: bool = False
    """Whether the operator, of several jobs, can read the progress of none."""
    listening_since: datetime | None = None
    """Since when this operator asks the attempt for its progress."""

    @property
    def owner(self) -> Owner:
        """The job as the owner of its objects."""
        namespace = self.job.metadata.namespace
        assert namespace is not None, "the API server sets it"
        return Owner(namespace, self.job.metadata.name, self.uid)

    @property
    def image(self) -> str:
        """Trainer image of an attempt that begins now."""
        return self.job.spec.image or self.default_image


@dataclass(frozen=True)
class Summary:
    """What metrics tell of a job."""

    namespace: str
    name: str
    phase: Phase
    attempt: int
    image: str
    gpu_seconds: float
    iteration: int | None
    rewards: tuple[tuple[str, str, float], ...]
    """Name, role and mean."""


@dataclass(frozen=True)
class Target:
    """An object to delete, and only if it is still this one."""

    kind: Kind
    name: str
    uid: str
    force: bool = False
    """Without waiting for its node."""


@dataclass(frozen=True)
class Note:
    """A Kubernetes event about a job."""

    reason: str
    message: str
    warning: bool


@dataclass(frozen=True)
class Decision:
    """What one look at a job leads to. The status is written first, then objects change, then notes are posted."""

    status: JobStatus
    create: tuple[Kind, ...] = ()
    """Of ConfigMap, Service, Job: those that are missing, in this order."""
    delete: tuple[Target, ...] = ()
    request_stop: bool = False
    """Whether the attempt's ConfigMap must still get the request to end early."""
    delete_self: bool = False
    """The job's time to live is over."""
    look_again_seconds: float | None = None
    """When time alone may change the decision."""
    rule: str = ""
    """Which rule decided."""
    notes: tuple[Note, ...] = field(default=())


def rfc3339(moment: datetime) -> str:
    """UTC, whole seconds, as Kubernetes writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """Moment that Kubernetes wrote down."""
    return datetime.fromisoformat(text)
