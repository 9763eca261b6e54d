"""The check-up with weights: a score is judged by where scores of its type can be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from g2rpo_trainer.planning.deep import RANGES, judged
from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.scoring import WeightedReward

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "rewards.md").read_text(encoding="utf-8")
USUAL = {
    kind: (float(low.replace("−", "-")), float(high))
    for kind, low, high in re.findall(r"^\| `(\w+)` \| [^|]+ \| (−?[\d.]+) to ([\d.]+) \|", GUIDE, re.MULTILINE)
}
"""What the guide calls usual, by type."""


class Saying:
    def __init__(self, score: float) -> None:
        self.value = score

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        return torch.full((len(prompts),), self.value)


def level(kind: str, score: float) -> str:
    entry = WeightedReward("a", Saying(score), 1.0, "Train", "Fail")
    finding = judged(entry, kind, torch.zeros(1, 3, 4, 4), (Prompt(0, "p", {}),))
    assert finding.key == "spec.training.rewards[name=a]"
    assert bool(finding.remedy) == (finding.level != "OK")
    return finding.level


def test_the_guide_tells_what_is_usual_of_every_type_that_is_judged() -> None:
    assert USUAL.keys() >= RANGES.keys()


@pytest.mark.parametrize("kind", sorted(USUAL))
def test_usual_scores_are_well(kind: str) -> None:
    assert [level(kind, score) for score in USUAL[kind]] == ["OK", "OK"]


@pytest.mark.parametrize(("kind", "score"), [("PaddleOCR", 1.01), ("HPSv2", 27.0), ("PickScore", 2100.0)])
def test_scores_that_cannot_be_are_warned_of(kind: str, score: float) -> None:
    assert level(kind, score) == "Warning"


def test_scores_of_types_without_a_range_may_be_anything() -> None:
    assert level("JPEG", -1e9) == "OK"
