"""The tables of docs/out-of-memory.md, row by row: the sample with one line changed, estimated again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from g2rpo_api.parse import parse_job
from g2rpo_trainer.planning.estimates import MemoryEstimate
from g2rpo_trainer.planning.memory import estimate
from g2rpo_trainer.planning.sizes import size_text
from g2rpo_trainer.planning.sketch import sketch

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "out-of-memory.md").read_text(encoding="utf-8").split("## What each saves")[1]
CHANGES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "as it is": ("flux1-hps-lora", {}),
    "`gradientCheckpointing: false`": ("flux1-hps-lora", {"model.gradientCheckpointing": False}),
    "`sampling.maxBatch: 48` instead of 12": ("flux1-hps-lora", {"sampling.maxBatch": 48}),
    "`sampling.maxDecodeBatch: 16` instead of 4": ("flux1-hps-lora", {"sampling.maxDecodeBatch": 16}),
    "`precision: Float32`": ("flux1-hps-lora", {"model.precision": "Float32"}),
    "1024 x 1024 pixels": ("flux1-hps-lora", {"sampling.height": 1024, "sampling.width": 1024}),
    **{str(stage): ("flux1-hps", {"deepspeed.zeroStage": stage}) for stage in (0, 2, 3)},
}
"""What each row is of: a sample, and keys below spec.training that are set otherwise."""


def rows() -> dict[str, list[str]]:
    """Cells by label."""
    lines = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("|") and "---" not in line]
    cells = [[cell.strip() for cell in line] for line in lines]
    return {label: values for label, *values in cells if values[0] != "most at once"}


def estimated(label: str) -> MemoryEstimate:
    sample, changes = CHANGES[label]
    document = yaml.safe_load((ROOT / "manifests" / "samples" / f"{sample}.yaml").read_text(encoding="utf-8"))
    for path, value in changes.items():
        section, key = path.split(".")
        document["spec"]["training"].setdefault(section, {})[key] = value
    job = parse_job(document)
    drawn = sketch(job.spec.training)
    assert drawn is not None
    return estimate(drawn, job.spec.workers.ranks)


def told(found: MemoryEstimate, sharded: bool) -> list[str]:
    """The cells of a row: of the first table, or of that of ZeRO stages."""
    stays, phases = found.resident, found.phases
    first = [size_text(found.total), found.worst]
    if not sharded:
        return [*first, *(size_text(phases[name]) for name in ("rollout", "decoding", "update"))]
    weights = stays["transformer"] + stays.get("master weights", 0)
    parts = (weights, stays["Adam's moments"], *(phases[name] for name in ("rollout", "update", "optimizer step")))
    return [*first, *(size_text(part) for part in parts)]


def test_every_row_is_known() -> None:
    assert rows().keys() == CHANGES.keys()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # so is full training in 16 bits
@pytest.mark.parametrize("label", CHANGES)
def test_a_row_says_what_the_check_up_says(label: str) -> None:
    assert rows()[label] == told(estimated(label), label.isdigit())
