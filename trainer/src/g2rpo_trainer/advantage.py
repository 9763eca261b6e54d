"""Multi-granularity advantage integration (arXiv 2510.01982, section 3.3, eq. 12-13). Pure.

Who calls this: the algorithms, with raw scores; what comes out weighs the loss of each member.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Aggregate = Literal["Sum", "Mean"]
EPSILON = 1e-8


@dataclass(frozen=True)
class Advantages:
    """Integrated advantages and what happened on the way."""

    values: Tensor
    """A, clamped, [..., G]."""
    clipped: Tensor
    """Where the clamp cut, bool [..., G]."""
    zero_variance: Tensor
    """Cells (reward, granularity, ...) whose members all scored the same, bool [M, L, ...]."""


def group_zscore(rewards: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """a_i = (R_i - mean R) / (std R + 1e-8) over the last dimension, the group (std with ddof = 1).

    A group whose std is at most `tolerance` times its largest |R| gets exactly 0: its differences
    are rounding noise, which the division would blow up to full-size advantages.

    Args:
        rewards: scores [..., G], G >= 2.
        tolerance: relative to the largest |R| of the group.

    Returns:
        a [..., G] in float64, and the zero-variance mask [...].
    """
    scores = rewards.double()
    std, mean = torch.std_mean(scores, dim=-1, keepdim=True, correction=1)
    flat = std <= tolerance * scores.abs().amax(dim=-1, keepdim=True)
    a = torch.where(flat, 0.0, (scores - mean) / (std + EPSILON))
    return a, flat.squeeze(-1)


def integrate(rewards: Tensor, weights: Tensor, aggregate: Aggregate, clip: float, tolerance: float) -> Advantages:
    """A_i = clamp( sum_m w_m sum_lambda a_i^(lambda, m), -clip, clip ).

    Each reward is normalised within its group before rewards are added, so weights compare rewards
    of any scale. `Mean` divides the sum over granularities by their number.

    Args:
        rewards: scores [M, L, ..., G] of M rewards at L granularities.
        weights: w_m, [M].
        aggregate: over granularities.
        clip: largest |A|.
        tolerance: zero-variance tolerance, see `group_zscore`.

    Returns:
        Advantages with values [..., G] in float32.
    """
    a, flat = group_zscore(rewards, tolerance)
    over_granularities = a.sum(dim=1) if aggregate == "Sum" else a.mean(dim=1)
    total = torch.tensordot(weights.to(over_granularities), over_granularities, dims=1)
    return Advantages(total.clamp(-clip, clip).float(), total.abs() > clip, flat)
