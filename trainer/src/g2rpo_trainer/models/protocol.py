"""What a model family is to the trainer: text in, velocities and pictures out.

One file per family implements this; `policy.py` is its only caller. Latents are float32 at this
border, whatever the precision inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

Conditioning = Mapping[str, Tensor]
"""Encoded prompts by the family's own names; each tensor has one row a prompt."""
Forward = Callable[..., tuple[Tensor, ...]]
"""The transformer's forward, or an engine around it."""


class Family(Protocol):
    """A text-to-image flow model of one architecture."""

    @property
    def transformer(self) -> nn.Module:
        """The network that is trained."""
        ...

    @property
    def lora_targets(self) -> Sequence[str]:
        """Names of the linear layers that LoRA adapts unless the job names others."""
        ...

    @property
    def rows_per_call(self) -> int:
        """Transformer rows behind one velocity: 2 with classifier-free guidance, else 1."""
        ...

    def encode(self, texts: Sequence[str]) -> Conditioning:
        """Encode n prompts; rows in order. Without gradient."""
        ...

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Shape of the latent of a picture of this many pixels.

        Raises:
            ValueError: the size is not a multiple of what the model needs.
        """
        ...

    def velocity(self, forward: Forward, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """v for latents x [N, ...] at `timestep` [N] = 1000 sigma; float32 [N, ...]."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents [N, ...]: float32 [N, 3, H, W] in [0, 1]. Without gradient."""
        ...

    def save_lora(self, folder: Path) -> None:
        """Write the adapters as the family's diffusers pipeline loads them."""
        ...
