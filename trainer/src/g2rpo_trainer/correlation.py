"""Do two rewards want the same? Pearson's correlation of their scores, within groups and over pictures. Pure.

Who calls this: `summary.py` for rollouts, `evaluation.py` for evaluations. 1: the same; 0: nothing to do with each
other; below 0: what raises one lowers the other, so that training on both is a tug-of-war.
"""

from __future__ import annotations

import torch
from torch import Tensor

from g2rpo_trainer.advantage import group_zscore


def within_groups(scores: Tensor, flat: Tensor) -> Tensor:
    """Mean over groups of the correlation of each two rewards among a group's members.

    That is the correlation of their advantages: what separates groups, such as prompts that are easy for both, has
    no part in it.

    Args:
        scores: [M, ..., G] of M rewards; NaN where there is none.
        flat: bool [M, ...], groups whose members a reward scored the same; they are left out.

    Returns:
        float64 [M, M]; NaN where no group is left.
    """
    a, _ = group_zscore(scores, 0.0)
    products = torch.einsum("i...g,j...g->ij...", a, a).flatten(2) / (scores.shape[-1] - 1)
    empty = (flat | scores.isnan().any(dim=-1)).flatten(1)
    return products.masked_fill(empty.unsqueeze(0) | empty.unsqueeze(1), torch.nan).nanmean(dim=-1)


def over_pictures(scores: Tensor) -> Tensor:
    """Correlation of each two rewards over pictures that both scored.

    Args:
        scores: [M, N] of M rewards; NaN where there is none.

    Returns:
        float64 [M, M]; NaN where a reward scored all of them the same, or fewer than two were scored.
    """
    rows = scores.double()
    both = (~rows.isnan()).unsqueeze(0) & (~rows.isnan()).unsqueeze(1)
    x = torch.where(both, rows.unsqueeze(1), 0.0)
    count = both.sum(dim=-1, keepdim=True)
    deviations = torch.where(both, x - x.sum(dim=-1, keepdim=True) / count, 0.0)
    covariance = (deviations * deviations.transpose(0, 1)).sum(dim=-1)
    variance = (deviations**2).sum(dim=-1)
    return covariance / (variance * variance.T).sqrt()
