"""A job that costs next to nothing, of the shipped miniature."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STEP = 1.0
"""Learning rate. With an epsilon as large AdamW is smooth: what is rounding in a gradient is rounding in a weight."""


@pytest.fixture(scope="package")
def document() -> Callable[..., dict[str, Any]]:
    def made(name: str, stage: int, train: str, reward: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
        """A job of four prompts an iteration; `reward` tells which rank's reward misbehaves."""
        custom = {"entryPoint": "testtrainer.ranks:Brightness", "arguments": reward or {}}
        training = {
            "iterations": 2,
            "model": {"family": "SD3", "path": "builtin:miniature", "maxSequenceLength": 8, "train": {"type": train}},
            "prompts": {"path": "builtin:numbers", "perIteration": 4},
            "sampling": {"steps": 3, "shift": 1.0, "height": 16, "width": 32, "maxDecodeBatch": 64},
            "algorithm": {
                "type": "G2RPO",
                "g2rpo": {"groupSize": 2, "stochasticSteps": 2, "granularities": [1], "update": "PerIteration"},
            },
            "rewards": [{"name": "brightness", "type": "Custom", "custom": custom}],
            "optimizer": {"learningRate": STEP, "epsilon": STEP, "weightDecay": 0.001},
            "deepspeed": {"zeroStage": stage},
            "checkpoint": {"everyIterations": 1},
            "evaluation": {"everyIterations": 100, "maxPrompts": 1, "probes": ["the number 1 1"]},
        }
        for key in ("rewards", "prompts"):
            if key in keys:
                training[key] = keys.pop(key)
        return {
            "apiVersion": "g2rpo.dev/v1alpha1",
            "kind": "G2RPOJob",
            "metadata": {"name": name},
            "spec": {"training": training | keys},
        }

    return made


@pytest.fixture
def written(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """A job as a file."""

    def write(document: dict[str, Any]) -> Path:
        path = tmp_path / "job.json"
        path.write_text(json.dumps(document))
        return path

    return write
