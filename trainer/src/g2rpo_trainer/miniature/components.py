"""The miniature's pipeline with fresh weights, every component of the class that SD3.5 has.

Who calls this: `training.py`.
"""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel

from g2rpo_trainer.miniature import recipe
from g2rpo_trainer.miniature.vocabulary import clip_tokenizer, t5_tokenizer


def build_pipeline(seed: int) -> StableDiffusion3Pipeline:
    """An untrained pipeline; its weights depend on the seed alone."""
    torch.manual_seed(seed)
    tokenizers = clip_tokenizer(), clip_tokenizer()
    tokenizer_3 = t5_tokenizer()
    t5 = T5Config(vocab_size=len(tokenizer_3), use_cache=False, feed_forward_proj="gated-gelu", **recipe.T5)
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(**recipe.TRANSFORMER),
        scheduler=FlowMatchEulerDiscreteScheduler(**recipe.SCHEDULER),
        vae=AutoencoderKL(**recipe.VAE),
        text_encoder=_clip(tokenizers[0]),
        tokenizer=tokenizers[0],
        text_encoder_2=_clip(tokenizers[1]),
        tokenizer_2=tokenizers[1],
        text_encoder_3=T5EncoderModel(t5),
        tokenizer_3=tokenizer_3,
    )


def _clip(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **recipe.CLIP,
    )
    return CLIPTextModelWithProjection(config)
