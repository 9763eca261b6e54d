"""Deterministic pictures from fixed noise, scored by every reward: the curve to trust.

Who calls this: the loop, before training and every N iterations. All ranks share the work and make
equally many model calls, as sharded weights require.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from g2rpo_trainer import noise
from g2rpo_trainer.appearance import diversity
from g2rpo_trainer.correlation import over_pictures
from g2rpo_trainer.flow.schedule import Grid
from g2rpo_trainer.flow.solver import trajectory
from g2rpo_trainer.journal import EvaluationEntry
from g2rpo_trainer.policy import Model
from g2rpo_trainer.records import Prompt, PromptBatch
from g2rpo_trainer.rewards.scoring import Scorer
from g2rpo_trainer.summary import appearance_entry, correlation_entries, spread

T = TypeVar("T")
Split = Literal["eval", "unseen"]


@dataclass(frozen=True)
class EvaluationSet:
    """Prompts that are evaluated together."""

    split: Split
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True)
class Evaluator:
    """Evaluates the model as it is now."""

    model: Model
    grid: Grid
    seed: int
    scorer: Scorer
    """Asks all rewards, trained and held-out."""
    sets: tuple[EvaluationSet, ...]
    probes: tuple[Prompt, ...]
    rank: int
    world_size: int
    gather: Callable[[Tensor], list[Tensor]]

    def scores(self) -> list[EvaluationEntry]:
        """One entry per set, the same on every rank."""
        return [self._entry(group) for group in self.sets]

    def pictures(self) -> Tensor:
        """Pictures of the probes, float32 [n, 3, H, W] on the CPU; every rank draws them all."""
        return self.draw(self.probes)

    def draw(self, prompts: Sequence[Prompt]) -> Tensor:
        """Pictures of any prompts, float32 [n, 3, H, W] on the CPU."""
        return self.scorer.images(self._samples(prompts)).cpu()

    def start(self, prompts: Sequence[Prompt]) -> Tensor:
        """The noise that each prompt's picture starts from, named by its line in the file; float32 [n, ...]."""
        shape = self.model.latent_shape
        return torch.stack([noise.normal(shape, self.seed, noise.EVALUATION, prompt.index) for prompt in prompts])

    def _entry(self, group: EvaluationSet) -> EvaluationEntry:
        mine = share(group.prompts, self.rank, self.world_size)
        batch = PromptBatch(0, tuple(range(len(mine))), mine)
        scores = self.scorer(self._samples(mine), torch.arange(len(mine)), batch).values
        taken, count = self.scorer.album.take(), len(group.prompts)
        everyone, values, thumbnails = (
            torch.stack(self.gather(rows), dim=1).flatten(0, 1)[:count]
            for rows in (scores.T, taken.values, taken.thumbnails)
        )
        rewards = {entry.name: spread(everyone[:, m]) for m, entry in enumerate(self.scorer.rewards)}
        looks = appearance_entry(values, [diversity(thumbnails)])
        agreement = correlation_entries(list(rewards), over_pictures(everyone.T))
        return EvaluationEntry(
            split=group.split, prompts=count, rewards=rewards, correlations=agreement, appearance=looks
        )

    @torch.no_grad()
    def _samples(self, prompts: Sequence[Prompt]) -> Tensor:
        """Latents that the plain ODE gives each prompt."""
        policy = self.model.on([prompt.text for prompt in prompts])
        z = policy.to_device(self.start(prompts))
        return trajectory(policy.velocity, self.grid, z, torch.arange(len(prompts))).end


def share(items: Sequence[T], rank: int, world_size: int) -> tuple[T, ...]:
    """Every world_size-th item from `rank` on; as many for every rank, the first again where they run out."""
    count = -(-len(items) // world_size)
    return tuple(items[(rank + i * world_size) % len(items)] for i in range(count))
