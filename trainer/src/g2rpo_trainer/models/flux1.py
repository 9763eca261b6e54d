"""FLUX.1-dev and -schnell, through diffusers' FluxPipeline.

Who calls this: `loading.py`. The transformer takes squares of 2 x 2 latent elements as tokens, each with its
place in the picture; here and nowhere else latents are packed so. Guidance is an input of -dev, which
was distilled to obey it; -schnell has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from g2rpo_trainer.errors import DataError
from g2rpo_trainer.models.facts import LORA_TARGETS, NO_GUIDANCE_INPUT, rows_per_velocity
from g2rpo_trainer.models.parts import decode, latent_size, save_adapters
from g2rpo_trainer.models.protocol import Conditioning, Forward, Usage
from g2rpo_trainer.models.shift import scheduler_shift

PATCH = 2
"""Latent elements along a token's side."""
MILLE = 1000
"""The transformer multiplies by it what is passed as its timestep."""


class Flux1:
    """A loaded pipeline: the transformer is trained, everything else is frozen and used as it is."""

    lora_targets: Sequence[str] = LORA_TARGETS["Flux1"]

    def __init__(self, pipeline: Any, usage: Usage) -> None:
        """Take over a FluxPipeline.

        Raises:
            DataError: a guidance that the transformer cannot be told.
        """
        self.pipeline = pipeline
        self._usage = usage
        if usage.guidance_scale != 1 and not pipeline.transformer.config.guidance_embeds:
            raise DataError(NO_GUIDANCE_INPUT.format(usage.guidance_scale))

    @property
    def transformer(self) -> nn.Module:
        """The transformer."""
        return self.pipeline.transformer

    @property
    def rows_per_call(self) -> int:
        """1: guidance costs nothing."""
        return rows_per_velocity("Flux1", self._usage.guidance_scale)

    @staticmethod
    @torch.no_grad()
    def encode(encoders: Any, texts: Sequence[str], usage: Usage) -> Conditioning:
        """T5's embeddings of tokens [n, S, D] and CLIP's pooled ones [n, E]."""
        tokens, pooled, _ = encoders.encode_prompt(
            prompt=list(texts), prompt_2=None, max_sequence_length=usage.max_sequence_length
        )
        return {"tokens": tokens, "pooled": pooled}

    @property
    def patch_pixels(self) -> int:
        """A token's side: 16 for FLUX.1."""
        return int(self.pipeline.vae_scale_factor) * PATCH

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Channels, height and width of a latent."""
        size = latent_size(self.pipeline, PATCH, height, width)
        return (self.pipeline.transformer.config.in_channels // PATCH**2, *size)

    def own_shift(self, height: int, width: int) -> float:
        """That of the pipeline's scheduler: by the size of the picture for -dev, fixed for -schnell."""
        _, rows, columns = self.latent_shape(height, width)
        return scheduler_shift(self.pipeline.scheduler.config, rows * columns // PATCH**2)

    def velocity(self, forward: Forward, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """The transformer's output for latents [N, C, h, w], unpacked."""
        rows, columns = x.shape[-2] // PATCH, x.shape[-1] // PATCH
        embedded = self.pipeline.transformer.config.guidance_embeds
        (v,) = forward(
            hidden_states=pixel_unshuffle(x, PATCH).flatten(2).transpose(1, 2),
            timestep=timestep / MILLE,
            guidance=torch.full_like(timestep, self._usage.guidance_scale) if embedded else None,
            encoder_hidden_states=conditioning["tokens"],
            pooled_projections=conditioning["pooled"],
            txt_ids=x.new_zeros(conditioning["tokens"].shape[1], 3),
            img_ids=_places(rows, columns).to(x),
            return_dict=False,
        )
        return pixel_shuffle(v.float().transpose(1, 2).unflatten(2, (rows, columns)), PATCH)

    def stock_arguments(self, z: Tensor, conditioning: Conditioning) -> Mapping[str, Any]:
        """The latents in the pipeline's order: a token's channels outermost, as pixel_unshuffle has them."""
        return {
            "latents": pixel_unshuffle(z, PATCH).flatten(2).transpose(1, 2),
            "guidance_scale": self._usage.guidance_scale,
            "prompt_embeds": conditioning["tokens"],
            "pooled_prompt_embeds": conditioning["pooled"],
        }

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures in [0, 1]."""
        return decode(self.pipeline, latents, self._usage.tiling_above_pixels)

    def save_lora(self, folder: Path) -> None:
        """Write the adapters for `pipeline.load_lora_weights(folder)`."""
        save_adapters(self.pipeline, folder)


def _places(rows: int, columns: int) -> Tensor:
    """Where each token is, row by row: [rows * columns, 3], the first number 0."""
    return torch.cartesian_prod(torch.zeros(1), torch.arange(float(rows)), torch.arange(float(columns)))
