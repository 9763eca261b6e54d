"""Singular stochastic sampling with granularities: a whole iteration, against loops over one branch at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from g2rpo_trainer import noise

Array = NDArray[np.float64]
SHAPE = (2, 3)


@dataclass
class Expected:
    """One group, computed alone."""

    anchor: Array
    """[M]."""
    rewards: Array
    """[M, L, K, G]."""
    x: Array
    """[K, ...]."""
    x_next: Array
    """[K, G, ...]."""
    log_prob: Array
    """[K, G]."""


def walk(function: Any, levels: Array, nodes: list[int], x: Array, prompt: int) -> Array:
    for here, there in pairwise(nodes):
        x = x + (levels[there] - levels[here]) * function(x, levels[here], prompt)
    return x


def alone(paper: Any, algorithm: Any, policy: Any, rewards: Sequence[Any], place: tuple[int, int, int]) -> Expected:
    """The group of a (iteration, slot, prompt): every branch walked from the start, nothing shared."""
    iteration, slot, prompt = place
    f, T = policy.function, algorithm.grid.steps
    levels = paper.levels(T, 3.0)
    z = paper.draw(SHAPE, algorithm.seed, iteration, slot)
    K, L, G = len(algorithm.steps), len(algorithm.granularities), algorithm.group_size
    end = walk(f, levels, list(range(T + 1)), z, prompt)
    group = Expected(
        anchor=np.array([reward(end, prompt) for reward in rewards]),
        rewards=np.empty((len(rewards), L, K, G)),
        x=np.empty((K, *SHAPE)),
        x_next=np.empty((K, G, *SHAPE)),
        log_prob=np.empty((K, G)),
    )
    for (row, k), i in product(enumerate(algorithm.steps), range(G)):
        x = walk(f, levels, list(range(k + 1)), z, prompt)
        mean, std = paper.moments(algorithm.law, levels, k, algorithm.eta, x, f(x, levels[k], prompt))
        y = mean + std * paper.draw(SHAPE, algorithm.seed, iteration, slot, i, k)
        group.x[row], group.x_next[row, i], group.log_prob[row, i] = x, y, paper.log_density(y, mean, std)
        for j, stride in enumerate(algorithm.granularities):
            picture = walk(f, levels, [*paper.tail(T, k, stride), T], y, prompt)
            group.rewards[:, j, row, i] = [reward(picture, prompt) for reward in rewards]
    return group


def integrated(paper: Any, rewards: Array, weights: Sequence[float], mean: bool = False, clip: float = 5.0) -> Array:
    """[M, L, K, G] -> [K, G]."""
    M, L, K, G = rewards.shape
    total = np.zeros((K, G))
    for m, j, k in product(range(M), range(L), range(K)):
        total[k] += weights[m] * paper.standardized(rewards[m, j, k]) / (L if mean else 1)
    return np.clip(total, -clip, clip)


@pytest.mark.parametrize("law", ["Flow", "Dance", "CPS"])
@pytest.mark.parametrize("aggregate", ["Sum", "Mean"])
def test_an_iteration_of_several_prompts_is_every_branch_of_every_group_walked_alone(
    kit: Any, law: str, aggregate: str
) -> None:
    weights = [1.0, 0.4]
    algorithm = kit.g2rpo(weights=torch.tensor(weights), law=law, aggregate=aggregate, advantage_clip=2.0)
    policy = kit.toy()
    experience = algorithm.collect(policy, kit.prompt_batch((4, 7, 5), 3), kit.scorer(kit.two_rewards))
    rollout = experience.rollout
    assert [t.k for t in experience.transitions] == list(algorithm.steps)
    for p, slot in enumerate((4, 7, 5)):
        group = alone(kit.paper, algorithm, policy, kit.two_rewards, (3, slot, p))
        assert rollout.anchor_rewards[:, p].numpy() == pytest.approx(group.anchor, abs=1e-5)
        assert rollout.branch_rewards[:, :, :, p].numpy() == pytest.approx(group.rewards, abs=1e-5)
        advantages = integrated(kit.paper, group.rewards, weights, aggregate == "Mean", 2.0)
        assert rollout.advantages[:, p].numpy() == pytest.approx(advantages, abs=1e-3)
        for row, transition in enumerate(experience.transitions):
            assert transition.x[p].numpy() == pytest.approx(group.x[row], abs=1e-11)
            assert transition.x_next[p].numpy() == pytest.approx(group.x_next[row], abs=1e-11)
            assert transition.log_prob[p].numpy() == pytest.approx(group.log_prob[row], abs=1e-11)
            assert transition.advantage[p].numpy() == pytest.approx(advantages[row], abs=1e-3)
            assert int(transition.prompt[p]) == p


def test_all_members_of_a_group_share_the_anchors_state_bit_for_bit(kit: Any) -> None:
    """There is one state a group, and taking the noise back leads from each member to it in float32."""
    algorithm = kit.g2rpo()
    experience = algorithm.collect(kit.toy(dtype=torch.float32), kit.prompt_batch((4, 7)), kit.scorer())
    anchor = kit.toy(dtype=torch.float32)
    z = torch.stack([noise.normal(SHAPE, 5, 1, slot) for slot in (4, 7)])
    states = {0: z}
    for i in range(4):
        level = torch.full((2,), algorithm.grid.sigmas[i])
        difference = algorithm.grid.sigmas[i + 1] - algorithm.grid.sigmas[i]
        states[i + 1] = states[i] + difference * anchor.velocity(states[i], level, torch.arange(2))
    for transition in experience.transitions:
        assert transition.x.shape == (2, *SHAPE)
        assert transition.x.dtype == transition.x_next.dtype == torch.float32
        assert torch.equal(transition.x, states[transition.k])


def test_equal_noise_gives_equal_rewards(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one noise for all members of a step, they are one picture, and the group has nothing to learn."""
    original = noise.normal
    monkeypatch.setattr(noise, "normal", lambda shape, a, b, c, member=-1, k=-1: original(shape, a, b, c, -1, k))
    algorithm = kit.g2rpo(weights=torch.ones(2))
    rollout = algorithm.collect(
        kit.toy(dtype=torch.float32), kit.prompt_batch((4, 7)), kit.scorer(kit.two_rewards)
    ).rollout
    members = rollout.branch_rewards
    assert torch.equal(members, members[..., :1].expand_as(members))
    assert torch.equal(rollout.advantages, torch.zeros_like(rollout.advantages))
    assert bool(rollout.zero_variance.all())


@pytest.mark.parametrize("k", [0, 1, 3, 6])
@pytest.mark.parametrize("update", ["PerStep", "PerIteration"])
def test_one_step_at_granularity_one_is_mixgrpo_with_a_window_of_one_step(kit: Any, k: int, update: str) -> None:
    """Same noise, states, rewards, advantages, losses and gradients."""
    from g2rpo_trainer.algorithms.flow_grpo import SlidingWindow

    net = kit.small_net(6)
    iteration = k + 1  # a window that moves every iteration has reached step k
    singular = kit.g2rpo(steps=(k,), granularities=(1,), update=update)
    window = kit.flow_grpo(window=SlidingWindow(1, 1, 1), update=update)
    results = []
    for algorithm in (singular, window):
        policy = kit.toy(function=net)
        experience = algorithm.collect(policy, kit.prompt_batch((4, 7), iteration), kit.scorer())
        net.zero_grad()
        total = sum(loss.value for loss in algorithm.losses(policy, experience))
        total.backward()
        results.append((experience, total.item(), [p.grad.clone() for p in net.parameters()]))
    (one, loss, gradient), (other, other_loss, other_gradient) = results
    (a,), (b,) = one.transitions, other.transitions
    assert a.k == b.k == k
    assert b.x_next.squeeze(1).numpy() == pytest.approx(a.x_next.flatten(0, 1).numpy(), abs=1e-12)
    assert b.log_prob.flatten().numpy() == pytest.approx(a.log_prob.flatten().numpy(), abs=1e-12)
    assert other.rollout.branch_rewards.numpy() == pytest.approx(one.rollout.branch_rewards.numpy(), abs=1e-6)
    assert b.advantage.flatten().numpy() == pytest.approx(a.advantage.flatten().numpy(), abs=1e-4)
    assert other_loss == pytest.approx(loss, abs=1e-6)
    for g, h in zip(gradient, other_gradient, strict=True):
        assert h.numpy() == pytest.approx(g.numpy(), abs=1e-5)


@settings(max_examples=10)
@given(st.permutations(range(4)))
def test_members_are_exchangeable(kit: Any, order: list[int]) -> None:
    """Members whose noise is swapped swap their rewards and advantages, and nothing else moves."""
    plain = kit.g2rpo().collect(kit.toy(), kit.prompt_batch((4,)), kit.scorer()).rollout
    with pytest.MonkeyPatch.context() as patch:
        original = noise.normal

        def swapped(shape: Any, a: int, b: int, c: int, member: int = -1, k: int = -1) -> torch.Tensor:
            return original(shape, a, b, c, order[member] if member >= 0 else member, k)

        patch.setattr(noise, "normal", swapped)
        permuted = kit.g2rpo().collect(kit.toy(), kit.prompt_batch((4,)), kit.scorer()).rollout
    assert permuted.branch_rewards.numpy() == pytest.approx(plain.branch_rewards[..., order].numpy(), abs=1e-6)
    assert permuted.advantages.numpy() == pytest.approx(plain.advantages[..., order].numpy(), abs=1e-4)


@settings(max_examples=10)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_the_granularities_does_not_matter(kit: Any, strides: list[int], random: Any) -> None:
    shuffled = random.sample(strides, len(strides))
    one, other = (
        kit.g2rpo(granularities=tuple(s)).collect(kit.toy(), kit.prompt_batch((4, 7)), kit.scorer()).rollout
        for s in (strides, shuffled)
    )
    assert other.advantages.numpy() == pytest.approx(one.advantages.numpy(), abs=1e-5)


def test_the_order_of_the_rewards_does_not_matter(kit: Any) -> None:
    one = (
        kit.g2rpo(weights=torch.tensor([1.0, 0.3]))
        .collect(kit.toy(), kit.prompt_batch((4, 7)), kit.scorer(kit.two_rewards))
        .rollout
    )
    other = kit.g2rpo(weights=torch.tensor([0.3, 1.0])).collect(
        kit.toy(), kit.prompt_batch((4, 7)), kit.scorer(kit.two_rewards[::-1])
    )
    assert other.rollout.advantages.numpy() == pytest.approx(one.advantages.numpy(), abs=1e-5)


def test_a_granularity_listed_twice_counts_twice_before_the_clamp_and_costs_nothing(kit: Any) -> None:
    def run(granularities: tuple[int, ...], clip: float) -> tuple[Any, int]:
        policy = kit.toy()
        algorithm = kit.g2rpo(granularities=granularities, advantage_clip=clip)
        return algorithm.collect(policy, kit.prompt_batch((4,)), kit.scorer()).rollout.advantages.numpy(), len(
            policy.rows
        )

    (one, _), (two, _), (both, rows) = run((1,), math.inf), run((2,), math.inf), run((1, 2), math.inf)
    twice, rows_twice = run((1, 2, 2), 3.0)
    assert twice == pytest.approx(np.clip(one + 2 * two, -3, 3), abs=1e-5)
    assert np.abs(one + 2 * two).max() > 3
    assert both == pytest.approx(one + two, abs=1e-5)
    assert rows_twice == rows


@pytest.mark.parametrize("update", ["PerStep", "PerIteration"])
def test_ranks_of_one_prompt_are_one_rank_of_all_prompts(kit: Any, update: str) -> None:
    """Slots name the noise; averaged over ranks, the gradients of each optimizer step are the whole batch's."""
    net, algorithm = kit.small_net(6), kit.g2rpo(update=update, kl_beta=0.1)

    def gradients(slots: tuple[int, ...], names: list[int]) -> tuple[list[Array], Any]:
        texts = torch.tensor(names)
        policy = kit.toy(
            function=lambda x, sigma, prompt: net(x, sigma, texts[prompt]),
            reference=lambda x, sigma, prompt: 0.5 * net(x, sigma, texts[prompt]),
        )
        score = kit.scorer((lambda x, p: float(np.sin(x).sum() + names[p] * x.mean()),))
        experience = algorithm.collect(policy, kit.prompt_batch(slots, 2), score)
        steps: list[Array] = []
        net.zero_grad()
        for loss in algorithm.losses(policy, experience):
            loss.value.backward()
            if loss.boundary:
                steps.append(np.concatenate([p.grad.numpy().ravel().copy() for p in net.parameters()]))
                net.zero_grad()
        return steps, experience.rollout

    whole, rollout = gradients((0, 1, 2), [3, 1, 2])
    ranks = [gradients((slot,), [name]) for slot, name in enumerate([3, 1, 2])]
    assert len(whole) == (3 if update == "PerStep" else 1)
    for step, gradient in enumerate(whole):
        assert np.abs(gradient).max() > 1e-3
        assert np.mean([g[step] for g, _ in ranks], axis=0) == pytest.approx(gradient, abs=1e-9, rel=1e-5)
    for slot, (_, alone_rollout) in enumerate(ranks):
        assert alone_rollout.advantages[:, 0].numpy() == pytest.approx(rollout.advantages[:, slot].numpy(), abs=1e-5)


# Rows of the scored batch: 3 anchors, then (step, granularity, prompt, member); each belongs to one prompt.
@pytest.mark.parametrize(("row", "prompt"), [(1, 1), (3, 0), (3 + 12 * 4 + 4 * 2 + 1, 2), (3 + 12 * 9 - 5, 1)])
@pytest.mark.parametrize("reward", [0, 1])
def test_a_group_with_an_unscored_picture_is_skipped_whole_and_the_others_stay(
    kit: Any, row: int, prompt: int, reward: int
) -> None:
    algorithm = kit.g2rpo(weights=torch.ones(2))

    def collected(missing: tuple[tuple[int, int], ...]) -> Any:
        return algorithm.collect(kit.toy(), kit.prompt_batch((4, 7, 5)), kit.scorer(kit.two_rewards, missing))

    broken, plain = collected(((reward, row),)), collected(())
    kept = [p for p in range(3) if p != prompt]
    assert broken.rollout.valid.tolist() == [p in kept for p in range(3)]
    assert torch.equal(broken.rollout.advantages[:, prompt], torch.zeros(3, 4))
    assert torch.equal(broken.rollout.advantages[:, kept], plain.rollout.advantages[:, kept])
    for transition, whole in zip(broken.transitions, plain.transitions, strict=True):
        assert torch.equal(transition.advantage[prompt], torch.zeros(4, dtype=torch.float64))
        assert torch.equal(transition.advantage[kept], whole.advantage[kept])


def test_a_skipped_group_leaves_a_finite_loss(kit: Any) -> None:
    algorithm = kit.g2rpo()
    experience = algorithm.collect(kit.toy(), kit.prompt_batch((4, 7)), kit.scorer(missing=((0, 5),)))
    assert all(math.isfinite(loss.value.item()) for loss in algorithm.losses(kit.toy(), experience))
