"""Deterministic walks down the grid: a whole trajectory, and the tails of many branches at once.

Who calls this: the algorithms and the evaluation. What a velocity costs is the policy's business;
here it is a function of rows, each with its own noise level and prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from g2rpo_trainer.flow.schedule import Grid
from g2rpo_trainer.flow.tails import following, tail_nodes

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x [N, ...], sigma [N], prompt [N]) -> v [N, ...]; `prompt` indexes the rank's prompts."""


@dataclass(frozen=True)
class Trajectory:
    """Every node of a walk over the whole grid, for N rows."""

    states: Tensor
    """x_0 .. x_T, [T + 1, N, ...]."""
    velocities: Tensor
    """v(x_i, sigma_i) for i = 0 .. T - 1, [T, N, ...]."""

    @property
    def end(self) -> Tensor:
        """x_T, the sample [N, ...]."""
        return self.states[-1]


def trajectory(velocity: Velocity, grid: Grid, z: Tensor, prompt: Tensor) -> Trajectory:
    """Euler's method from noise z [N, ...] down to the data: x_{i+1} = x_i + D v(x_i, sigma_i)."""
    states, velocities = [z], []
    for i in range(grid.steps):
        x = states[-1]
        v = velocity(x, grid.at([i] * len(x), x), prompt)
        velocities.append(v)
        states.append(x + grid.delta(i, i + 1) * v)
    return Trajectory(torch.stack(states), torch.stack(velocities))


@dataclass(frozen=True)
class _Block:
    """Branches of one stochastic step that are still in one state for some of the strides."""

    x: Tensor
    step: int
    """Position of the stochastic step among the steps."""
    strides: tuple[int, ...]
    """Positions of the strides that share this state."""


def finish(
    velocity: Velocity,
    grid: Grid,
    branches: Tensor,
    steps: Sequence[int],
    strides: Sequence[int],
    prompt: Tensor,
) -> Tensor:
    """Finish every branch deterministically, once per stride, evaluating equal states once.

    All branches of all steps and strides advance together, one evaluation per round, so that a
    round is one batch of rows with different noise levels.

    Args:
        velocity: see `Velocity`.
        grid: the fine grid.
        branches: states right after the stochastic step, [K, B, ...]: at node k + 1 for row k.
        steps: the K stochastic steps.
        strides: the L granularities.
        prompt: prompt of each of the B branches, [B].

    Returns:
        The samples, [K, L, B, ...].
    """
    tails = [[tail_nodes(grid.steps, k, stride) for stride in strides] for k in steps]
    landed = branches.new_empty((len(steps), len(strides), *branches.shape[1:]))
    front = [_Block(branches[i], i, tuple(range(len(strides)))) for i in range(len(steps))]
    depth = 0
    while front:
        nodes = [tails[block.step][block.strides[0]][depth] for block in front]
        values = _evaluate(velocity, grid, front, nodes, prompt)
        arrived: list[_Block] = []
        for block, node, v in zip(front, nodes, values, strict=True):
            for target, group in _next_nodes(tails[block.step], block.strides, depth, grid.steps).items():
                x = block.x + grid.delta(node, target) * v
                if target == grid.steps:
                    landed[block.step, list(group)] = x
                else:
                    arrived.append(_Block(x, block.step, group))
        front, depth = arrived, depth + 1
    return landed


def _evaluate(
    velocity: Velocity, grid: Grid, front: list[_Block], nodes: list[int], prompt: Tensor
) -> tuple[Tensor, ...]:
    """Velocities of all blocks in one batch, block by block."""
    x = torch.cat([block.x for block in front])
    sigma = grid.at(nodes, x).repeat_interleave(len(prompt))
    return velocity(x, sigma, prompt.repeat(len(front))).split(len(prompt))


def _next_nodes(
    tails: list[tuple[int, ...]], strides: tuple[int, ...], depth: int, steps: int
) -> dict[int, tuple[int, ...]]:
    """Strides of a block by the node that they go to next."""
    targets = {stride: following(tails[stride], depth, steps) for stride in strides}
    return {node: tuple(s for s in strides if targets[s] == node) for node in dict.fromkeys(targets.values())}
