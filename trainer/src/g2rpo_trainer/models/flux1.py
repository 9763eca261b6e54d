"""FLUX.1-dev and -schnell, through diffusers' FluxPipeline.

Who calls this: `loading.py`. The transformer takes squares of 2 x 2 latent elements as tokens, each with its
place in the picture; here and nowhere else latents are packed so. Guidance is an input of -dev, which
was distilled to obey it; -schnell has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import FluxPipeline
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from g2rpo_trainer.errors import DataError
from g2rpo_trainer.models.facts import LORA_TARGETS, rows_per_velocity
from g2rpo_trainer.models.parts import FLOAT32, Precision, decode, freeze, load_pipeline, save_adapters
from g2rpo_trainer.models.protocol import Conditioning, Forward

PATCH = 2
"""Latent elements along a token's side."""
MILLE = 1000
"""The transformer multiplies by it what is passed as its timestep."""


class Flux1:
    """A loaded pipeline: the transformer is trained, everything else is frozen and used as it is."""

    lora_targets: Sequence[str] = LORA_TARGETS["Flux1"]

    def __init__(self, pipeline: FluxPipeline, guidance_scale: float, max_sequence_length: int) -> None:
        """Take over a pipeline.

        Args:
            pipeline: on the device where it shall work.
            guidance_scale: what the transformer is told; 1 where it has no such input.
            max_sequence_length: T5 tokens of a prompt.

        Raises:
            DataError: a guidance that the transformer cannot be told.
        """
        self._pipeline = pipeline
        self._guidance_scale = guidance_scale
        self._max_sequence_length = max_sequence_length
        if guidance_scale != 1 and not pipeline.transformer.config.guidance_embeds:
            raise DataError(
                f"spec.training.sampling.guidanceScale is {guidance_scale:g}, but the model (as FLUX.1-schnell) has no "
                "input for guidance; set it to 1"
            )
        freeze(pipeline)

    @classmethod
    def load(
        cls,
        path: str,
        device: torch.device,
        guidance_scale: float,
        max_sequence_length: int,
        precision: Precision = FLOAT32,
    ) -> Flux1:
        """Load a hub id or a folder in diffusers' layout; a folder needs no network.

        Raises:
            OSError, ValueError: what diffusers says of a missing or damaged part.
            DataError: a guidance that the transformer cannot be told.
        """
        return cls(load_pipeline(FluxPipeline, path, device, precision), guidance_scale, max_sequence_length)

    @property
    def transformer(self) -> nn.Module:
        """The transformer."""
        return self._pipeline.transformer

    @property
    def rows_per_call(self) -> int:
        """1: guidance costs nothing."""
        return rows_per_velocity("Flux1", self._guidance_scale)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Conditioning:
        """T5's embeddings of tokens [n, S, D] and CLIP's pooled ones [n, E]."""
        tokens, pooled, _ = self._pipeline.encode_prompt(
            prompt=list(texts), prompt_2=None, max_sequence_length=self._max_sequence_length
        )
        return {"tokens": tokens, "pooled": pooled}

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Channels, height and width of a latent."""
        factor = self._pipeline.vae_scale_factor
        multiple = factor * PATCH
        if height % multiple or width % multiple:
            raise ValueError(f"{height}x{width} pixels; this model needs multiples of {multiple}")
        return (self._pipeline.transformer.config.in_channels // PATCH**2, height // factor, width // factor)

    def velocity(self, forward: Forward, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """The transformer's output for latents [N, C, h, w], unpacked."""
        rows, columns = x.shape[-2] // PATCH, x.shape[-1] // PATCH
        embedded = self._pipeline.transformer.config.guidance_embeds
        (v,) = forward(
            hidden_states=pixel_unshuffle(x, PATCH).flatten(2).transpose(1, 2),
            timestep=timestep / MILLE,
            guidance=torch.full_like(timestep, self._guidance_scale) if embedded else None,
            encoder_hidden_states=conditioning["tokens"],
            pooled_projections=conditioning["pooled"],
            txt_ids=x.new_zeros(conditioning["tokens"].shape[1], 3),
            img_ids=_places(rows, columns).to(x),
            return_dict=False,
        )
        return pixel_shuffle(v.float().transpose(1, 2).unflatten(2, (rows, columns)), PATCH)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures in [0, 1]."""
        return decode(self._pipeline.vae, latents)

    def save_lora(self, folder: Path) -> None:
        """Write the adapters for `pipeline.load_lora_weights(folder)`."""
        save_adapters(self._pipeline, folder)


def _places(rows: int, columns: int) -> Tensor:
    """Where each token is, row by row: [rows * columns, 3], the first number 0."""
    return torch.cartesian_prod(torch.zeros(1), torch.arange(float(rows)), torch.arange(float(columns)))
