"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206), through diffusers' StableDiffusion3Pipeline.

Who calls this: `loading.py`. Guidance is classifier-free: the prompt against the empty prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor, nn

from g2rpo_trainer.models.facts import LORA_TARGETS, rows_per_velocity
from g2rpo_trainer.models.parts import FLOAT32, Precision, decode, freeze, load_pipeline, save_adapters
from g2rpo_trainer.models.protocol import Conditioning, Forward


class SD3:
    """A loaded pipeline: the transformer is trained, everything else is frozen and used as it is."""

    lora_targets: Sequence[str] = LORA_TARGETS["SD3"]

    def __init__(self, pipeline: StableDiffusion3Pipeline, guidance_scale: float, max_sequence_length: int) -> None:
        """Take over a pipeline.

        Args:
            pipeline: on the device where it shall work.
            guidance_scale: weight of the prompt against the empty prompt; 1 is no guidance.
            max_sequence_length: T5 tokens of a prompt.
        """
        self._pipeline = pipeline
        self._guidance_scale = guidance_scale
        self._max_sequence_length = max_sequence_length
        freeze(pipeline)

    @classmethod
    def load(
        cls,
        path: str,
        device: torch.device,
        guidance_scale: float,
        max_sequence_length: int,
        precision: Precision = FLOAT32,
    ) -> SD3:
        """Load a hub id or a folder in diffusers' layout; a folder needs no network.

        Raises:
            OSError, ValueError: what diffusers says of a missing or damaged part.
        """
        pipeline = load_pipeline(StableDiffusion3Pipeline, path, device, precision)
        return cls(pipeline, guidance_scale, max_sequence_length)

    @property
    def transformer(self) -> nn.Module:
        """The MMDiT."""
        return self._pipeline.transformer

    @property
    def rows_per_call(self) -> int:
        """2 with classifier-free guidance, else 1."""
        return rows_per_velocity("SD3", self._guidance_scale)

    @property
    def _guided(self) -> bool:
        return self._guidance_scale > 1

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Conditioning:
        """Token embeddings [n, S, D] and pooled ones [n, E]; with guidance those of the empty prompt too."""
        tokens, empty_tokens, pooled, empty_pooled = self._pipeline.encode_prompt(
            prompt=list(texts),
            prompt_2=None,
            prompt_3=None,
            do_classifier_free_guidance=self._guided,
            max_sequence_length=self._max_sequence_length,
        )
        encoded = {"tokens": tokens, "pooled": pooled}
        return encoded | ({"empty_tokens": empty_tokens, "empty_pooled": empty_pooled} if self._guided else {})

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Channels, height and width of a latent."""
        factor = self._pipeline.vae_scale_factor
        multiple = factor * self._pipeline.patch_size
        if height % multiple or width % multiple:
            raise ValueError(f"{height}x{width} pixels; this model needs multiples of {multiple}")
        return (self._pipeline.transformer.config.in_channels, height // factor, width // factor)

    def velocity(self, forward: Forward, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """The transformer's output, guided if the scale asks for it: v_empty + s (v - v_empty)."""
        if not self._guided:
            return _call(forward, x, timestep, conditioning["tokens"], conditioning["pooled"])
        tokens = torch.cat([conditioning["tokens"], conditioning["empty_tokens"]])
        pooled = torch.cat([conditioning["pooled"], conditioning["empty_pooled"]])
        v, v_empty = _call(forward, x.repeat(2, 1, 1, 1), timestep.repeat(2), tokens, pooled).chunk(2)
        return v_empty + self._guidance_scale * (v - v_empty)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures in [0, 1]."""
        return decode(self._pipeline.vae, latents)

    def save_lora(self, folder: Path) -> None:
        """Write the adapters for `pipeline.load_lora_weights(folder)`."""
        save_adapters(self._pipeline, folder)


def _call(forward: Forward, x: Tensor, timestep: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
    (v,) = forward(
        hidden_states=x,
        timestep=timestep,
        encoder_hidden_states=tokens,
        pooled_projections=pooled,
        return_dict=False,
    )
    return v.float()
