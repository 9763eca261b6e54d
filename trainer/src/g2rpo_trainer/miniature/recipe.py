"""The miniature as data: sizes, seeds, steps and prompts of the model folder that is shipped.

Who calls this: `components.py` builds from it, `training.py` trains by it, the tests hold the
shipped folder against it. Nothing here computes more than the split of the numbers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL_FOLDER = Path(__file__).parent / "model"
"""The shipped folder, as `StableDiffusion3Pipeline.from_pretrained` takes it."""

HEIGHT, WIDTH = 16, 32
"""Pixels of a picture."""

TEXT_TOKENS = 8
"""Length of every text: `model_max_length` of the CLIP tokenizers, `max_sequence_length` of T5."""

_LATENT_CHANNELS = 4
_BLOCKS = (8, 16)
_CLIP_WIDTH = 32
_TEXT_WIDTH = 2 * _CLIP_WIDTH
_IMAGE_WIDTH = 80
_HEADS = 5

VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * len(_BLOCKS),
    "up_block_types": ("UpDecoderBlock2D",) * len(_BLOCKS),
    "block_out_channels": _BLOCKS,
    "layers_per_block": 1,
    "latent_channels": _LATENT_CHANNELS,
    "norm_num_groups": 4,
    "sample_size": WIDTH,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "mid_block_add_attention": False,
}
"""AutoencoderKL: halves both sides, so a latent is 4 x 8 x 16. Scale and shift are measured."""

TRANSFORMER: dict[str, Any] = {
    "sample_size": 16,
    "patch_size": 2,
    "in_channels": _LATENT_CHANNELS,
    "out_channels": _LATENT_CHANNELS,
    "num_layers": 4,
    "attention_head_dim": _IMAGE_WIDTH // _HEADS,
    "num_attention_heads": _HEADS,
    "joint_attention_dim": _TEXT_WIDTH,
    "caption_projection_dim": _IMAGE_WIDTH,
    "pooled_projection_dim": _TEXT_WIDTH,
    "pos_embed_max_size": 8,
    "qk_norm": "rms_norm",
}
"""SD3Transformer2DModel: 32 image tokens and 16 text tokens."""

CLIP: dict[str, Any] = {
    "hidden_size": _CLIP_WIDTH,
    "projection_dim": _CLIP_WIDTH,
    "intermediate_size": 2 * _CLIP_WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": TEXT_TOKENS,
}
"""Each of the two CLIPTextModelWithProjection."""

T5: dict[str, Any] = {
    "d_model": _TEXT_WIDTH,
    "d_kv": 16,
    "d_ff": 2 * _TEXT_WIDTH,
    "num_layers": 2,
    "num_heads": 4,
    "dropout_rate": 0.0,
}
"""T5EncoderModel."""

SCHEDULER: dict[str, Any] = {"num_train_timesteps": 1000, "shift": 1.0}
"""FlowMatchEulerDiscreteScheduler: no shift."""


@dataclass(frozen=True)
class Schedule:
    """One training run of AdamW, its rate falling to 0 by a cosine after a linear start."""

    steps: int
    batch: int
    learning_rate: float
    warmup_steps: int


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, beside the configurations above."""

    seed: int
    renders_per_number: int
    vae: Schedule
    flow: Schedule
    kl_weight: float
    """Weight of the mean KL per latent value beside the mean squared error per pixel value."""


SHIPPED = Recipe(
    seed=7,
    renders_per_number=64,
    vae=Schedule(steps=600, batch=64, learning_rate=4e-3, warmup_steps=40),
    flow=Schedule(steps=1500, batch=64, learning_rate=4e-3, warmup_steps=100),
    kl_weight=1e-3,
)
"""The recipe of the shipped folder."""

_HELD_OUT = 20


def numbers() -> tuple[list[str], list[str]]:
    """The 100 numbers of two digits, shuffled once: 80 to train on and 20 held out, each sorted."""
    everything = [f"{n:02d}" for n in range(100)]
    random.Random(0).shuffle(everything)
    return sorted(everything[_HELD_OUT:]), sorted(everything[:_HELD_OUT])


def prompt(number: str) -> str:
    """The prompt that asks for a number: '47' to 'the number 4 7'."""
    return "the number " + " ".join(number)
