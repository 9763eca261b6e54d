"""The grid of noise levels that sampling walks down.

Who calls this: the solver, the stochastic step and the policy. Levels are kept in float64 and
rounded once, when they meet a state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Noise levels sigma_0 = 1 > sigma_1 > ... > sigma_T = 0; index 0 is pure noise."""

    sigmas: tuple[float, ...]

    @property
    def steps(self) -> int:
        """T, the number of steps; the grid has T + 1 nodes."""
        return len(self.sigmas) - 1

    def at(self, nodes: Sequence[int] | Tensor, like: Tensor) -> Tensor:
        """Levels [N] of N nodes, in the dtype and on the device of `like`."""
        return torch.tensor(self.sigmas, dtype=torch.float64)[torch.as_tensor(nodes)].to(like)

    def delta(self, source: int, target: int) -> float:
        """D = sigma_target - sigma_source, negative on the way to the data."""
        return self.sigmas[target] - self.sigmas[source]


def shifted_grid(steps: int, shift: float) -> Grid:
    """The uniform grid u_i = 1 - i/T bent by the shift s: sigma = s u / (1 + (s - 1) u).

    The time shift of SD3 (arXiv 2403.03206, eq. 23). shift = 1 leaves the grid uniform; a larger
    one spends more steps near the noise.

    Raises:
        ValueError: steps < 1 or shift <= 0.
    """
    if steps < 1 or shift <= 0:
        raise ValueError(f"a grid needs steps >= 1 and shift > 0, got steps={steps}, shift={shift}")
    uniform = [1 - i / steps for i in range(steps + 1)]
    # The denominator 1 + (s - 1) u, so written that u = 1 gives exactly 1: the flow law divides by 1 - t.
    return Grid(tuple(shift * u / (shift * u + (1 - u)) for u in uniform))
