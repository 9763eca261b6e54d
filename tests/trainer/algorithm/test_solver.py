"""Deterministic walks, against plain loops over one state at a time."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from g2rpo_trainer.flow.schedule import shifted_grid
from g2rpo_trainer.flow.solver import finish, trajectory

T, SHIFT = 9, 3.0
GRID = shifted_grid(T, SHIFT)
Array = NDArray[np.float64]


def walk(function: Any, levels: Array, nodes: list[int], x: Array, prompt: int) -> Array:
    """Euler's method along some nodes."""
    for here, there in pairwise(nodes):
        x = x + (levels[there] - levels[here]) * function(x, levels[here], prompt)
    return x


def finished(paper: Any, function: Any, branches: Array, plan: tuple[list[int], list[int], list[int]]) -> Array:
    """Samples [K, L, B, ...]: every branch of every step by every stride alone."""
    steps, strides, prompts = plan
    levels = paper.levels(T, SHIFT)
    ends = np.empty((len(steps), len(strides), *branches.shape[1:]))
    for (i, k), (j, stride), (b, prompt) in product(enumerate(steps), enumerate(strides), enumerate(prompts)):
        nodes = [*paper.tail(T, k, stride), T]
        ends[i, j, b] = walk(function, levels, nodes, branches[i, b], prompt)
    return ends


def noise(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def test_a_trajectory_is_eulers_method_of_every_row(kit: Any) -> None:
    z, levels = noise(3, 2, 3), kit.paper.levels(T, SHIFT)
    policy = kit.toy()
    result = trajectory(policy.velocity, GRID, torch.from_numpy(z), torch.tensor([0, 1, 1]))
    assert result.states.shape == (T + 1, 3, 2, 3)
    for row, prompt in enumerate([0, 1, 1]):
        for i in range(T + 1):
            state = walk(policy.function, levels, list(range(i + 1)), z[row], prompt)
            assert result.states[i, row].numpy() == pytest.approx(state, abs=1e-12)
            if i < T:
                velocity = policy.function(state, levels[i], prompt)
                assert result.velocities[i, row].numpy() == pytest.approx(velocity, abs=1e-12)
    assert torch.equal(result.end, result.states[T])
    assert policy.rounds == [3] * T


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, T - 2), min_size=1, max_size=5),
    st.lists(st.integers(1, T + 1), min_size=1, max_size=4),
    st.lists(st.integers(0, 2), min_size=1, max_size=3),
)
def test_branches_finish_together_as_they_finish_alone(
    kit: Any, steps: list[int], strides: list[int], prompts: list[int]
) -> None:
    """Any steps and strides, repeated ones included, in any order."""
    branches, policy = noise(len(steps), len(prompts), 2, 3), kit.toy()
    ends = finish(policy.velocity, GRID, torch.from_numpy(branches), steps, strides, torch.tensor(prompts))
    expected = finished(kit.paper, policy.function, branches, (steps, strides, prompts))
    assert ends.shape == (len(steps), len(strides), len(prompts), 2, 3)
    assert ends.numpy() == pytest.approx(expected, abs=1e-11)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_no_state_is_evaluated_twice_and_every_needed_one_is(kit: Any, strides: list[int]) -> None:
    """Wanted: the distinct (path so far) of all tails, each once for each of the two branches."""
    steps, policy = [0, 2, 5], kit.toy()
    branches = torch.from_numpy(noise(3, 2, 2, 3))
    finish(policy.velocity, GRID, branches, steps, strides, torch.tensor([0, 1]))
    tails = [(k, kit.paper.tail(T, k, stride)) for k in steps for stride in strides]
    wanted = {(k, *tail[: i + 1]) for k, tail in tails for i in range(len(tail))}
    assert len(policy.rows) == len(set(policy.rows)) == 2 * len(wanted)


def test_all_steps_and_strides_advance_in_one_batch_a_round(kit: Any) -> None:
    """The longest tail of step 0 has T - 1 evaluations, so there are as many rounds."""
    policy = kit.toy()
    finish(policy.velocity, GRID, torch.from_numpy(noise(3, 2, 2, 3)), [0, 1, 2], [1, 2], torch.tensor([0, 1]))
    assert len(policy.rounds) == T - 1
    assert policy.rounds[:2] == [6, 6]


def test_rows_keep_their_own_prompt(kit: Any) -> None:
    """With v = prompt, a branch ends at x - sigma_{k+1} prompt, whatever the stride."""
    branches, levels = noise(2, 3, 4), kit.paper.levels(T, SHIFT)
    policy = kit.toy(function=lambda x, sigma, prompt: 0 * x + prompt)
    ends = finish(policy.velocity, GRID, torch.from_numpy(branches), [1, 4], [1, 3], torch.tensor([5, 0, 2]))
    for i, k in enumerate([1, 4]):
        expected = branches[i] - levels[k + 1] * np.array([[5], [0], [2]])
        assert ends[i, 0].numpy() == pytest.approx(expected)
        assert ends[i, 1].numpy() == pytest.approx(expected)
