"""What a model family is to the trainer: text in, velocities and pictures out.

One file per family implements this; `policy.py` calls it for every velocity, `loading.py` puts it together.
Latents are float32 at this border, whatever the precision inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

Conditioning = Mapping[str, Tensor]
"""Encoded prompts by the family's own names; each tensor has one row a prompt."""
Forward = Callable[..., tuple[Tensor, ...]]
"""The transformer's forward, or an engine around it."""
NEVER = 2**63
"""No picture has as many pixels."""


@dataclass(frozen=True)
class Usage:
    """What a job asks of its model."""

    guidance_scale: float
    """1 is no guidance."""
    max_sequence_length: int
    """T5 tokens of a prompt."""
    tiling_above_pixels: int = NEVER
    """Pictures of more pixels are decoded tile by tile."""


class Family(Protocol):
    """A text-to-image flow model of one architecture."""

    def __init__(self, pipeline: Any, usage: Usage) -> None:
        """Take over a pipeline of the family's class in diffusers; its text encoders may be missing.

        Raises:
            DataError: the model cannot do what is asked of it.
        """
        ...

    @property
    def pipeline(self) -> Any:
        """The pipeline as diffusers made it, without text encoders."""
        ...

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

    @staticmethod
    def encode(encoders: Any, texts: Sequence[str], usage: Usage) -> Conditioning:
        """Encode n prompts by a pipeline that has text encoders; rows in order. Without gradient."""
        ...

    @property
    def patch_pixels(self) -> int:
        """Pixels along the side of what one token of the transformer covers."""
        ...

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Shape of the latent of a picture of this many pixels.

        Raises:
            ValueError: the size is not a multiple of what the model needs.
        """
        ...

    def own_shift(self, height: int, width: int) -> float:
        """The time shift with which the model's own scheduler draws a picture of this many pixels.

        Raises:
            DataError: its grid is not the uniform one with a shift.
        """
        ...

    def velocity(self, forward: Forward, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """v for latents x [N, ...] at `timestep` [N] = 1000 sigma; float32 [N, ...]."""
        ...

    def stock_arguments(self, z: Tensor, conditioning: Conditioning) -> Mapping[str, Any]:
        """What diffusers' pipeline is called with for the pictures of noise z [N, ...] and N encoded prompts."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents [N, ...]: float32 [N, 3, H, W] in [0, 1]. Without gradient."""
        ...

    def save_lora(self, folder: Path) -> None:
        """Write the adapters as the family's diffusers pipeline loads them."""
        ...
