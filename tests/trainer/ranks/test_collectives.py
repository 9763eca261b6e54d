"""Ranks make the same exchanges, whatever happens to one of them alone: otherwise they would wait for ever."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testtrainer.ranks import counted, on_ranks

Make = Callable[..., dict[str, Any]]
STAGES = [0, 1, 2, 3]
RAISES = {"rank": 1, "deed": "raise", "calls": 1}
"""After the evaluation before training."""


def rewards(*arguments: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": f"reward-{i}",
            "type": "Custom",
            "custom": {"entryPoint": "testtrainer.ranks:Brightness", "arguments": mine},
            "onFailure": "SkipGroup",
        }
        for i, mine in enumerate(arguments)
    ]


def diary(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def uneven_prompts(folder: Path) -> dict[str, Any]:
    """Five prompts, four an iteration: the last batch of an epoch takes from the next one."""
    path = folder / "prompts.txt"
    path.write_text("".join(f"the number {i}\n" for i in range(5)))
    return {"path": str(path), "perIteration": 4}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_skipped_groups_uneven_prompts_and_evaluations_do_not_part_ranks(
    document: Make, tmp_path: Path, size: int
) -> None:
    """An evaluation of three prompts, too, which neither two nor four ranks share evenly."""
    keys = {"prompts": uneven_prompts(tmp_path), "evaluation": {"everyIterations": 1, "maxPrompts": 3}}
    jobs = [
        document(f"{train}-{stage}".lower(), stage, train, rewards=rewards(mine), **keys)
        for stage, train, mine in [(0, "Full", RAISES), (2, "LoRA", RAISES), (3, "Full", RAISES), (3, "LoRA", {})]
    ]
    first, *others = on_ranks(size, counted, jobs, tmp_path)
    assert all(counts["all_reduce"] + counts["reduce"] > 0 for counts in first)
    assert all(other == first for other in others)
    for job in jobs[:-1]:
        entries = diary(tmp_path / job["metadata"]["name"])
        assert [entry["skipped_groups"] for entry in entries[1:]] == [4 // size] * 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_group_skipped_on_one_rank_does_not_stop_the_others_from_learning(document: Make, tmp_path: Path) -> None:
    jobs = [document(f"stage-{stage}", stage, "Full", rewards=rewards(RAISES)) for stage in STAGES]
    on_ranks(2, counted, jobs, tmp_path)
    norms = {stage: diary(tmp_path / f"stage-{stage}")[1]["policy"] for stage in STAGES}
    assert norms[0]["grad_norm"] > 0
    for stage in STAGES:
        assert norms[stage]["grad_norm"] == pytest.approx(norms[0]["grad_norm"], rel=1e-3)
