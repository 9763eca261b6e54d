"""Small models of the real classes with random weights, as folders that the trainer loads."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

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
WIDTHS: Mapping[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


@pytest.fixture(autouse=True)
def no_log_of_wandb_stays_open() -> Iterator[None]:
    """A run that ends as if it were killed leaves the library's log open."""
    yield
    library = logging.getLogger("wandb")
    for handler in [handler for handler in library.handlers if isinstance(handler, logging.FileHandler)]:
        library.removeHandler(handler)
        handler.close()


def token_ids(tokenizer: Any) -> dict[str, int]:
    """What a CLIP's configuration says of its tokenizer."""
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return ids | {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length}


def flux_pipeline(guidance_embeds: bool) -> Any:
    """FLUX.1 with few and random weights: -dev, or without guidance -schnell."""
    import torch
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    from g2rpo_trainer.miniature.vocabulary import clip_tokenizer, t5_tokenizer

    torch.manual_seed(5)
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    long = T5Config(vocab_size=len(t5), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2, use_cache=False)
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=AutoencoderKL(**FLUX_VAE),
        text_encoder=CLIPTextModel(CLIPTextConfig(**token_ids(clip), **WIDTHS)),
        tokenizer=clip,
        text_encoder_2=T5EncoderModel(long),
        tokenizer_2=t5,
        transformer=FluxTransformer2DModel(**FLUX_TRANSFORMER, guidance_embeds=guidance_embeds),
    )


@pytest.fixture(scope="session")
def flux_folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Folders of `dev` and `schnell`: pictures in multiples of 4 pixels."""
    folder = tmp_path_factory.mktemp("flux")
    for name, guidance_embeds in (("dev", True), ("schnell", False)):
        flux_pipeline(guidance_embeds).save_pretrained(folder / name)
    return {name: folder / name for name in ("dev", "schnell")}


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with its tokenizer: sees 28 x 28 pixels."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    from g2rpo_trainer.miniature.vocabulary import clip_tokenizer

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(2)
    tokenizer = clip_tokenizer()
    act = {"hidden_act": "gelu", "projection_dim": 12}
    text = token_ids(tokenizer) | WIDTHS | act
    vision = {"image_size": 28, "patch_size": 7} | WIDTHS | act
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
