"""The reward curve of a job: from the trainer's curve.csv, or from the thinned one in the status. Pure.

Who calls this: `kubectl g2rpo curve`. Which of them there is, and the drawing, are others' business.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from g2rpo_api.status import JobStatus
from g2rpo_operator.plugin.failures import PluginError
from g2rpo_operator.plugin.plot import Point

Row = Mapping[str, str]
TRAINED = "trained reward"


def rows_of(text: str) -> list[Row]:
    """Rows of curve.csv by column."""
    return list(csv.DictReader(io.StringIO(text)))


def trained(rows: Sequence[Row], spec: Mapping[str, Any]) -> list[Point]:
    """(iteration, mean of the trained rewards by weight); as the trainer reckons it, from the first iteration on.

    Args:
        rows: of curve.csv.
        spec: the job's.
    """
    weights = {
        reward["name"]: float(reward.get("weight", 1.0))
        for reward in spec["training"]["rewards"]
        if reward.get("role", "Train") == "Train"
    }
    points = []
    for row in rows:
        known = [(weight, mean) for name, weight in weights.items() if math.isfinite(mean := rollout_mean(row, name))]
        total = sum(weight for weight, _ in known)
        if total and int(row["iteration"]) > 0:
            points.append((float(row["iteration"]), sum(weight * mean for weight, mean in known) / total))
    return points


def of_reward(rows: Sequence[Row], name: str) -> list[Point]:
    """(iteration, mean of one reward); of evaluations where rollouts are not scored by it.

    Raises:
        PluginError: there is no such reward.
    """
    names = sorted({column.rpartition(".")[0] for column in (rows[0] if rows else ())} - {""})
    if name not in names:
        raise PluginError(f"no reward {name!r} in the curve; there is {', '.join(names) or 'none yet'}")
    rollouts = list(_points(rows, [rollout_mean(row, name) for row in rows]))
    return rollouts or list(_points(rows, [_number(row.get(f"{name}.eval_mean")) for row in rows]))


def of_status(status: JobStatus) -> list[Point]:
    """The curve in the status: the trained reward, thinned to its shape."""
    return [(float(point.iteration), point.reward) for point in (status.progress.curve if status.progress else ())]


def joined(full: Sequence[Point], newer: Sequence[Point]) -> list[Point]:
    """The first curve, and of the second what lies beyond its end."""
    end = full[-1][0] if full else -math.inf
    return [*full, *(point for point in newer if point[0] > end)]


def to_csv(points: Sequence[Point]) -> str:
    """The same as text."""
    return "".join(["iteration,reward\n", *(f"{x:.0f},{y!r}\n" for x, y in points)])


def rollout_mean(row: Row, name: str) -> float:
    """Mean of a reward in one iteration's rollouts: of the deterministic pictures, else of the branches; else NaN."""
    anchor = _number(row.get(f"{name}.anchor_mean"))
    if math.isfinite(anchor):
        return anchor
    prefix = f"{name}.branch_"
    branches = [
        mean for column, text in row.items() if column.startswith(prefix) and math.isfinite(mean := _number(text))
    ]
    return math.fsum(branches) / len(branches) if branches else math.nan


def _points(rows: Sequence[Row], values: Sequence[float]) -> Iterator[Point]:
    for row, value in zip(rows, values, strict=True):
        if math.isfinite(value):
            yield float(row["iteration"]), value


def _number(text: str | None) -> float:
    return float(text) if text else math.nan
