"""What is public about the models that people name by their hub id, so that a job is judged before a download.

Who calls this: `sketch.py`. A folder on this machine speaks for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]
"""Arguments of a class in diffusers."""

CLIP_L, CLIP_L_PROJECTED, CLIP_G, T5_XXL = 123_060_480, 123_650_304, 694_659_840, 4_762_310_656
"""Parameters of text encoders."""


@dataclass(frozen=True)
class Published:
    """A pipeline in numbers."""

    transformer: Config
    vae: Config
    text_encoder_parameters: int
    clip_tokens: int = 77


_VAE: Config = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "sample_size": 1024,
}
_FLUX: Config = {"num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128, "num_attention_heads": 24}
_SD3: Config = {
    "sample_size": 128,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "num_attention_heads": 24,
    "attention_head_dim": 64,
    "pos_embed_max_size": 192,
}
_SD35_MEDIUM = {"pos_embed_max_size": 384, "qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13))}
_SD35_LARGE = {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "qk_norm": "rms_norm"}


def _flux(guidance: bool) -> Published:
    vae = {**_VAE, "scaling_factor": 0.3611, "shift_factor": 0.1159}
    return Published({**_FLUX, "guidance_embeds": guidance}, vae, CLIP_L + T5_XXL)


def _sd3(**changes: Any) -> Published:
    vae = {**_VAE, "scaling_factor": 1.5305, "shift_factor": 0.0609}
    return Published({**_SD3, **changes}, vae, CLIP_L_PROJECTED + CLIP_G + T5_XXL)


PUBLISHED: Mapping[str, Published] = {
    "black-forest-labs/FLUX.1-dev": _flux(guidance=True),
    "black-forest-labs/FLUX.1-schnell": _flux(guidance=False),
    "stabilityai/stable-diffusion-3-medium-diffusers": _sd3(),
    "stabilityai/stable-diffusion-3.5-medium": _sd3(**_SD35_MEDIUM),
    "stabilityai/stable-diffusion-3.5-large": _sd3(**_SD35_LARGE),
}
"""By hub id."""
