from __future__ import annotations

import logging

import pytest
import torch

from g2rpo_trainer.errors import DivergedError
from g2rpo_trainer.first_step import verify_first_step
from g2rpo_trainer.records import LossStats
from g2rpo_trainer.summary import UpdateStats


def update(ratio: float = 1.0, advantage: float = 1.0, norm: float | None = 0.5, later: float = 1.3) -> UpdateStats:
    """An update whose first loss has one member off by `ratio`; ratios of later steps may be anything."""
    first = LossStats(0, torch.tensor([[1.0, ratio]]), torch.tensor([[advantage, -advantage]]), 0.0, 0.0)
    second = LossStats(1, torch.tensor([[later, 0.5]]), torch.tensor([[1.0, -1.0]]), 0.0, 0.0)
    return UpdateStats([first, second], [] if norm is None else [norm, 0.1], 0, 1e-4)


def test_a_first_step_as_it_should_be_is_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    verify_first_step(update(), 1e-4, warn=True)
    assert caplog.records == []


@pytest.mark.parametrize("ratio", [0.9, 1.06, float("nan"), float("inf")])
def test_a_ratio_that_is_not_1_where_no_weight_has_changed_ends_the_run(ratio: float) -> None:
    with pytest.raises(DivergedError, match="no weight has changed"):
        verify_first_step(update(ratio), 1e-4, warn=False)


def test_rounding_that_reaches_the_clip_range_is_warned_of_when_asked(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        verify_first_step(update(1.002), 1e-2, warn=True)
        verify_first_step(update(1.002), 1e-3, warn=False)
        assert caplog.records == []
        verify_first_step(update(1.002), 1e-3, warn=True)
    assert "clip range of 0.001" in caplog.text


def test_a_gradient_of_0_with_advantages_ends_the_run() -> None:
    with pytest.raises(DivergedError, match="no trained weight has a part in the velocity"):
        verify_first_step(update(norm=0.0), 1e-4, warn=False)


@pytest.mark.parametrize(("advantage", "norm"), [(0.0, 0.0), (1.0, None)])
def test_no_gradient_is_wanted_where_all_scored_the_same_or_the_step_was_skipped(
    advantage: float, norm: float | None
) -> None:
    verify_first_step(update(advantage=advantage, norm=norm), 1e-4, warn=True)
