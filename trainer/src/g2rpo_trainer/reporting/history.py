"""Questions that everything one sees asks of a run's records: which rewards, how fast, how long still. Pure.

Who calls this: the progress line, the progress document, the verdict, the charts, the report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from g2rpo_trainer.journal import IterationRecord, Phase, RewardEntry, Role, Spread
from g2rpo_trainer.reporting.series import finite_mean

Split = Literal["eval", "unseen"]
Records = Sequence[IterationRecord]
PHASES: tuple[tuple[Phase, str], ...] = (
    ("rollout", "rollout (model)"),
    ("decode", "decode"),
    ("reward", "reward"),
    ("train", "update"),
    ("eval", "evaluation"),
    ("checkpoint", "checkpoint"),
)
"""Phases in the order of an iteration, as people call them."""
RECENT = 5
"""Iterations that count as now: single ones differ by their prompts."""
RECENT_STEPS = 20
"""Iterations whose median duration predicts the rest; evaluations among them barely move a median."""


@dataclass(frozen=True)
class Measurement:
    """One reward in one evaluation."""

    iteration: int
    prompts: int
    spread: Spread


def roles(records: Records, declared: Mapping[str, Role] | None = None) -> dict[str, Role]:
    """Role of each reward, trained ones first.

    What is `declared` or stands in a record counts; of the others, a reward that was evaluated and
    never trained on is held out, unless nothing was trained yet.
    """
    known = {entry.name: entry.role for record in records for entry in record.rewards} | dict(declared or {})
    seen = {name: known.get(name) for record in records for entry in record.evaluation for name in entry.rewards}
    default: Role = "heldout" if "train" in known.values() else "train"
    everything = {name: role or default for name, role in {**known, **seen}.items()}
    return dict(sorted(everything.items(), key=lambda item: item[1] != "train"))


def trained(records: Records) -> list[IterationRecord]:
    """The records of iterations that trained, without the evaluation before training."""
    return [record for record in records if record.iteration > 0]


def outline(record: IterationRecord) -> IterationRecord:
    """The record without the update's details: enough to keep thousands of them in memory."""
    return record.model_copy(update={"advantage": None, "policy": None})


def reward_mean(entry: RewardEntry) -> float:
    """Mean over the deterministic pictures; over the branches where the method draws none."""
    if entry.anchor is not None:
        return entry.anchor.mean
    return finite_mean([branch.mean for branch in entry.branch.values()])


def trained_reward(record: IterationRecord) -> float:
    """Mean of the trained rewards by weight: the number that a progress line shows; NaN where there is none."""
    entries = [(entry.weight, reward_mean(entry)) for entry in record.rewards if entry.role == "train"]
    known = [(weight, mean) for weight, mean in entries if math.isfinite(mean)]
    total = sum(weight for weight, _ in known)
    return sum(weight * mean for weight, mean in known) / total if total else math.nan


def evaluated_reward(record: IterationRecord) -> float:
    """Mean of the trained rewards by weight in an evaluation, on unseen prompts where there are some; NaN without."""
    by_split = {entry.split: entry.rewards for entry in record.evaluation}
    scores = by_split.get("unseen", by_split.get("eval", {}))
    known = [(r.weight, scores[r.name].mean) for r in record.rewards if r.role == "train" and r.name in scores]
    return sum(weight * mean for weight, mean in known) / sum(weight for weight, _ in known) if known else math.nan


def best_iteration(records: Records) -> int | None:
    """The first iteration with the best evaluation of the trained rewards; None before the first one."""
    scores = [(record.iteration, evaluated_reward(record)) for record in trained(records)]
    known = [(iteration, score) for iteration, score in scores if math.isfinite(score)]
    return max(known, key=lambda scored: scored[1])[0] if known else None


def reward_curve(records: Records, name: str) -> list[tuple[int, float]]:
    """(iteration, mean) of one reward during rollouts."""
    return [
        (record.iteration, reward_mean(entry)) for record in records for entry in record.rewards if entry.name == name
    ]


def measurements(records: Records, split: Split, name: str) -> list[Measurement]:
    """All evaluations of one reward on one split that have a finite mean."""
    return [
        Measurement(record.iteration, entry.prompts, entry.rewards[name])
        for record in records
        for entry in record.evaluation
        if entry.split == split and name in entry.rewards and math.isfinite(entry.rewards[name].mean)
    ]


def eta_seconds(records: Records, total: int) -> float | None:
    """Seconds until iteration `total` at the median pace of the recent iterations; None before the first."""
    steps = [record.step_seconds for record in trained(records)[-RECENT_STEPS:]]
    if not steps:
        return None
    return max(0, total - records[-1].iteration) * median(steps)


def training_seconds(record: IterationRecord) -> float:
    """Duration of the iteration without its evaluation."""
    return record.step_seconds - record.seconds.get("eval", 0.0)


def other_seconds(record: IterationRecord) -> float:
    """Wall time of the iteration that no phase claims; a checkpoint is saved between iterations."""
    return max(0.0, record.step_seconds - sum(s for name, s in record.seconds.items() if name != "checkpoint"))


def images_per_second(records: Records) -> float:
    """Pictures trained on per second of training; NaN without any."""
    return _per_second([record.images for record in trained(records)], records)


def model_calls_per_second(records: Records) -> float:
    """Rows through the transformer per second of training; NaN without any."""
    return _per_second([record.model_calls for record in trained(records)], records)


def attempt_starts(records: Records) -> list[tuple[int, int]]:
    """(iteration, attempt) of each first record of a later attempt."""
    return [(after.iteration, after.attempt) for before, after in pairwise(records) if after.attempt != before.attempt]


def _per_second(counts: Sequence[int], records: Records) -> float:
    seconds = sum(training_seconds(record) for record in trained(records))
    return sum(counts) / seconds if seconds > 0 else math.nan
