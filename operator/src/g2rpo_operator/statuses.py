"""Small changes of a status: conditions, phase, usage, progress. Pure.

Who calls this: `decide.py`. Which change is due is its business.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from g2rpo_api.base import MAX_INT32
from g2rpo_api.job import JobSpec
from g2rpo_api.progress import ProgressReport, RewardReport
from g2rpo_api.status import (
    CheckpointStatus,
    Condition,
    ConditionType,
    JobProgress,
    JobStatus,
    Phase,
    Reason,
    Usage,
)
from g2rpo_operator.world import moment, rfc3339

WAITING: dict[str, Phase] = {
    Reason.PENDING: "Pending",
    Reason.FAILED_CREATE: "Pending",
    Reason.UNSCHEDULABLE: "Pending",
    Reason.QUEUED: "Queued",
    Reason.IMAGE_PULL_FAILED: "Starting",
    Reason.CONFIG_MISSING: "Starting",
    Reason.CONTAINERS_STARTING: "Starting",
}
"""Phase of a job whose ranks do not run, by the reason; every other reason is one to restart."""
LONGEST_MESSAGE = 1024
NOISE_DIGITS = 12
"""Decimal places after which a score has no digits of its own."""


def phase_of(status: JobStatus) -> Phase:
    """The conditions in one word."""
    suspended, running = status.condition("Suspended"), status.condition("Running")
    if status.is_true("Failed"):
        return "Failed"
    if status.is_true("Complete"):
        return "Succeeded"
    if suspended and suspended.status == "True":
        return "Suspended"
    if suspended and suspended.reason == Reason.SUSPEND_REQUESTED:
        return "Suspending"
    if running is None:
        return "Pending"
    return "Running" if running.status == "True" else WAITING.get(running.reason, "Restarting")


def with_condition(
    status: JobStatus, kind: ConditionType, true: bool, reason: Reason, message: str, now: datetime
) -> JobStatus:
    """The status with this condition set, and the phase that follows."""
    old = status.condition(kind)
    value = "True" if true else "False"
    new = Condition(
        type=kind,
        status="True" if true else "False",
        reason=reason.value,
        message=message[:LONGEST_MESSAGE],
        last_transition_time=old.last_transition_time if old and old.status == value else rfc3339(now),
        observed_generation=status.observed_generation,
    )
    conditions = [new if condition.type == kind else condition for condition in status.conditions]
    changed = status.model_copy(update={"conditions": tuple(conditions if old else [*conditions, new])})
    return changed.model_copy(update={"phase": phase_of(changed)})


def active(status: JobStatus) -> bool:
    """Whether time counts against the deadline."""
    return status.start_time is not None and not status.finished and status.phase not in ("Suspended", "Suspending")


def active_seconds(status: JobStatus, now: datetime) -> float:
    """Time since the first attempt without suspensions, up to now."""
    return status.usage.active_seconds + (_since(status, now) if active(status) else 0.0)


def gpu_seconds(status: JobStatus, ranks: int, now: datetime) -> float:
    """Time of running ranks times their number, up to now."""
    return status.usage.gpu_seconds + (ranks * _since(status, now) if status.is_true("Running") else 0.0)


def with_usage(before: JobStatus, after: JobStatus, spec: JobSpec, now: datetime) -> JobStatus:
    """The status that follows, with what was used since the one before it was written, by the state it tells of."""
    gpu = gpu_seconds(before, spec.workers.ranks, now)
    usage = Usage(
        active_seconds=round(active_seconds(before, now), 3),
        gpu_seconds=round(gpu, 3),
        gpu_hours=round(gpu / 3600, 2),
        time=rfc3339(now),
    )
    return after.model_copy(update={"usage": usage})


def _since(status: JobStatus, now: datetime) -> float:
    """Whole seconds since usage was written: a moment is written without its fraction, which would count twice."""
    if status.usage.time is None:
        return 0.0
    return max(0.0, (now.replace(microsecond=0) - moment(status.usage.time)).total_seconds())


def next_attempt(status: JobStatus, now: datetime, pause_seconds: float = 0.0) -> JobStatus:
    """The status in which the next attempt is due after a pause. It is written before anything is created."""
    return status.model_copy(
        update={
            "attempt": status.attempt + 1,
            "attempt_time": rfc3339(now),
            "retry_time": rfc3339(now + timedelta(seconds=pause_seconds)) if pause_seconds else None,
            "scheduled_time": None,
            "running_time": None,
            "start_time": status.start_time or rfc3339(now),
        }
    )


def progress_of(report: ProgressReport) -> JobProgress:
    """A trainer's report as it stands in the status."""
    trained = [reward for reward in report.rewards if reward.role == "Train"]
    held_out = [reward for reward in report.rewards if reward.role == "HeldOut"]
    main = trained[0] if trained else None
    return JobProgress(
        attempt=report.attempt,
        iteration=report.iteration,
        total=report.total,
        step=f"{report.iteration}/{report.total}",
        percent=report.percent,
        eta_seconds=None if report.eta_seconds is None else min(round(report.eta_seconds), MAX_INT32),
        phase=report.phase,
        reward=four(main.mean) if main else None,
        best=four(main.best) if main else None,
        delta=four(main.delta) if main else None,
        held_out=four(held_out[0].mean) if held_out else None,
        clip_ratio=four(report.clip_ratio),
        images_per_second=four(report.images_per_second),
        rewards=tuple(_rounded(reward) for reward in report.rewards),
        curve=report.curve,
        checkpoint=_checkpoint(report),
        beat_time=rfc3339(datetime.fromtimestamp(report.beat, UTC)),
    )


def _checkpoint(report: ProgressReport) -> CheckpointStatus | None:
    if report.checkpoint is None:
        return None
    saved = datetime.fromtimestamp(report.checkpoint.time, UTC)
    return CheckpointStatus(iteration=report.checkpoint.iteration, time=rfc3339(saved))


def _rounded(reward: RewardReport) -> RewardReport:
    numbers = {"mean": four(reward.mean), "best": four(reward.best), "delta": four(reward.delta)}
    return reward.model_copy(update=numbers)


def four(value: float | None) -> float | None:
    """Four significant digits; what rounding leaves of a difference is 0."""
    return None if value is None else float(f"{round(value, NOISE_DIGITS):.4g}")
