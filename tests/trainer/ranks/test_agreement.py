"""Whole runs on one, two and four ranks: the stages agree with each other, and all with one rank that has everything.

Noise and prompts that depended on the rank, or a gradient that was not averaged, would show in every weight.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testtrainer.ranks import Weights, on_ranks, runs

ITERATIONS = 4
TRAINED = ["LoRA", "Full"]
STAGES = [0, 1, 2, 3]
ROUNDING = 5e-6
"""Of weights that move a hundred times as far."""


def difference(some: Weights, other: Weights) -> float:
    assert some.keys() == other.keys()
    return max(float(np.abs(some[name] - other[name]).max()) for name in some)


def diary(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(document: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """On one rank at stage 0: weights after each iteration, and the diary."""
    folder = tmp_path_factory.mktemp("alone")
    jobs = [document(t.lower(), 0, t, iterations=i) for t in TRAINED for i in range(1, ITERATIONS + 1)]
    trained = on_ranks(1, runs, jobs, folder)[0]
    half = len(trained) // 2
    return {t: (trained[i * half :][:half], diary(folder, t.lower())) for i, t in enumerate(TRAINED)}


@pytest.mark.slow
@pytest.mark.parametrize("train", TRAINED)
def test_weights_move_much_farther_than_rounding(alone: dict[str, Any], train: str) -> None:
    weights, _ = alone[train]
    assert difference(weights[0], weights[1]) > 100 * ROUNDING
    assert difference(weights[0], weights[-1]) > 100 * ROUNDING


def assert_same_numbers(here: list[dict[str, Any]], there: list[dict[str, Any]]) -> None:
    assert [entry["iteration"] for entry in here] == [entry["iteration"] for entry in there]
    for mine, theirs in zip(here[1:], there[1:], strict=True):
        assert mine["images"] == theirs["images"]
        assert mine["model_calls"] == theirs["model_calls"]
        assert mine["rewards"][0]["anchor"] == pytest.approx(theirs["rewards"][0]["anchor"], abs=1e-4)
        assert mine["policy"]["grad_norm"] == pytest.approx(theirs["policy"]["grad_norm"], rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
def test_every_stage_on_any_number_of_ranks_is_one_rank_to_rounding(
    document: Callable[..., dict[str, Any]], tmp_path: Path, alone: dict[str, Any], size: int
) -> None:
    cases = [(stage, train) for stage in STAGES for train in TRAINED]
    jobs = [document(f"{train}-{stage}".lower(), stage, train) for stage, train in cases]
    for trained in on_ranks(size, runs, jobs, tmp_path):
        for (stage, train), weights in zip(cases, trained, strict=True):
            assert difference(weights, alone[train][0][1]) < ROUNDING, (stage, train)
    for stage, train in cases:
        entries = diary(tmp_path, f"{train}-{stage}".lower())
        assert {entry["world_size"] for entry in entries} == {size}
        assert_same_numbers(entries, alone[train][1][:3])


@pytest.mark.slow
@pytest.mark.parametrize("train", ["LoRA", pytest.param("Full", marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
def test_a_run_goes_on_with_half_and_with_twice_the_ranks_and_at_other_stages(
    document: Callable[..., dict[str, Any]], tmp_path: Path, alone: dict[str, Any], train: str
) -> None:
    path = [(2, [1, 2, 3]), (1, [1, 2, 3]), (4, [1, 2, 3]), (2, [3, 0, 1])]
    for iteration, (size, stages) in enumerate(path, start=1):
        jobs = [document(f"run-{i}", stage, train, iterations=iteration) for i, stage in enumerate(stages)]
        for trained in on_ranks(size, runs, jobs, tmp_path):
            for weights in trained:
                assert difference(weights, alone[train][0][iteration - 1]) < ROUNDING, (iteration, size)
    for i in range(3):
        entries = diary(tmp_path, f"run-{i}")
        assert [entry["world_size"] for entry in entries] == [2, 2, 1, 4, 2]
        assert_same_numbers(entries, alone[train][1])
