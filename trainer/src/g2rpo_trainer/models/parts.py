"""What all families do with a diffusers pipeline: load it, freeze what is not trained, decode, save adapters.

Who calls this: the families. How text becomes a velocity is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn


@dataclass(frozen=True)
class Precision:
    """In what the weights of a pipeline are held."""

    transformer: torch.dtype
    """The transformer as it is loaded; adapters are float32 in any case."""
    frozen: torch.dtype
    """Text encoders and VAE."""


FLOAT32 = Precision(torch.float32, torch.float32)


def load_pipeline(kind: type[DiffusionPipeline], path: str, device: torch.device, precision: Precision) -> Any:
    """Load a hub id or a folder in diffusers' layout; a folder needs no network.

    Raises:
        OSError, ValueError: what diffusers says of a missing or damaged part, or a pipeline of another kind.
    """
    local = Path(path).is_dir()
    found = kind.load_config(path, local_files_only=local)["_class_name"]
    if found != kind.__name__:
        raise ValueError(f"it holds a {found}, not a {kind.__name__}; set spec.training.model.family to what it is")
    dtypes = {"transformer": precision.transformer, "default": precision.frozen}
    return kind.from_pretrained(path, dtype=dtypes, local_files_only=local).to(device)


def freeze(pipeline: DiffusionPipeline) -> None:
    """No gradient for what is not the transformer, and no dropout anywhere."""
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module):
            part.eval()
            if name != "transformer":
                part.requires_grad_(False)


@torch.no_grad()
def decode(vae: Any, latents: Tensor) -> Tensor:
    """Pictures of latents [N, C, h, w]: float32 [N, 3, H, W] in [0, 1]."""
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
