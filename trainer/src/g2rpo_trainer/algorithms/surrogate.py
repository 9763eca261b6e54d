"""The clipped policy-gradient loss over stochastic steps, shared by every algorithm of the family.

PPO's surrogate (arXiv 1707.06347, eq. 7) on the Gaussian transitions of a flow model: with the ratio
r = exp(log p_new(x') - log p_old(x')), the loss of a member is max(-A r, -A clip(r, 1 - eps, 1 + eps)).
It degenerates to -A where r = 1 and has no gradient where the ratio already left the trust region in
the direction that A rewards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from g2rpo_trainer.flow.schedule import Grid
from g2rpo_trainer.records import Loss, LossStats, PromptBatch, Scores, Transitions

Update = Literal["PerStep", "PerIteration"]


class Policy(Protocol):
    """The model as an algorithm sees it: velocities for rows of states."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent, without the batch dimension."""
        ...

    def velocity(self, x: Tensor, sigma: Tensor, prompt: Tensor) -> Tensor:
        """v for x [N, ...] at noise levels sigma [N] under prompts [N]; float32 [N, ...]."""
        ...

    def reference_velocity(self, x: Tensor, sigma: Tensor, prompt: Tensor) -> Tensor:
        """The same of the model as it was before training, without gradient."""
        ...

    def to_device(self, x: Tensor) -> Tensor:
        """The tensor on the device of the policy."""
        ...


class Score(Protocol):
    """Decodes latents and asks the trained rewards."""

    def __call__(self, latents: Tensor, prompt: Tensor, batch: PromptBatch) -> Scores:
        """Scores of N latents [N, ...] whose prompts are batch.prompts[prompt]."""
        ...


@dataclass(frozen=True)
class UpdateSettings:
    """How transitions become optimizer steps."""

    clip_range: float
    """eps."""
    kl_beta: float
    """Weight of the KL to the untrained model; 0 spares its forward."""
    update: Update
    """One optimizer step for each stochastic step, or one for the iteration."""
    max_batch: int
    """Rows with gradient at once."""


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip_range: float) -> Tensor:
    """max(-A r, -A clip(r, 1 - eps, 1 + eps)), elementwise."""
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return torch.maximum(-advantage * ratio, -advantage * clipped)


def losses(
    policy: Policy, grid: Grid, transitions: tuple[Transitions, ...], settings: UpdateSettings
) -> Iterator[Loss]:
    """One loss per chunk of rows, transition by transition; lazily, so that a step in between is seen.

    The losses up to a boundary add up to the mean over members (and, for PerIteration, over
    transitions), whatever the chunk size.
    """
    per_iteration = settings.update == "PerIteration"
    for position, transition in enumerate(transitions):
        last = not per_iteration or position == len(transitions) - 1
        chunks = _chunks(transition, settings.max_batch)
        for i, chunk in enumerate(chunks):
            share = len(chunk.x) / len(transition.x) / (len(transitions) if per_iteration else 1)
            yield _chunk_loss(policy, grid, chunk, settings, share, last and i == len(chunks) - 1)


def _chunk_loss(
    policy: Policy, grid: Grid, rows: Transitions, settings: UpdateSettings, share: float, boundary: bool
) -> Loss:
    """Loss of some rows of one transition, weighted by their share of the optimizer step."""
    dims = rows.x.dim() - 1
    sigma = grid.at([rows.k] * len(rows.x), rows.x)
    v = policy.velocity(rows.x, sigma, rows.prompt)
    log_prob = rows.step.log_prob(rows.x_next, rows.x.unsqueeze(1), v.unsqueeze(1), dims)
    ratio = (log_prob - rows.log_prob).exp()
    surrogate = clipped_surrogate(ratio, rows.advantage, settings.clip_range).mean()
    value, kl = surrogate, 0.0
    if settings.kl_beta > 0:
        divergence = rows.step.kl(v, policy.reference_velocity(rows.x, sigma, rows.prompt), dims).mean()
        value, kl = surrogate + settings.kl_beta * divergence, divergence.item()
    stats = LossStats(rows.k, ratio.detach(), rows.advantage, surrogate.item(), kl)
    return Loss(value * share, boundary, stats)


def _chunks(transition: Transitions, size: int) -> list[Transitions]:
    """The transition's rows in runs of at most `size`."""
    starts = range(0, len(transition.x), size)
    return [transition.rows(slice(start, start + size)) for start in starts]
