"""Granularities: which grid nodes a branch visits on its deterministic way to the data.

A tail starts at node k+1, right after the stochastic step k, and lands on node T (sigma = 0). With
stride lambda it visits k+1, then every lambda-th node from k+2 on, and lands from the last of them
in one step (arXiv 2510.01982, section 3.3). Pure integers, so that a job can be counted without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

Nodes = tuple[int, ...]


def tail_nodes(steps: int, k: int, stride: int) -> Nodes:
    """Nodes at which the tail of stochastic step `k` evaluates the velocity, noisiest first.

    Args:
        steps: T, number of grid steps; nodes are 0 (noise) .. T (data).
        k: the stochastic step, 0 <= k <= T - 2.
        stride: lambda >= 1, in grid steps.

    Returns:
        n(k, lambda) = ceil((T - 1 - k) / lambda) nodes; the tail lands on T from the last one.

    Raises:
        ValueError: k leaves no tail, or the stride is not positive.
    """
    if not 0 <= k <= steps - 2:
        raise ValueError(
            f"stochastic step {k} leaves no tail on a grid of {steps} steps: it must lie in 0..{steps - 2}"
        )
    if stride < 1:
        raise ValueError(f"stride {stride} must be at least 1")
    count = ceil((steps - 1 - k) / stride)
    return (k + 1, *(k + 2 + j * stride for j in range(count - 1)))


def following(tail: Nodes, depth: int, steps: int) -> int:
    """Node that comes after the `depth`-th evaluated one: the next of the tail, or T."""
    return tail[depth + 1] if depth + 1 < len(tail) else steps


def shared_calls(steps: int, k: int, strides: Sequence[int]) -> int:
    """Velocity evaluations that one branch of step `k` costs when equal states are evaluated once.

    Two tails are in the same state as long as they have visited the same nodes and go to the same
    next one, so the cost is the number of distinct prefixes.
    """
    tails = [tail_nodes(steps, k, stride) for stride in strides]
    return len({tail[: depth + 1] for tail in tails for depth in range(len(tail))})
