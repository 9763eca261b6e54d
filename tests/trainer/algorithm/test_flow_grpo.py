"""Whole random trajectories: Flow-GRPO, DanceGRPO and MixGRPO as settings of one walk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from g2rpo_trainer import noise
from g2rpo_trainer.algorithms.flow_grpo import SlidingWindow

Array = NDArray[np.float64]
SHAPE = (2, 3)
T = 8


def walked(
    paper: Any, algorithm: Any, function: Any, place: tuple[int, int, int], member: int, open_steps: list[int]
) -> tuple[Array, dict[int, tuple[Array, Array, float]]]:
    """End of one member's trajectory, and (x, x', log density) of its stochastic steps."""
    iteration, slot, prompt = place
    levels = paper.levels(T, 3.0)
    x = paper.draw(SHAPE, algorithm.seed, iteration, slot, -1 if algorithm.shared_start else member)
    taken = {}
    for k in range(T):
        v = function(x, levels[k], prompt)
        if k in open_steps:
            mean, std = paper.moments(algorithm.law, levels, k, algorithm.eta, x, v)
            y = mean + std * paper.draw(SHAPE, algorithm.seed, iteration, slot, member, k)
            taken[k] = (x, y, paper.log_density(y, mean, std))
            x = y
        else:
            x = x + (levels[k + 1] - levels[k]) * v
    return x, taken


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("law", "eta"), [("Flow", 0.7), ("Dance", 0.3), ("CPS", 0.8)])
@pytest.mark.parametrize("window", [None, SlidingWindow(3, 1, 2)])
def test_an_iteration_is_every_member_of_every_group_walked_alone(
    kit: Any, law: str, eta: float, shared: bool, window: SlidingWindow | None
) -> None:
    weights = [1.0, 0.5]
    options = {"law": law, "eta": eta, "shared_start": shared, "window": window}
    algorithm = kit.flow_grpo(weights=torch.tensor(weights), **options)
    experience = algorithm.collect(kit.toy(), kit.prompt_batch((4, 7), 5), kit.scorer(kit.two_rewards))
    open_steps = list(range(T - 1)) if algorithm.window is None else [2, 3, 4]
    assert [t.k for t in experience.transitions] == open_steps
    for p, slot in enumerate((4, 7)):
        members = [walked(kit.paper, algorithm, kit.toy().function, (5, slot, p), i, open_steps) for i in range(4)]
        rewards = np.array([[reward(end, p) for end, _ in members] for reward in kit.two_rewards])
        advantage = sum(w * kit.paper.standardized(r) for w, r in zip(weights, rewards, strict=True))
        assert experience.rollout.branch_rewards[:, 0, 0, p].numpy() == pytest.approx(rewards, abs=1e-5)
        assert experience.rollout.advantages[0, p].numpy() == pytest.approx(advantage, abs=1e-3)
        for transition in experience.transitions:
            for i, (_, taken) in enumerate(members):
                x, y, log_density = taken[transition.k]
                row = 4 * p + i
                assert transition.x[row].numpy() == pytest.approx(x, abs=1e-11)
                assert transition.x_next[row, 0].numpy() == pytest.approx(y, abs=1e-11)
                assert float(transition.log_prob[row, 0]) == pytest.approx(log_density, abs=1e-11)
                assert float(transition.advantage[row, 0]) == pytest.approx(advantage[i], abs=1e-3)
                assert int(transition.prompt[row]) == p


@pytest.mark.parametrize(
    ("iteration", "steps"),
    [
        (1, (0, 1, 2, 3)),
        (25, (0, 1, 2, 3)),
        (26, (1, 2, 3, 4)),
        (51, (2, 3, 4, 5)),
        (500, (19, 20, 21, 22)),
        (501, (20, 21, 22, 23)),
        (526, (20, 21, 22, 23)),
        (10_000, (20, 21, 22, 23)),
    ],
)
def test_the_published_window_moves_one_step_every_25_iterations_and_stays_at_the_end(
    iteration: int, steps: tuple[int, ...]
) -> None:
    assert SlidingWindow(size=4, stride=1, move_every_iterations=25).steps(iteration, 25) == steps


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 9), st.integers(1, 300), st.integers(2, 30))
def test_a_window_is_a_run_of_usable_steps_of_its_size_where_they_suffice(
    size: int, stride: int, every: int, iteration: int, grid_steps: int
) -> None:
    window = SlidingWindow(size, stride, every)
    steps = window.steps(iteration, grid_steps)
    assert list(steps) == list(range(steps[0], steps[0] + min(size, grid_steps - 1)))
    assert 0 <= steps[0] <= steps[-1] <= grid_steps - 2
    if steps[-1] < grid_steps - 2:
        assert steps[0] == stride * ((iteration - 1) // every)


def test_dancegrpo_costs_its_published_calls_and_trains_nine_of_fifteen_transitions(kit: Any) -> None:
    policy = kit.toy()
    algorithm = kit.flow_grpo(16, group_size=12, law="Dance", eta=0.3, train_fraction=0.6)
    experience = algorithm.collect(policy, kit.prompt_batch(), kit.scorer())
    assert len(policy.rows) == 192
    steps = [t.k for t in experience.transitions]
    assert len(set(steps)) == len(steps) == 9
    assert set(steps) <= set(range(15))
    policy.rows.clear()
    list(algorithm.losses(policy, experience))
    assert len(policy.rows) == 108


def test_mixgrpo_costs_its_published_calls(kit: Any) -> None:
    policy = kit.toy()
    algorithm = kit.flow_grpo(25, group_size=12, window=SlidingWindow(4, 1, 25))
    experience = algorithm.collect(policy, kit.prompt_batch(), kit.scorer())
    assert len(policy.rows) == 300
    policy.rows.clear()
    list(algorithm.losses(policy, experience))
    assert len(policy.rows) == 48


def test_the_trained_transitions_are_drawn_anew_each_iteration_and_alike_on_every_rank(kit: Any) -> None:
    algorithm = kit.flow_grpo(16, group_size=2, train_fraction=0.6)

    def trained(slots: tuple[int, ...], iteration: int) -> list[int]:
        return [t.k for t in algorithm.collect(kit.toy(), kit.prompt_batch(slots, iteration), kit.scorer()).transitions]

    orders = [trained((0,), iteration) for iteration in range(1, 7)]
    assert len({tuple(order) for order in orders}) == 6
    assert any(order != sorted(order) for order in orders)
    assert set().union(*orders) == set(range(15))
    assert trained((3, 8), 2) == orders[1]


@pytest.mark.parametrize(("fraction", "count"), [(0.01, 1), (0.5, 8), (0.6, 9), (0.62, 9), (0.64, 10), (0.99, 15)])
def test_the_trained_share_is_rounded_and_at_least_one(kit: Any, fraction: float, count: int) -> None:
    """0.5 of 15 is 7.5, of which 8."""
    algorithm = kit.flow_grpo(16, group_size=2, train_fraction=fraction)
    assert len(algorithm.collect(kit.toy(), kit.prompt_batch(), kit.scorer()).transitions) == count


def test_all_transitions_are_trained_noisiest_first(kit: Any) -> None:
    assert [t.k for t in kit.flow_grpo(16).collect(kit.toy(), kit.prompt_batch(), kit.scorer()).transitions] == list(
        range(15)
    )


@pytest.mark.parametrize("shared", [True, False])
def test_a_group_draws_its_starts_and_one_noise_for_each_member_and_step(
    kit: Any, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    original, names = noise.generator, set()

    def named(*key: int) -> Any:
        names.add(key)
        return original(*key)

    monkeypatch.setattr(noise, "generator", named)
    kit.flow_grpo(shared_start=shared).collect(kit.toy(), kit.prompt_batch((4,), 3), kit.scorer())
    starts = {(5, 3, 4, -1, -1)} if shared else {(5, 3, 4, i, -1) for i in range(4)}
    assert names == starts | {(5, 3, 4, i, k) for i in range(4) for k in range(T - 1)}


@pytest.mark.parametrize("shared", [True, False])
def test_members_start_together_only_where_the_start_is_shared(kit: Any, shared: bool) -> None:
    start = kit.flow_grpo(shared_start=shared).collect(kit.toy(), kit.prompt_batch((4,)), kit.scorer()).transitions[0].x
    assert len({row.numpy().tobytes() for row in start}) == (1 if shared else 4)


def test_a_group_with_an_unscored_member_is_skipped_whole_and_the_others_stay(kit: Any) -> None:
    algorithm = kit.flow_grpo()
    plain = algorithm.collect(kit.toy(), kit.prompt_batch((4, 7, 5)), kit.scorer())
    broken = algorithm.collect(kit.toy(), kit.prompt_batch((4, 7, 5)), kit.scorer(missing=((0, 6),)))
    assert broken.rollout.valid.tolist() == [True, False, True]
    for a, b in zip(plain.transitions, broken.transitions, strict=True):
        expected = a.advantage.clone()
        expected[4:8] = 0
        assert torch.equal(b.advantage, expected)


def test_records_have_the_shapes_that_they_state(kit: Any) -> None:
    """[M, L, K, P, G] with one granularity, and one advantage for all steps."""
    algorithm = kit.flow_grpo(weights=torch.ones(2))
    rollout = algorithm.collect(kit.toy(), kit.prompt_batch((4, 7, 5)), kit.scorer(kit.two_rewards)).rollout
    assert rollout.anchor_rewards is None
    assert rollout.branch_rewards.shape == (2, 1, 1, 3, 4)
    assert rollout.advantages.shape == rollout.clipped.shape == (1, 3, 4)
    assert rollout.zero_variance.shape == (2, 1, 1, 3)
