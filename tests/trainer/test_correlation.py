"""Against numpy's corrcoef and scipy's pearsonr, and by what a correlation must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from g2rpo_trainer.correlation import over_pictures, within_groups


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


NO_FLAT = torch.zeros(3, 2, 4, dtype=torch.bool)


def test_within_groups_it_is_the_mean_of_the_groups_correlations() -> None:
    scores = draw(3, 2, 4, 6)
    expected = np.mean([np.corrcoef(scores[:, i, j].double().numpy()) for i in range(2) for j in range(4)], axis=0)
    assert np.allclose(within_groups(scores, NO_FLAT).numpy(), expected, atol=1e-6)


def test_what_separates_groups_has_no_part_in_it() -> None:
    scores = draw(3, 2, 4, 6)
    easy = 100 * draw(1, 2, 4, 1, seed=1)
    assert torch.allclose(within_groups(scores + easy, NO_FLAT), within_groups(scores, NO_FLAT), atol=1e-3)


def test_scale_and_sign_of_a_reward_matter_as_for_any_correlation() -> None:
    a = draw(2, 4, 6)
    found = within_groups(torch.stack([a, 3 * a + 7, -0.1 * a]), NO_FLAT)
    assert torch.allclose(found, torch.tensor([[1.0, 1, -1], [1, 1, -1], [-1, -1, 1]]).double(), atol=1e-5)


def test_groups_that_a_reward_cannot_tell_apart_are_left_out_for_its_pairs_only() -> None:
    scores, flat = draw(3, 2, 4, 6), NO_FLAT.clone()
    scores[0, 0], flat[0, 0] = 0.5, True
    found = within_groups(scores, flat)
    some = np.mean([np.corrcoef(scores[:, 1, j].double().numpy()) for j in range(4)], axis=0)
    everyone = within_groups(scores[1:], NO_FLAT[1:])
    assert found[0, 1].item() == pytest.approx(some[0, 1], abs=1e-6)
    assert torch.equal(found[1:, 1:], everyone)


def test_groups_without_a_score_are_left_out() -> None:
    scores = draw(2, 2, 4, 6)
    spoilt = scores.clone()
    spoilt[1, 0, 2, 3] = torch.nan
    flat = torch.zeros(2, 2, 4, dtype=torch.bool)
    flat[1, 0, 2] = True
    assert torch.equal(within_groups(spoilt, NO_FLAT[:2]), within_groups(scores, flat))


def test_without_any_group_there_is_no_correlation() -> None:
    flat = torch.ones(2, 2, 4, dtype=torch.bool)
    assert within_groups(torch.zeros(2, 2, 4, 6), flat).isnan().all()


def test_over_pictures_it_is_pearsons() -> None:
    scores = draw(3, 40)
    found = over_pictures(scores)
    for i in range(3):
        for j in range(3):
            expected = pearsonr(scores[i].double().numpy(), scores[j].double().numpy()).statistic
            assert found[i, j].item() == pytest.approx(expected, abs=1e-9)


def test_over_pictures_only_those_count_that_both_scored() -> None:
    scores = draw(3, 40)
    scores[0, :10] = torch.nan
    scores[1, 5:20] = torch.nan
    found = over_pictures(scores)
    for i, j, known in ((0, 1, slice(20, 40)), (0, 2, slice(10, 40)), (1, 2, [*range(5), *range(20, 40)])):
        a, b = scores[i, known].double().numpy(), scores[j, known].double().numpy()
        assert found[i, j].item() == pytest.approx(pearsonr(a, b).statistic, abs=1e-9)
        assert found[i, j].item() == pytest.approx(found[j, i].item(), abs=1e-12)


def test_a_reward_that_says_the_same_of_all_agrees_with_none() -> None:
    found = over_pictures(torch.stack([torch.full((5,), 0.25), draw(5)]))
    assert found[0].isnan().all()
    assert found[1, 1].item() == pytest.approx(1)


def test_one_picture_or_none_is_too_few() -> None:
    assert over_pictures(draw(2, 1)).isnan().all()
    assert over_pictures(torch.full((2, 3), torch.nan)).isnan().all()
