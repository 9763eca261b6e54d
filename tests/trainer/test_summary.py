from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from g2rpo_trainer.journal import SpentEntry
from g2rpo_trainer.records import LossStats, Rollout
from g2rpo_trainer.summary import (
    Constants,
    Frame,
    RankReport,
    UpdateStats,
    appearance_entry,
    iteration_record,
    spread,
    untrained_record,
)
from g2rpo_trainer.timing import Pace, RankState

M, L, K, G = 2, 2, 3, 4
CONSTANTS = Constants(("a", "b"), (1.0, 2.0), (1, 3), (0, 1, 2), clip_range=0.1)
STATE = RankState(0, 0, Pace(compute=1.0, wait=0.0), {})
SPENT = SpentEntry(seconds=50.0, rank_seconds=100.0)
FRAME = Frame(7, 123.0, attempt=2, world_size=2, seconds={"rollout": 1.5}, step_seconds=2.0, evaluation=[], spent=SPENT)


def report(seed: int, prompts: int, valid: bool = True) -> RankReport:
    noise = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=noise)

    losses = [LossStats(k, 1 + 0.2 * draw(prompts, G), draw(prompts, G), float(k + seed), 0.5) for k in range(K)]
    rollout = Rollout(
        anchor_rewards=draw(M, prompts),
        branch_rewards=draw(M, L, K, prompts, G),
        advantages=draw(K, prompts, G),
        clipped=draw(K, prompts, G) > 1,
        zero_variance=draw(M, L, K, prompts) > 1.5,
        valid=torch.full((prompts,), valid),
    )
    update = UpdateStats(losses, [3.0, 5.0], skipped=1, learning_rate=1e-3 * seed)
    looks, diversities = draw(5 * prompts, 4).sigmoid(), [0.1 * seed] * prompts
    return RankReport(rollout, update, 10 * seed, seed, looks, diversities, STATE, [])


REPORTS = [report(1, 3), report(2, 1, valid=False)]
RECORD = iteration_record(FRAME, REPORTS, CONSTANTS)


def test_rewards_are_over_the_pictures_of_all_ranks_not_means_of_means() -> None:
    for m, entry in enumerate(RECORD.rewards):
        anchors = np.concatenate([r.rollout.anchor_rewards[m].double().numpy() for r in REPORTS])
        assert entry.anchor is not None
        assert entry.anchor.mean == pytest.approx(anchors.mean(), rel=1e-6)
        assert entry.anchor.std == pytest.approx(anchors.std(), rel=1e-6)
        for j, stride in enumerate(("1", "3")):
            values = np.concatenate([r.rollout.branch_rewards[m, j].double().numpy().ravel() for r in REPORTS])
            assert entry.branch[stride].mean == pytest.approx(values.mean(), rel=1e-6)
            assert (entry.branch[stride].min, entry.branch[stride].max) == (values.min(), values.max())


def test_rewards_agree_as_numpy_says_within_the_groups_that_both_can_tell_apart() -> None:
    branch = np.concatenate([r.rollout.branch_rewards.double().numpy() for r in REPORTS], axis=3)
    flat = np.concatenate([r.rollout.zero_variance.numpy() for r in REPORTS], axis=3).any(axis=0)
    a, b = branch[:, ~flat]
    expected = np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)])
    (found,) = RECORD.correlations
    assert (found.first, found.second) == ("a", "b")
    assert found.value == pytest.approx(expected, abs=1e-6)


def test_policy_health_is_recomputed_from_ratios_and_advantages() -> None:
    losses = [loss for r in REPORTS for loss in r.update.losses]
    ratio = np.concatenate([loss.ratio.numpy().ravel() for loss in losses]).astype(float)
    advantage = np.concatenate([loss.advantage.numpy().ravel() for loss in losses])
    policy = RECORD.policy
    assert policy is not None
    assert policy.ratio_mean == pytest.approx(ratio.mean())
    assert policy.ratio_std == pytest.approx(ratio.std())
    assert policy.clip_low == pytest.approx(((advantage < 0) & (ratio < 0.9)).mean())
    assert policy.clip_high == pytest.approx(((advantage > 0) & (ratio > 1.1)).mean())
    assert policy.approx_kl == pytest.approx((ratio - 1 - np.log(ratio)).mean())
    assert policy.grad_norm == 4.0
    assert (policy.optimizer_steps, policy.nonfinite_steps) == (2, 1)


def test_losses_weigh_by_members() -> None:
    # rank 1 has 3 prompts and losses k + 1, rank 2 has one and losses k + 2
    expected = sum(3 * (k + 1) + 1 * (k + 2) for k in range(K)) / (4 * K)
    assert RECORD.policy is not None
    assert RECORD.policy.loss == pytest.approx(expected)
    assert [step.loss for step in RECORD.policy.steps] == pytest.approx([(3 * (k + 1) + k + 2) / 4 for k in range(K)])


def test_the_spread_of_a_step_is_the_weighted_mean_of_group_deviations() -> None:
    branch = np.concatenate([r.rollout.branch_rewards.numpy() for r in REPORTS], axis=3)
    deviations = branch.std(axis=-1, ddof=1)
    assert RECORD.policy is not None
    for step in RECORD.policy.steps:
        expected = (deviations[0, :, step.k] + 2 * deviations[1, :, step.k]).mean()
        assert step.reward_std == pytest.approx(expected, rel=1e-5)


def test_counts_add_up_over_ranks() -> None:
    assert (RECORD.groups, RECORD.skipped_groups) == (4, 1)
    assert RECORD.zero_variance_groups == sum(int(r.rollout.zero_variance.sum()) for r in REPORTS)
    assert RECORD.cells == M * L * K * (3 + 1)
    assert (RECORD.model_calls, RECORD.images) == (30, 3)
    assert (RECORD.iteration, RECORD.attempt, RECORD.seconds) == (7, 2, {"rollout": 1.5})
    assert RECORD.spent == SPENT


def test_the_learning_rate_is_that_of_the_iteration() -> None:
    assert RECORD.policy is not None
    assert RECORD.policy.learning_rate == 1e-3


def test_pictures_count_one_by_one_and_prompts_one_by_one() -> None:
    looks = np.concatenate([r.appearance.double().numpy() for r in REPORTS]).mean(axis=0)
    assert RECORD.appearance is not None
    found = RECORD.appearance
    assert [found.saturation, found.brightness, found.contrast, found.lattice] == pytest.approx(looks)
    assert found.diversity == pytest.approx((3 * 0.1 + 1 * 0.2) / 4)


def test_prompts_with_a_single_picture_have_no_part_in_the_diversity() -> None:
    assert appearance_entry(torch.zeros(3, 4), [math.nan, 0.4, 0.2]).diversity == pytest.approx(0.3)
    assert math.isnan(appearance_entry(torch.zeros(1, 4), [math.nan]).diversity)


def test_advantages_are_summed_up_over_all_ranks() -> None:
    a = np.concatenate([r.rollout.advantages.numpy().ravel() for r in REPORTS])
    assert RECORD.advantage is not None
    assert RECORD.advantage.std == pytest.approx(a.std(), rel=1e-5)
    assert RECORD.advantage.absmax == pytest.approx(abs(a).max())


def test_a_spread_leaves_out_what_could_not_be_scored() -> None:
    known = spread(torch.tensor([1.0, torch.nan, 3.0]))
    assert (known.mean, known.std, known.min, known.max) == (2.0, 1.0, 1.0, 3.0)
    assert math.isnan(spread(torch.tensor([torch.nan])).mean)


def test_the_untrained_model_has_an_evaluation_and_no_update() -> None:
    record = untrained_record(FRAME)
    assert record.policy is None
    assert record.rewards == []
    assert record.model_calls == 0
