"""From raw scores to what weighs the loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from g2rpo_trainer.advantage import group_zscore, integrate

TOLERANCE = 1e-6
Array = NDArray[np.float64]

groups = st.lists(st.integers(-1000, 1000), min_size=2, max_size=16).map(lambda r: np.array(r) / 100)
seeds = st.integers(0, 10_000)


def zscore(rewards: Array, tolerance: float = TOLERANCE) -> Array:
    return group_zscore(torch.from_numpy(rewards), tolerance)[0].numpy()


def cells(seed: int, *shape: int) -> Array:
    """Scores [M, L, K, G] of different offset and scale for each reward."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-2, 3, size=(shape[0], *[1] * (len(shape) - 1)))
    return scale * (rng.standard_normal(shape) + rng.standard_normal())


def integrated(rewards: Array, weights: Any, aggregate: str = "Sum", clip: float = 5.0) -> Array:
    result = integrate(torch.from_numpy(rewards), torch.tensor(weights), aggregate, clip, TOLERANCE)
    return result.values.numpy()


def by_hand(paper: Any, rewards: Array, weights: Any, clip: float = 5.0) -> Array:
    """clamp(sum_m w_m sum_lambda a), cell by cell."""
    total = np.zeros(rewards.shape[2:])
    for m, weight in enumerate(weights):
        for granularity in rewards[m]:
            for k, group in enumerate(granularity):
                total[k] += weight * paper.standardized(group)
    return np.clip(total, -clip, clip)


@given(groups)
def test_a_group_is_standardized_by_the_deviation_over_g_minus_one(kit: Any, rewards: Array) -> None:
    assume(np.ptp(rewards) > 0)
    assert zscore(rewards) == pytest.approx(kit.paper.standardized(rewards), abs=1e-5)


@given(groups)
def test_the_advantages_of_a_group_add_up_to_zero(rewards: Array) -> None:
    assert zscore(rewards).sum() == pytest.approx(0, abs=1e-9)


@given(groups)
def test_the_squares_of_a_group_add_up_to_g_minus_one(rewards: Array) -> None:
    assume(np.ptp(rewards) > 0)
    assert (zscore(rewards) ** 2).sum() == pytest.approx(len(rewards) - 1, rel=1e-5)


@given(groups)
def test_no_advantage_exceeds_the_bound_of_its_group(rewards: Array) -> None:
    g = len(rewards)
    assert np.abs(zscore(rewards)).max() <= (g - 1) / math.sqrt(g) + 1e-9


@pytest.mark.parametrize("g", [2, 5, 12])
def test_a_single_better_member_reaches_the_bound(g: int) -> None:
    rewards = np.zeros(g)
    rewards[1] = 3
    assert zscore(rewards)[1] == pytest.approx((g - 1) / math.sqrt(g))


@given(groups, st.floats(0.01, 100), st.floats(-50, 50))
def test_advantages_do_not_feel_a_positive_scale_or_an_offset_of_the_reward(rewards: Array, a: float, b: float) -> None:
    assume(np.ptp(rewards) > 0)
    assert zscore(a * rewards + b) == pytest.approx(zscore(rewards), abs=1e-3)


@given(groups)
def test_a_negated_reward_negates_the_advantages(rewards: Array) -> None:
    assert zscore(-rewards) == pytest.approx(-zscore(rewards))


@given(st.floats(-1e6, 1e6), st.integers(2, 20))
def test_a_constant_group_has_exactly_zero_advantage_and_is_told(value: float, g: int) -> None:
    for tolerance in (TOLERANCE, 0.0):
        a, flat = group_zscore(torch.full((g,), value), tolerance)
        assert torch.equal(a, torch.zeros(g, dtype=torch.float64))
        assert bool(flat)


def test_differences_of_float32_rounding_count_as_none() -> None:
    noisy = torch.tensor([0.8, 0.8, np.nextafter(np.float32(0.8), np.float32(1)), 0.8])
    a, flat = group_zscore(noisy, TOLERANCE)
    assert torch.equal(a, torch.zeros(4, dtype=torch.float64))
    assert bool(flat)


@pytest.mark.parametrize(("spread", "is_flat"), [(0.9e-3, True), (1.1e-3, False)])
@pytest.mark.parametrize("scale", [1.0, -250.0])
def test_the_tolerance_is_relative_to_the_largest_score(spread: float, is_flat: bool, scale: float) -> None:
    """A pair (1, 1 - sqrt(2) d) has the deviation d."""
    rewards = scale * np.array([1, 1 - math.sqrt(2) * spread])
    a, flat = group_zscore(torch.from_numpy(rewards), 1e-3)
    assert bool(flat) is is_flat
    assert bool((a == 0).all()) is is_flat


def test_groups_are_judged_one_by_one() -> None:
    a, flat = group_zscore(torch.tensor([[1.0, 1.0], [1.0, 3.0]]), TOLERANCE)
    assert flat.tolist() == [True, False]
    assert a.numpy() == pytest.approx(np.array([[0, 0], [-1, 1]]) / math.sqrt(2) * [[1, 1], [1, 1]])


@given(seeds, st.integers(1, 3), st.integers(1, 4), st.integers(2, 9))
def test_advantages_are_the_clamped_weighted_sum_over_rewards_and_granularities(
    kit: Any, seed: int, m: int, granularities: int, g: int
) -> None:
    rewards, weights = cells(seed, m, granularities, 3, g), np.random.default_rng(seed).uniform(0.1, 2, m)
    for clip in (5.0, 1.0):
        expected = by_hand(kit.paper, rewards, weights, clip)
        assert integrated(rewards, weights, "Sum", clip) == pytest.approx(expected, abs=1e-5)


@given(seeds, st.integers(1, 4))
def test_the_mean_over_granularities_is_the_sum_over_their_number(kit: Any, seed: int, granularities: int) -> None:
    rewards = cells(seed, 2, granularities, 3, 5)
    expected = by_hand(kit.paper, rewards, [0.7, 1.5], math.inf) / granularities
    assert integrated(rewards, [0.7, 1.5], "Mean", math.inf) == pytest.approx(expected, abs=1e-5)


@given(seeds)
def test_a_granularity_listed_twice_counts_twice(kit: Any, seed: int) -> None:
    rewards = cells(seed, 2, 2, 3, 5)
    twice = rewards[:, [0, 1, 1]]
    a, b = (by_hand(kit.paper, rewards[:, [i]], [1.0, 1.0], math.inf) for i in (0, 1))
    assert integrated(twice, [1.0, 1.0]) == pytest.approx(np.clip(a + 2 * b, -5, 5), abs=1e-5)


@given(seeds, st.permutations(range(3)), st.permutations(range(4)))
def test_the_order_of_rewards_and_granularities_does_not_matter(seed: int, m: list[int], order: list[int]) -> None:
    rewards, weights = cells(seed, 3, 4, 2, 5), np.array([0.5, 1.0, 2.0])
    permuted = integrated(rewards[m][:, order], weights[m])
    assert permuted == pytest.approx(integrated(rewards, weights), abs=1e-6)


@given(seeds, st.permutations(range(5)))
def test_members_carry_their_advantage_with_them(seed: int, order: list[int]) -> None:
    rewards = cells(seed, 2, 3, 2, 5)
    permuted = integrated(rewards[..., order], [1.0, 0.5])
    assert permuted == pytest.approx(integrated(rewards, [1.0, 0.5])[..., order], abs=1e-6)


def test_the_clamp_cuts_the_sum_and_not_its_parts() -> None:
    """Three granularities of a lone winner among 12: 3 x 11 / sqrt(12) = 9.5, of which 5 remain."""
    rewards = np.zeros((1, 3, 1, 12))
    rewards[..., 4] = 1
    result = integrate(torch.from_numpy(rewards), torch.ones(1), "Sum", 5.0, TOLERANCE)
    expected = np.full(12, -3 / math.sqrt(12))
    expected[4] = 5
    assert result.values[0].numpy() == pytest.approx(expected, abs=1e-6)
    assert result.clipped[0].tolist() == [i == 4 for i in range(12)]


def test_the_clamp_cuts_on_both_sides() -> None:
    rewards = np.zeros((1, 3, 1, 12))
    rewards[..., 4] = -1
    result = integrate(torch.from_numpy(rewards), torch.ones(1), "Sum", 5.0, TOLERANCE)
    assert float(result.values[0, 4]) == -5
    assert bool(result.clipped[0, 4])


def test_a_cell_of_equal_scores_adds_nothing_and_is_named() -> None:
    rewards = cells(1, 2, 2, 3, 5)
    rewards[1, 0, 2] = 0.25
    result = integrate(torch.from_numpy(rewards), torch.ones(2), "Sum", 50.0, TOLERANCE)
    assert result.zero_variance.nonzero().tolist() == [[1, 0, 2]]
    others = rewards.copy()
    others[1, 0, 2] = 0
    assert result.values.numpy() == pytest.approx(integrated(others, [1.0, 1.0], "Sum", 50.0))


def test_advantages_are_in_float32_and_scores_in_float32_lose_nothing_on_the_way(kit: Any) -> None:
    """Scores near 1000 that differ by 1e-2: a float32 mean and deviation would leave few digits."""
    rewards = (1000 + np.array([0.01, 0.02, 0.04, 0.08])).astype(np.float32)
    result = integrate(torch.from_numpy(rewards).view(1, 1, 1, 4), torch.ones(1), "Sum", 5.0, 1e-9)
    assert result.values.dtype == torch.float32
    assert result.values[0].numpy() == pytest.approx(kit.paper.standardized(rewards.astype(np.float64)), rel=1e-6)
