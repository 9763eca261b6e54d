"""The document behind /progress: what an operator or a script wants to know of a run. Pure.

Who calls this: `telemetry.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from g2rpo_trainer.journal import Role
from g2rpo_trainer.reporting.history import RECENT, Records, measurements, reward_curve, roles, trained, trained_reward
from g2rpo_trainer.reporting.series import finite_mean, thin

RunPhase = Literal["starting", "training", "evaluating", "finished"]
MAX_CURVE_POINTS = 64


@dataclass(frozen=True)
class RunInfo:
    """What does not change while this attempt runs."""

    job_name: str
    total_iterations: int
    world_size: int
    roles: Mapping[str, Role]
    """Every reward of the job."""
    cells_per_group: int
    """(reward, granularity, stochastic step) triples in which a group's rewards are normalised."""
    attempt: int = 1
    """From 1."""


@dataclass(frozen=True)
class CheckpointInfo:
    """The last checkpoint."""

    iteration: int
    time: float
    """Unix seconds."""


def document(
    run: RunInfo, records: Records, phase: RunPhase, eta_seconds: float | None, checkpoint: CheckpointInfo | None
) -> dict[str, Any]:
    """The document, JSON-ready: what is unknown or not finite is None; the keys are always the same."""
    iteration = records[-1].iteration if records else 0
    return {
        "job": run.job_name,
        "iteration": iteration,
        "total": run.total_iterations,
        "percent": round(100 * iteration / run.total_iterations, 1),
        "etaSeconds": None if eta_seconds is None else number(eta_seconds),
        "phase": phase,
        "attempt": run.attempt,
        "rewards": [_reward(records, name, role) for name, role in roles(records, run.roles).items()],
        "curve": curve(records),
        "checkpoint": {"iteration": checkpoint.iteration, "time": checkpoint.time} if checkpoint else None,
        "lastStepTime": records[-1].time if records else None,
    }


def curve(records: Records) -> list[list[float]]:
    """[iteration, trained reward] of at most 64 iterations that give the shape."""
    points = [(float(record.iteration), trained_reward(record)) for record in trained(records)]
    kept = thin([point for point in points if math.isfinite(point[1])], MAX_CURVE_POINTS)
    return [[int(x), float(f"{y:.6g}")] for x, y in kept]


def number(value: float) -> float | None:
    """Six significant digits; None for what JSON has no number for."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _reward(records: Records, name: str, role: Role) -> dict[str, Any]:
    """Mean over the last five iterations, the best such mean, and the change since the first five.

    A reward that is not scored during rollouts is reported from its evaluations, one by one.
    """
    values = [mean for _, mean in reward_curve(records, name) if math.isfinite(mean)]
    if values:
        ends = range(min(RECENT, len(values)), len(values) + 1)
        smoothed = [finite_mean(values[max(0, end - RECENT) : end]) for end in ends]
    else:
        smoothed = [m.spread.mean for m in measurements(records, "eval", name)]
    if not smoothed:
        return {"name": name, "role": role, "mean": None, "best": None, "delta": None}
    return {
        "name": name,
        "role": role,
        "mean": number(smoothed[-1]),
        "best": number(max(smoothed)),
        "delta": number(smoothed[-1] - smoothed[0]),
    }
