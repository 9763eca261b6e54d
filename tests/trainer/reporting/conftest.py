"""Records of runs that never were, with numbers that a test chooses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from g2rpo_trainer.journal import (
    AdvantageEntry,
    AppearanceEntry,
    EvaluationEntry,
    IterationRecord,
    PolicyEntry,
    RewardEntry,
    Spread,
    StepEntry,
)
from g2rpo_trainer.reporting.grids import probe_grid

Scores = Mapping[str, Spread]
JOB = """\
apiVersion: g2rpo.dev/v1alpha1
kind: G2RPOJob
metadata: {name: numbers}
spec:
  workers: {nodes: 1, processesPerNode: 2}
  training:
    seed: 7
    iterations: 40
    model: {family: SD3, path: "builtin:miniature", train: {type: Full, lora: null}}
    algorithm: {type: G2RPO, g2rpo: {granularities: [1, 2], clipRange: 1.0e-3}}
    rewards:
    - {name: ocr, type: PaddleOCR, role: Train, weight: 1.0}
    - {name: reader, type: DdddOCR, role: HeldOut, weight: 1.0}
"""


def spread(mean: float, std: float = 0.3, low: float = 0.0, high: float = 1.0) -> Spread:
    return Spread(mean=mean, std=std, min=low, max=high)


def hits(count: int, of: int) -> Spread:
    """The spread of `count` ones among `of` scores of 0 and 1."""
    p = count / of
    return Spread(mean=p, std=math.sqrt(p * (1 - p)), min=float(count == of), max=float(count > 0))


def reward(name: str, anchor: float | None, branch: Mapping[str, float], weight: float = 1.0) -> RewardEntry:
    return RewardEntry(
        name=name,
        role="train",
        weight=weight,
        anchor=None if anchor is None else spread(anchor),
        branch={key: spread(mean) for key, mean in branch.items()},
    )


def looks(level: float) -> AppearanceEntry:
    """Statistics that go up and down together, each at a height of its own."""
    return AppearanceEntry(
        saturation=0.5 * level, brightness=0.9 * level, contrast=0.4 * level, lattice=0.3 * level, diversity=0.2 * level
    )


def evaluation(prompts: int = 80, unseen: bool = False, **rewards: Spread) -> EvaluationEntry:
    appearance = looks(0.25 if unseen else 0.5)
    return EvaluationEntry(
        split="unseen" if unseen else "eval", prompts=prompts, rewards=rewards, appearance=appearance
    )


def policy(k: int = 2, **changes: Any) -> PolicyEntry:
    steps = [
        StepEntry(k=i, reward_std=0.1 + i, clip_ratio=0.2, loss=-0.1, ratio_absdev=0.001 * (i + 1) ** 2)
        for i in range(k)
    ]
    values: dict[str, Any] = {
        "ratio_mean": 1.0, "ratio_std": 0.01, "clip_low": 0.02, "clip_high": 0.03, "approx_kl": 1e-6, "loss": -0.01,
        "kl_loss": 0.0, "grad_norm": 0.5, "learning_rate": 1e-4, "optimizer_steps": k, "nonfinite_steps": 0,
        "steps": steps,
    }  # fmt: skip
    return PolicyEntry(**(values | changes))


def record(iteration: int, **changes: Any) -> IterationRecord:
    """A trained iteration of one reward `ocr`, or an empty evaluation record for iteration 0."""
    training = iteration > 0
    values: dict[str, Any] = {
        "iteration": iteration,
        "time": 1_700_000_000.0 + 2 * iteration,
        "attempt": 1,
        "world_size": 2,
        "rewards": [reward("ocr", 0.5, {"1": 0.45, "2": 0.4})] if training else [],
        "evaluation": [],
        "advantage": AdvantageEntry(mean=0.0, std=1.0, absmax=4.0, clipped_ratio=0.01) if training else None,
        "policy": policy() if training else None,
        "groups": 8 if training else 0,
        "zero_variance_groups": 0,
        "cells": 32 if training else 0,
        "appearance": looks(1 / (1 + iteration)) if training else None,
        "skipped_groups": 0,
        "seconds": {"rollout": 1.0, "reward": 0.5, "train": 0.25} if training else {},
        "step_seconds": 2.0,
        "model_calls": 1000 if training else 0,
        "images": 200 if training else 0,
    }
    return IterationRecord(**(values | changes))


def rising_run(iterations: int = 40, every: int = 10) -> list[IterationRecord]:
    """ocr rises from .3 to .7, the held-out reader from 10 % to 40 % of 80 prompts; attempt 2 from 25 on."""
    records = []
    for i in range(iterations + 1):
        share = i / iterations
        entries = [
            evaluation(80, ocr=spread(0.3 + 0.4 * share), reader=hits(round(8 + 24 * share), 80)),
            evaluation(20, unseen=True, ocr=spread(0.2 + 0.3 * share), reader=hits(round(2 + 6 * share), 20)),
        ]
        rewards = [reward("ocr", 0.3 + 0.4 * share, {"1": 0.28 + 0.4 * share, "2": 0.2 + 0.4 * share})]
        changes: dict[str, Any] = {"rewards": rewards} if i else {}
        due = i % every == 0 or i == iterations
        records.append(record(i, evaluation=entries if due else [], attempt=1 + (i >= 25), **changes))
    return records


def write_folder(
    folder: Path, records: Sequence[IterationRecord], job: str | None = JOB, captions: Sequence[str] = ("a 1", "a 2")
) -> Path:
    """A run folder: records, the job's text (None: no file), probe captions (empty: no pictures)."""
    (folder / "samples").mkdir()
    (folder / "metrics.jsonl").write_text("".join(r.model_dump_json() + "\n" for r in records))
    if job is not None:
        (folder / "job.yaml").write_text(job)
    for entry in records if captions else []:
        if entry.evaluation:
            gray = torch.full((len(captions), 3, 8, 16), entry.iteration / 100)
            probe_grid(gray, captions, folder / "samples" / f"iter-{entry.iteration:06d}.png")
    return folder


@pytest.fixture(scope="session")
def make() -> Any:
    """The builders of this file, by name."""
    return SimpleNamespace(
        spread=spread, hits=hits, looks=looks, reward=reward, evaluation=evaluation, policy=policy, record=record,
        rising_run=rising_run, job=JOB, folder=write_folder,
    )  # fmt: skip
