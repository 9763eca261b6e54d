"""What a trainer tells of a run: the document at /progress, and the last word in the termination message.

Who calls this: the trainer writes both, the operator reads them. Unknown keys are let pass, so that an
operator can watch a newer trainer; everything else is strict.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from g2rpo_api.base import Count, Items, Model, NonNegativeFloat, Positive, Text
from g2rpo_api.rewards import MAX_REWARDS as MAX_REWARDS
from g2rpo_api.rewards import Role

RunPhase = Literal["Starting", "Training", "Evaluating", "Finished"]
StopReason = Literal["Requested", "Budget", "Target", "Plateau", "Collapse", "RewardHacking"]
MAX_CURVE_POINTS = 64
UnixSeconds = Annotated[float, Field(ge=0, lt=2**32)]
"""A moment before the year 2106."""


class Report(Model):
    """A part of what a trainer tells."""

    model_config = ConfigDict(extra="ignore")


class RewardReport(Report):
    """Where one reward stands; null is not measured yet."""

    name: Text
    """Name of the reward in the job."""
    role: Role
    """Trained on, or only watched."""
    mean: float | None = None
    """Mean score of the last iterations; of the last evaluation where rollouts are not scored."""
    best: float | None = None
    """Highest such mean so far."""
    delta: float | None = None
    """Change of the mean since the first iterations."""


class CurvePoint(Report):
    """One point of the trained reward's curve."""

    iteration: Count
    """Iteration."""
    reward: float
    """Weighted mean of the trained rewards."""


class CheckpointReport(Report):
    """The newest checkpoint."""

    iteration: Count
    """Iteration after which it was saved."""
    time: UnixSeconds
    """When."""


class StoppedReport(Report):
    """Why a run ended before its last iteration."""

    reason: StopReason
    """Which rule, or Requested."""
    message: str
    """For people."""


class ProgressReport(Report):
    """The document at /progress."""

    unique: ClassVar[dict[str, str]] = {"rewards": "name"}

    job: Text
    """Name of the job."""
    attempt: Positive
    """Number of the attempt."""
    phase: RunPhase
    """What the loop is doing."""
    iteration: Count
    """Iteration that was finished last; 0 before the first."""
    total: Positive
    """Iterations that the job asks for."""
    percent: Annotated[float, Field(ge=0, le=100)]
    """Share of them that is done."""
    eta_seconds: NonNegativeFloat | None
    """Expected seconds to the end."""
    beat: UnixSeconds
    """When the loop was last seen alive: an iteration, an evaluation or a checkpoint."""
    images_per_second: NonNegativeFloat | None = None
    """Pictures generated and scored per second in the last iterations, over all ranks."""
    clip_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of transitions that the clip range cut in the last iteration."""
    rewards: Annotated[Items[RewardReport], Field(max_length=MAX_REWARDS)] = ()
    """Every reward of the job."""
    curve: Annotated[Items[CurvePoint], Field(max_length=MAX_CURVE_POINTS)] = ()
    """The trained reward over the iterations, thinned to its shape."""
    checkpoint: CheckpointReport | None = None
    """The newest checkpoint of this attempt or an earlier one."""
    stopped: StoppedReport | None = None
    """Why it ends early, once that is decided."""


class TerminationReport(Report):
    """A trainer pod's last word: what Kubernetes keeps as the container's termination message."""

    exit_code: Annotated[int, Field(ge=0, le=255)]
    """Exit code of the pod."""
    rank: Count
    """Rank that ended it."""
    message: str
    """What happened, for people: the error as it was printed, or how the run ended."""
    progress: ProgressReport | None = None
    """The last /progress document; from the first rank only."""
