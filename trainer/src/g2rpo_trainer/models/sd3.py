"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206), through diffusers' StableDiffusion3Pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusion3Pipeline
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from g2rpo_trainer.models.lora_targets import LORA_TARGETS
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
        for part in (pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2, pipeline.text_encoder_3):
            if part is not None:
                part.requires_grad_(False).eval()
        pipeline.transformer.eval()

    @classmethod
    def load(cls, path: str, device: torch.device, guidance_scale: float, max_sequence_length: int) -> SD3:
        """Load a hub id or a folder in diffusers' layout; a folder needs no network.

        Raises:
            OSError, ValueError: what diffusers says of a missing or damaged part.
        """
        local = Path(path).is_dir()
        pipeline = StableDiffusion3Pipeline.from_pretrained(path, dtype=torch.float32, local_files_only=local)
        return cls(pipeline.to(device), guidance_scale, max_sequence_length)

    @property
    def transformer(self) -> nn.Module:
        """The MMDiT."""
        return self._pipeline.transformer

    @property
    def rows_per_call(self) -> int:
        """2 with classifier-free guidance, else 1."""
        return 2 if self._guided else 1

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

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures in [0, 1]."""
        vae = self._pipeline.vae
        scaled = latents.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
        return (vae.decode(scaled, return_dict=False)[0].float() / 2 + 0.5).clamp(0, 1)

    def save_lora(self, folder: Path) -> None:
        """Write pytorch_lora_weights.safetensors, which `pipeline.load_lora_weights(folder)` reads.

        The configuration goes along: without it alpha would be taken for the rank.
        """
        StableDiffusion3Pipeline.save_lora_weights(
            folder,
            transformer_lora_layers=get_peft_model_state_dict(self.transformer),
            transformer_lora_adapter_metadata=self._pipeline.transformer.peft_config["default"].to_dict(),
        )


def _call(forward: Forward, x: Tensor, timestep: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
    (v,) = forward(
        hidden_states=x,
        timestep=timestep,
        encoder_hidden_states=tokens,
        pooled_projections=pooled,
        return_dict=False,
    )
    return v.float()
