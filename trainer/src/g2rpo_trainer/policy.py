"""The model as a policy: velocities for rows, bound to the prompts they belong to.

Who calls this: the loop binds the prompts of an iteration (or an evaluation) and hands the result to
the algorithm. Batching and counting of model calls live here; mathematics does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from g2rpo_trainer.models.protocol import Conditioning, Family, Forward
from g2rpo_trainer.texts import TextCache
from g2rpo_trainer.timing import Counter

TIMESTEPS = 1000
"""Flow models of diffusers are conditioned on 1000 sigma."""


@dataclass(frozen=True)
class Model:
    """A family, its trained forward and how rows are batched."""

    family: Family
    forward: Forward
    device: torch.device
    latent_shape: tuple[int, ...]
    max_batch: int
    """Rows without gradient at once."""
    truncate_timestep: bool
    """Condition on whole thousandths of sigma instead of the exact value."""
    reference: Callable[[], AbstractContextManager[Forward]]
    """Enters the untrained model: yields its forward."""
    texts: TextCache
    counter: Counter
    """Rows that went through the transformer without gradient."""

    def on(self, texts: Sequence[str]) -> BoundPolicy:
        """The policy for these prompts; rows name them by position."""
        return BoundPolicy(self, self.texts.conditioning(texts))


@dataclass(frozen=True)
class BoundPolicy:
    """A model bound to encoded prompts. Implements `algorithms.surrogate.Policy`."""

    model: Model
    conditioning: Conditioning

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent, without the batch dimension."""
        return self.model.latent_shape

    def to_device(self, x: Tensor) -> Tensor:
        """The tensor on the model's device."""
        return x.to(self.model.device)

    def velocity(self, x: Tensor, sigma: Tensor, prompt: Tensor) -> Tensor:
        """v for x [N, ...] at sigma [N] under prompts [N]; float32 [N, ...].

        With gradient the rows go through in one call, since the caller bounds them; without, in
        equal parts of at most `max_batch` rows, and they are counted.
        """
        if torch.is_grad_enabled():
            return self._evaluate(self.model.forward, x, sigma, prompt)
        return self._evaluate_in_parts(self.model.forward, x, sigma, prompt)

    @torch.no_grad()
    def reference_velocity(self, x: Tensor, sigma: Tensor, prompt: Tensor) -> Tensor:
        """The same of the model as it was before training."""
        with self.model.reference() as forward:
            return self._evaluate_in_parts(forward, x, sigma, prompt)

    def _evaluate_in_parts(self, forward: Forward, x: Tensor, sigma: Tensor, prompt: Tensor) -> Tensor:
        self.model.counter.add(len(x) * self.model.family.rows_per_call)
        parts = -(-len(x) // self.model.max_batch)
        rows = zip(x.tensor_split(parts), sigma.tensor_split(parts), prompt.tensor_split(parts), strict=True)
        return torch.cat([self._evaluate(forward, *part) for part in rows])

    def _evaluate(self, forward: Forward, x: Tensor, sigma: Tensor, prompt: Tensor) -> Tensor:
        timestep = sigma * TIMESTEPS
        if self.model.truncate_timestep:
            timestep = timestep.floor()
        rows = {name: table[prompt] for name, table in self.conditioning.items()}
        return self.model.family.velocity(forward, x, timestep, rows)
