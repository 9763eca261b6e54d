"""What all families do alike with the parts of a diffusers pipeline: sizes, decoding, adapters on disk.

Who calls this: the families. How text becomes a velocity is theirs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft.utils import get_peft_model_state_dict
from torch import Tensor


def latent_size(pipeline: Any, patch: int, height: int, width: int) -> tuple[int, int]:
    """Height and width of a latent, for a transformer with tokens of patch x patch latent elements.

    Raises:
        ValueError: the picture is not a whole number of tokens.
    """
    factor = pipeline.vae_scale_factor
    multiple = factor * patch
    if height % multiple or width % multiple:
        raise ValueError(f"{height}x{width} pixels; this model needs multiples of {multiple}")
    return height // factor, width // factor


@torch.no_grad()
def decode(pipeline: Any, latents: Tensor, tiling_above_pixels: int) -> Tensor:
    """Pictures of latents [N, C, h, w]: float32 [N, 3, H, W] in [0, 1].

    Tiles have seams, so pictures of up to `tiling_above_pixels` are decoded whole.
    """
    vae = pipeline.vae
    pixels = latents.shape[-2] * latents.shape[-1] * pipeline.vae_scale_factor**2
    vae.use_tiling = pixels > tiling_above_pixels
    scaled = latents / vae.config.scaling_factor + vae.config.shift_factor
    return (vae.decode(scaled.to(vae.dtype), return_dict=False)[0].float() / 2 + 0.5).clamp(0, 1)


def save_adapters(pipeline: Any, folder: Path) -> None:
    """Write pytorch_lora_weights.safetensors, which `pipeline.load_lora_weights(folder)` reads.

    The configuration goes along: without it alpha would be taken for the rank.
    """
    pipeline.save_lora_weights(
        folder,
        transformer_lora_layers=get_peft_model_state_dict(pipeline.transformer),
        transformer_lora_adapter_metadata=pipeline.transformer.peft_config["default"].to_dict(),
    )
