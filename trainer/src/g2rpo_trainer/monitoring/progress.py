"""The document behind /progress: what an operator or a script wants to know of a run. Pure.

Who calls this: `telemetry.py`. Its fields are defined in `g2rpo_api.progress`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from g2rpo_api import training
from g2rpo_api.progress import (
    MAX_CURVE_POINTS,
    MAX_REWARDS,
    CheckpointReport,
    CurvePoint,
    ProgressReport,
    RewardReport,
    RunPhase,
    StoppedReport,
)
from g2rpo_trainer.journal import Role
from g2rpo_trainer.reporting.history import (
    RECENT,
    Records,
    images_per_second,
    measurements,
    reward_curve,
    roles,
    trained,
    trained_reward,
)
from g2rpo_trainer.reporting.series import finite_mean, thin

ROLES: dict[Role, training.Role] = {"train": "Train", "heldout": "HeldOut"}


@dataclass(frozen=True)
class RunInfo:
    """What does not change while this attempt runs."""

    job_name: str
    total_iterations: int
    world_size: int
    roles: Mapping[str, Role]
    """Every reward of the job."""
    attempt: int = 1
    """From 1."""
    method: str = ""
    model: str = ""
    version: str = ""
    """Of the trainer."""


@dataclass(frozen=True)
class State:
    """Where a run stands."""

    beat: float
    """Unix seconds at which the loop was last seen alive."""
    records: Records = ()
    phase: RunPhase = "Starting"
    eta_seconds: float | None = None
    clip_ratio: float | None = None
    """Share of transitions that the clip range cut in the last iteration."""
    checkpoint: CheckpointReport | None = None
    stopped: StoppedReport | None = None


def document(run: RunInfo, state: State) -> ProgressReport:
    """The document; what is unknown or not finite is None."""
    records = state.records
    iteration = records[-1].iteration if records else 0
    rewards = [_reward(records, name, role) for name, role in roles(records, run.roles).items()]
    return ProgressReport(
        job=run.job_name,
        attempt=run.attempt,
        phase=state.phase,
        iteration=iteration,
        total=run.total_iterations,
        percent=min(100.0, round(100 * iteration / run.total_iterations, 1)),
        eta_seconds=number(state.eta_seconds),
        beat=state.beat,
        images_per_second=number(images_per_second(trained(records)[-RECENT:])),
        clip_ratio=number(state.clip_ratio),
        rewards=tuple(rewards[:MAX_REWARDS]),
        curve=curve(records),
        checkpoint=state.checkpoint,
        stopped=state.stopped,
    )


def curve(records: Records) -> tuple[CurvePoint, ...]:
    """The trained reward of as many iterations as give the shape."""
    points = [(float(record.iteration), trained_reward(record)) for record in trained(records)]
    kept = thin([point for point in points if math.isfinite(point[1])], MAX_CURVE_POINTS)
    return tuple(CurvePoint(iteration=int(x), reward=float(f"{y:.6g}")) for x, y in kept)


def number(value: float | None) -> float | None:
    """Six significant digits; None for what JSON has no number for."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _reward(records: Records, name: str, role: Role) -> RewardReport:
    """Mean over the last five iterations, the best such mean, and the change since the first five.

    A reward that is not scored during rollouts is reported from its evaluations, one by one.
    """
    values = [mean for _, mean in reward_curve(records, name) if math.isfinite(mean)]
    if values:
        ends = range(min(RECENT, len(values)), len(values) + 1)
        smoothed = [finite_mean(values[max(0, end - RECENT) : end]) for end in ends]
    else:
        smoothed = [m.spread.mean for m in measurements(records, "eval", name)]
    known = bool(smoothed)
    return RewardReport(
        name=name,
        role=ROLES[role],
        mean=number(smoothed[-1]) if known else None,
        best=number(max(smoothed)) if known else None,
        delta=number(smoothed[-1] - smoothed[0]) if known else None,
    )
