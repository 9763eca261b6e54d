"""Families on small pipelines of the real classes, and pictures as the trainer and as diffusers draw them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from g2rpo_trainer.flow.schedule import shifted_grid
from g2rpo_trainer.flow.solver import trajectory
from g2rpo_trainer.miniature.recipe import MODEL_FOLDER
from g2rpo_trainer.miniature.vocabulary import clip_tokenizer, t5_tokenizer
from g2rpo_trainer.models.flux1 import Flux1
from g2rpo_trainer.models.parts import FLOAT32, Precision
from g2rpo_trainer.models.protocol import Family, Forward
from g2rpo_trainer.models.sd3 import SD3
from g2rpo_trainer.policy import Model, TextCache
from g2rpo_trainer.timing import Counter

PROMPTS = ("the number 4 7", "the number 0 3")
STEPS = 4
TOKENS = 8
CPU = torch.device("cpu")
FLUX_TRANSFORMER: Mapping[str, Any] = {
    "in_channels": 16,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 24,
    "axes_dims_rope": (4, 6, 6),
}
FLUX_VAE: Mapping[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (8, 16),
    "latent_channels": 4,
    "norm_num_groups": 4,
    "scaling_factor": 0.4,
    "shift_factor": 0.2,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


def flux_pipeline(guidance_embeds: bool) -> FluxPipeline:
    """FLUX.1 with few and random weights: -dev, or without guidance -schnell."""
    torch.manual_seed(5)
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    ids = {"bos_token_id": clip.bos_token_id, "eos_token_id": clip.eos_token_id, "pad_token_id": clip.pad_token_id}
    widths = {"hidden_size": 24, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = CLIPTextConfig(vocab_size=len(clip), max_position_embeddings=TOKENS, **ids, **widths)
    long = T5Config(vocab_size=len(t5), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2, use_cache=False)
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=AutoencoderKL(**FLUX_VAE),
        text_encoder=CLIPTextModel(text),
        tokenizer=clip,
        text_encoder_2=T5EncoderModel(long),
        tokenizer_2=t5,
        transformer=FluxTransformer2DModel(**FLUX_TRANSFORMER, guidance_embeds=guidance_embeds),
    )


@dataclass(frozen=True)
class Case:
    """A family on a model in a folder, and how diffusers is asked for the same."""

    kind: type[SD3] | type[Flux1]
    folder: Path
    guidance: float
    size: tuple[int, int]
    """Height and width that it draws, in pixels."""
    multiple: int

    def load(self, precision: Precision = FLOAT32) -> Any:
        """The family."""
        torch.set_num_threads(1)
        return self.kind.load(str(self.folder), CPU, self.guidance, TOKENS, precision)

    def stock(self) -> Any:
        """The pipeline without our code."""
        pipeline = DiffusionPipeline.from_pretrained(self.folder, local_files_only=True)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def latents(self, size: tuple[int, int] | None = None) -> Tensor:
        """Noise for each prompt."""
        shape = self.load().latent_shape(*(size or self.size))
        return torch.randn(len(PROMPTS), *shape, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def theirs(self, pipeline: Any, z: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Pictures as diffusers draws them; the pipeline's scheduler shifts the grid."""
        height, width = size or self.size
        packed = pipeline._pack_latents(z, *z.shape) if self.kind is Flux1 else z
        return pipeline(
            list(PROMPTS),
            height=height,
            width=width,
            sigmas=[1 - i / STEPS for i in range(STEPS)],
            guidance_scale=self.guidance,
            max_sequence_length=TOKENS,
            latents=packed,
            output_type="pt",
        ).images.float()


def model_of(family: Family, z: Tensor, forward: Forward | None = None) -> Model:
    """A family as the trainer uses it."""
    return Model(
        family=family,
        forward=forward or family.transformer,
        device=CPU,
        latent_shape=tuple(z.shape[1:]),
        max_batch=2,
        truncate_timestep=False,
        reference=lambda: pytest.fail("no reference is asked for"),
        texts=TextCache(family),
        counter=Counter(),
    )


@torch.no_grad()
def drawn(family: Family, z: Tensor, shift: float, forward: Forward | None = None) -> Tensor:
    """Pictures as the trainer draws them."""
    policy = model_of(family, z, forward).on(PROMPTS)
    return family.decode(trajectory(policy.velocity, shifted_grid(STEPS, shift), z, torch.arange(len(PROMPTS))).end)


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Case]:
    """A case per family and way of guidance, by name."""
    folder = tmp_path_factory.mktemp("flux")
    for name, guidance_embeds in (("dev", True), ("schnell", False)):
        flux_pipeline(guidance_embeds).save_pretrained(folder / name)
    return {
        "SD3": Case(SD3, MODEL_FOLDER, 1.0, (16, 32), 4),
        "SD3 guided": Case(SD3, MODEL_FOLDER, 2.5, (16, 32), 4),
        "FLUX.1-dev": Case(Flux1, folder / "dev", 3.5, (24, 16), 4),
        "FLUX.1-schnell": Case(Flux1, folder / "schnell", 1.0, (24, 16), 4),
    }


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    """`drawn`."""
    return drawn


@pytest.fixture
def prompts() -> Sequence[str]:
    """Two prompts."""
    return PROMPTS
