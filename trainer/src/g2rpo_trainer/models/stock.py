"""The stock pipeline with tuned weights: what everybody else draws with.

Who calls this: `verification.py` at the end of a run, `sampling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoModel
from torch import Tensor

from g2rpo_trainer.models.protocol import Conditioning, Family
from g2rpo_trainer.models.source import Source

WHOLE = "transformer"
"""Folder of an export that holds all weights of the transformer; one of adapters has none."""


def tuned_pipeline(source: Source, export: Path) -> Any:
    """The model's pipeline without text encoders, with the weights of an export.

    Raises:
        OSError, ValueError: what diffusers says of a missing or damaged part.
    """
    if not (export / WHOLE).is_dir():
        pipeline = source.load()
        pipeline.load_lora_weights(export)
        return pipeline
    return source.load(transformer=tuned_transformer(source, export))


def tuned_transformer(source: Source, export: Path) -> Any:
    """The whole transformer of an export."""
    held = source.precision.transformer
    return AutoModel.from_pretrained(str(export), subfolder=WHOLE, torch_dtype=held).to(source.device).eval()


def without_shift(pipeline: Any) -> None:
    """Let the pipeline walk the noise levels that it is called with, as they are."""
    scheduler = pipeline.scheduler
    pipeline.scheduler = type(scheduler).from_config(scheduler.config, shift=1.0, use_dynamic_shifting=False)


@torch.no_grad()
def stock_pictures(
    family: Family, pipeline: Any, z: Tensor, conditioning: Conditioning, sigmas: Sequence[float], compute: torch.dtype
) -> Tensor:
    """Pictures as the pipeline's own call draws them: float32 [N, 3, H, W] in [0, 1], on the CPU.

    Args:
        family: how the pipeline is called.
        pipeline: of the family's class.
        z: noise [N, ...].
        conditioning: N encoded prompts.
        sigmas: noise levels from 1 down, without the 0 at the end.
        compute: in what the transformer computes.
    """
    without_shift(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    height, width = (int(side * pipeline.vae_scale_factor) for side in z.shape[-2:])
    with torch.autocast(z.device.type, compute, enabled=compute != torch.float32, cache_enabled=False):
        called = family.stock_arguments(z, conditioning)
        images: Tensor = pipeline(**called, height=height, width=width, sigmas=list(sigmas), output_type="pt").images
    return images.float().cpu()
