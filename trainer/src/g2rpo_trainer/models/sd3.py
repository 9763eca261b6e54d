"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206), through diffusers' StableDiffusion3Pipeline.

Who calls this: `loading.py`. Guidance is classifier-free: the prompt against the empty prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from g2rpo_trainer.models.facts import LORA_TARGETS, rows_per_velocity
from g2rpo_trainer.models.parts import decode, latent_size, save_adapters
from g2rpo_trainer.models.protocol import Conditioning, Forward, Usage
from g2rpo_trainer.models.shift import scheduler_shift


class SD3:
    """A loaded pipeline: the transformer is trained, everything else is frozen and used as it is."""

    lora_targets: Sequence[str] = LORA_TARGETS["SD3"]

    def __init__(self, pipeline: Any, usage: Usage) -> None:
        """Take over a StableDiffusion3Pipeline."""
        self.pipeline = pipeline
        self._usage = usage

    @property
    def transformer(self) -> nn.Module:
        """The MMDiT."""
        return self.pipeline.transformer

    @property
    def rows_per_call(self) -> int:
        """2 with classifier-free guidance, else 1."""
        return rows_per_velocity("SD3", self._usage.guidance_scale)

    @staticmethod
    @torch.no_grad()
    def encode(encoders: Any, texts: Sequence[str], usage: Usage) -> Conditioning:
        """Token embeddings [n, S, D] and pooled ones [n, E]; with guidance those of the empty prompt too."""
        guided = usage.guidance_scale > 1
        tokens, empty_tokens, pooled, empty_pooled = encoders.encode_prompt(
            prompt=list(texts),
            prompt_2=None,
            prompt_3=None,
            do_classifier_free_guidance=guided,
            max_sequence_length=usage.max_sequence_length,
        )
        encoded = {"tokens": tokens, "pooled": pooled}
        return encoded | ({"empty_tokens": empty_tokens, "empty_pooled": empty_pooled} if guided else {})

    @property
    def patch_pixels(self) -> int:
        """A token's side: 16 for SD3.5."""
        return int(self.pipeline.vae_scale_factor * self.pipeline.transformer.config.patch_size)

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Channels, height and width of a latent."""
        size = latent_size(self.pipeline, self.pipeline.transformer.config.patch_size, height, width)
        return (self.pipeline.transformer.config.in_channels, *size)

    def own_shift(self, height: int, width: int) -> float:
        """That of the pipeline's scheduler."""
        _, rows, columns = self.latent_shape(height, width)
        patch = self.pipeline.transformer.config.patch_size
        return scheduler_shift(self.pipeline.scheduler.config, rows * columns // patch**2)

    def velocity(self, forward: Forward, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """The transformer's output, guided if the scale asks for it: v_empty + s (v - v_empty)."""
        scale = self._usage.guidance_scale
        if scale == 1:
            return _call(forward, x, timestep, conditioning["tokens"], conditioning["pooled"])
        tokens = torch.cat([conditioning["tokens"], conditioning["empty_tokens"]])
        pooled = torch.cat([conditioning["pooled"], conditioning["empty_pooled"]])
        v, v_empty = _call(forward, x.repeat(2, 1, 1, 1), timestep.repeat(2), tokens, pooled).chunk(2)
        return v_empty + scale * (v - v_empty)

    def stock_arguments(self, z: Tensor, conditioning: Conditioning) -> Mapping[str, Any]:
        """The latents as they are; the empty prompt is the negative one."""
        empty = {f"negative_{name}": conditioning.get(f"empty_{part}") for name, part in _EMBEDS.items()}
        given = {name: conditioning[part] for name, part in _EMBEDS.items()}
        return {"latents": z, "guidance_scale": self._usage.guidance_scale, **given, **empty}

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures in [0, 1]."""
        return decode(self.pipeline, latents, self._usage.tiling_above_pixels)

    def save_lora(self, folder: Path) -> None:
        """Write the adapters for `pipeline.load_lora_weights(folder)`."""
        save_adapters(self.pipeline, folder)


_EMBEDS = {"prompt_embeds": "tokens", "pooled_prompt_embeds": "pooled"}
"""The pipeline's names for encoded prompts, and ours."""


def _call(forward: Forward, x: Tensor, timestep: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
    (v,) = forward(
        hidden_states=x,
        timestep=timestep,
        encoder_hidden_states=tokens,
        pooled_projections=pooled,
        return_dict=False,
    )
    return v.float()
