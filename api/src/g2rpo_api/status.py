"""`.status` of a G2RPOJob: what the operator tells people and other controllers. Reasons are a closed list.

Who calls this: the operator, which is its only writer; the definition of the custom resource; the plugin.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from g2rpo_api.base import Count, Items, Model, NonNegativeFloat, Seed
from g2rpo_api.progress import MAX_CURVE_POINTS, CurvePoint, RewardReport, RunPhase
from g2rpo_api.reasons import Cause as Cause
from g2rpo_api.reasons import Reason as Reason
from g2rpo_api.rewards import MAX_REWARDS

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
