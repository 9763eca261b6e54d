"""`.status` of a G2RPOJob: what the operator tells people and other controllers. Reasons are a closed list.

Who calls this: the operator, which is its only writer; the definition of the custom resource; the plugin.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from g2rpo_api.base import Count, Items, Model, NonNegativeFloat
from g2rpo_api.progress import MAX_CURVE_POINTS, CurvePoint, RewardReport, RunPhase
from g2rpo_api.training import MAX_REWARDS, Seed

Phase = Literal[
    "Pending",
    "Queued",
    "Starting",
    "Running",
    "Restarting",
    "Suspending",
    "Suspended",
    "Succeeded",
    "Failed",
]
ConditionType = Literal["Running", "Suspended", "Complete", "Failed"]
ConditionStatus = Literal["True", "False", "Unknown"]
Time = Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time"})]
"""RFC 3339, UTC, whole seconds."""
Long = Annotated[int, Field(ge=0)]
"""A count without a limit that matters."""


class Reason(StrEnum):
    """Why a condition is what it is. The text of each says what it means and what to do."""

    # before ranks run
    PENDING = "Pending"
    """The job was seen; its pods are about to be created. Nothing to do."""
    QUEUED = "Queued"
    """Kueue has not admitted the job yet. See its queue: kubectl describe workload."""
    UNSCHEDULABLE = "Unschedulable"
    """The scheduler finds no node for a pod; the message says why. Free GPUs, or mend resources, nodeSelector
    or tolerations."""
    IMAGE_PULL_FAILED = "ImagePullFailed"
    """A node cannot pull the image. Mend spec.image or workers.imagePullSecrets; it is tried until
    policy.startTimeoutSeconds are over."""
    CONFIG_MISSING = "ConfigMissing"
    """A Secret, ConfigMap or volume that the pods need is not there. Create it; the pods then go on."""
    CONTAINERS_STARTING = "ContainersStarting"
    """Nodes pull the image and mount volumes."""
    # while ranks run
    RANKS_STARTING = "RanksStarting"
    """Containers run; ranks load the model and have not finished anything yet."""
    TRAINING = "Training"
    """Iterations are coming in."""
    STOPPING = "Stopping"
    """The job was asked to end early: checkpoint, evaluation and export are under way."""
    # between attempts
    FAULT = "Fault"
    """A rank failed; see status.lastFailure. The next attempt follows from the last checkpoint."""
    DISRUPTED = "Disrupted"
    """Pods were preempted, evicted, drained or lost with their node. The next attempt follows from the last
    checkpoint and is not counted as a restart."""
    PROGRESS_STALLED = "ProgressStalled"
    """Ranks ran without a sign of life for policy.progressTimeoutSeconds, as in a hung collective. They are
    restarted from the last checkpoint."""
    PODS_LOST = "PodsLost"
    """Pods or the attempt's Job were deleted by someone else. The next attempt follows."""
    RESUMED = "Resumed"
    """Suspension is over; the next attempt follows from the last checkpoint."""
    # suspension
    SUSPEND_REQUESTED = "SuspendRequested"
    """spec.suspend is true; pods save a checkpoint and end."""
    SUSPENDED = "Suspended"
    """spec.suspend is true and no pod is left. Set it to false to go on."""
    NOT_SUSPENDED = "NotSuspended"
    """spec.suspend is false."""
    # the end
    COMPLETED = "Completed"
    """Every rank finished the last iteration."""
    STOPPED = "Stopped"
    """Training ended early as asked by spec.stop or by one of training's own rules; weights are exported."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """policy.activeDeadlineSeconds are over. Checkpoints are kept: a job of the same name with a later deadline
    goes on from them."""
    START_TIMEOUT = "StartTimeout"
    """Pods did not run within policy.startTimeoutSeconds of being scheduled; the message says what they waited
    for."""
    RESTARTS_EXHAUSTED = "RestartsExhausted"
    """More faults than policy.maxRestarts. See status.lastFailure and the kept pods' logs."""
    DISRUPTIONS_EXHAUSTED = "DisruptionsExhausted"
    """More disruptions than policy.maxDisruptions. Give the job a higher priority, or quieter nodes."""
    INVALID_SPEC = "InvalidSpec"
    """The job cannot be right; the message names the keys. Mend it and create it again."""
    POD_REJECTED = "PodRejected"
    """The API server refuses the pods (quota of another kind, admission, an invalid field); the message says why."""
    DIVERGED = "Diverged"
    """Loss or gradient stopped being finite; a restart would do the same again. Lower the learning rate or the
    gradient clip in a new job."""
    NAME_CONFLICT = "NameConflict"
    """An object that the job needs exists and belongs to something else; the message names it."""
    FINISHED = "Finished"
    """The job is over; nothing runs."""


class Cause(StrEnum):
    """Why an attempt did not succeed. The text of each says what it means and what to do."""

    BUG = "Bug"
    """The trainer ended by an unexpected error. The traceback is in the run folder's log and in the kept pod's."""
    INVALID_SPEC = "InvalidSpec"
    """The trainer refuses the job; not tried again. The message names the keys."""
    MISSING_DATA = "MissingData"
    """The model, the prompts or a checkpoint is missing or damaged. Mend the path or the volume."""
    REWARD_FAILED = "RewardFailed"
    """A reward raised or gave a score that is not finite. See the message; onFailure SkipGroup carries on instead."""
    DIVERGED = "Diverged"
    """Loss or gradient stopped being finite; not tried again. Lower the learning rate or the gradient clip."""
    STORAGE = "Storage"
    """The run folder cannot be written: full, read-only or not the trainer's. Mend the volume."""
    OUT_OF_MEMORY = "OutOfMemory"
    """The kernel killed a rank for memory. Raise workers.resources.limits.memory, or lower batch sizes."""
    KILLED = "Killed"
    """A rank was killed by a signal that nobody asked for."""
    DISRUPTED = "Disrupted"
    """Pods were preempted, evicted, drained, or lost with their node; or saved a checkpoint on SIGTERM."""
    PODS_LOST = "PodsLost"
    """Pods or the attempt's Job were deleted by someone else."""
    PROGRESS_STALLED = "ProgressStalled"
    """No sign of life for policy.progressTimeoutSeconds."""
    IMAGE = "Image"
    """The image's name cannot be right; not tried again."""


class Status(Model):
    """A part of the status. Unknown keys are let pass: an older operator may read what a newer one wrote."""

    model_config = ConfigDict(extra="ignore")


class Condition(Status):
    """As metav1.Condition."""

    type: ConditionType
    """What is said about the job."""
    status: ConditionStatus
    """Whether it is so."""
    reason: Annotated[str, Field(min_length=1, max_length=64)]
    """Why, in one word out of a closed list."""
    message: Annotated[str, Field(max_length=4096)] = ""
    """Why, for people."""
    last_transition_time: Time
    """When status changed last."""
    observed_generation: Long
    """metadata.generation that this was said of."""


class CheckpointStatus(Status):
    """The newest checkpoint."""

    iteration: Count
    """Iteration after which it was saved."""
    time: Time
    """When."""


class JobProgress(Status):
    """How far training is, and what it has reached. Numbers are rounded to four significant digits."""

    attempt: Count
    """Attempt that told it."""
    iteration: Count
    """Iteration that was finished last."""
    total: Count
    """Iterations in all."""
    step: Annotated[str, Field(max_length=32)]
    """Both, as in 40/300."""
    percent: NonNegativeFloat
    """Share that is done."""
    eta_seconds: Long | None = None
    """Expected seconds to the end."""
    phase: RunPhase
    """What the loop is doing."""
    reward: float | None = None
    """Weighted mean of the trained rewards, last iterations."""
    best: float | None = None
    """Highest such mean so far."""
    delta: float | None = None
    """Its change since the first iterations."""
    held_out: float | None = None
    """Mean of the first held-out reward."""
    clip_ratio: float | None = None
    """Share of transitions that the clip range cut."""
    images_per_second: float | None = None
    """Pictures per second, over all ranks."""
    rewards: Annotated[Items[RewardReport], Field(max_length=MAX_REWARDS)] = ()
    """Every reward by name."""
    curve: Annotated[Items[CurvePoint], Field(max_length=MAX_CURVE_POINTS)] = ()
    """The trained reward over the iterations, thinned to its shape; all of it is in the ConfigMap <job>-curve."""
    checkpoint: CheckpointStatus | None = None
    """The newest checkpoint."""
    beat_time: Time | None = None
    """When the loop was last seen alive."""

    unique: ClassVar[dict[str, str]] = {"rewards": "name"}


class Failure(Status):
    """How an attempt ended that did not succeed."""

    attempt: Count
    """Which attempt."""
    reason: Annotated[str, Field(max_length=64)]
    """Fault, Disrupted, ProgressStalled, …"""
    message: Annotated[str, Field(max_length=1024)] = ""
    """For people."""
    pod: Annotated[str, Field(max_length=253)] | None = None
    """Pod of the rank that failed first."""
    node: Annotated[str, Field(max_length=253)] | None = None
    """Node it ran on."""
    exit_code: int | None = None
    """Its exit code."""
    last_lines: Annotated[str, Field(max_length=4096)] = ""
    """The end of what it said."""
    time: Time
    """When the operator saw it."""


class Usage(Status):
    """What the job has used, up to a moment; the operator adds what passed since then."""

    active_seconds: NonNegativeFloat = 0.0
    """Time since the first attempt, suspended time not counted."""
    gpu_seconds: NonNegativeFloat = 0.0
    """Time of running pods times accelerators (processes on CPUs)."""
    gpu_hours: NonNegativeFloat = 0.0
    """The same in hours, rounded."""
    time: Time | None = None
    """The moment."""


class JobStatus(Status):
    """State of a job as the operator sees it."""

    observed_generation: Long = 0
    """metadata.generation that this status is about."""
    phase: Phase = "Pending"
    """The conditions in one word."""
    attempt: Count = 0
    """Number of the newest attempt; 0 before the first."""
    attempt_time: Time | None = None
    """When the newest attempt was decided on."""
    restarts: Count = 0
    """Attempts that ended by a fault and were followed by another."""
    disruptions: Count = 0
    """Attempts that ended by a disruption and were followed by another."""
    retry_time: Time | None = None
    """When the next attempt begins, during the pause before it."""
    start_time: Time | None = None
    """When the first attempt began."""
    scheduled_time: Time | None = None
    """When all pods of the newest attempt were scheduled."""
    running_time: Time | None = None
    """When all pods of the newest attempt ran."""
    completion_time: Time | None = None
    """When the job ended."""
    usage: Usage = Usage()
    """Time and GPU time used."""
    conditions: Annotated[Items[Condition], Field(max_length=16)] = ()
    """Running, Suspended, Complete, Failed."""
    progress: JobProgress | None = None
    """How far training is."""
    last_failure: Failure | None = None
    """How the newest attempt that did not succeed ended."""
    image: Annotated[str, Field(max_length=512)] | None = None
    """Trainer image of the newest attempt."""
    seed: Seed | None = None
    """Seed of the run."""
    spec_hash: Annotated[str, Field(max_length=64)] | None = None
    """Digest of spec.training with every default spelt out: equal digests train the same."""

    unique: ClassVar[dict[str, str]] = {"conditions": "type"}

    def condition(self, kind: ConditionType) -> Condition | None:
        """The condition of this type, if it was set."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    def is_true(self, kind: ConditionType) -> bool:
        """Whether the condition of this type is True."""
        condition = self.condition(kind)
        return condition is not None and condition.status == "True"

    @property
    def finished(self) -> bool:
        """Succeeded or Failed, for good."""
        return self.is_true("Complete") or self.is_true("Failed")
