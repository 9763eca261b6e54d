"""How the transformer is made fast: what computes its attention, and torch.compile.

Who calls this: `loading.py`. Neither changes what is computed, but for the last digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from torch import nn

from g2rpo_api.model import Attention
from g2rpo_trainer.errors import DataError

BACKENDS: Mapping[Attention, AttentionBackendName] = {
    "Native": AttentionBackendName.NATIVE,
    "NativeCudnn": AttentionBackendName._NATIVE_CUDNN,
    "NativeEfficient": AttentionBackendName._NATIVE_EFFICIENT,
    "NativeFlash": AttentionBackendName._NATIVE_FLASH,
    "NativeMath": AttentionBackendName._NATIVE_MATH,
    "Flex": AttentionBackendName.FLEX,
    "Flash": AttentionBackendName.FLASH,
    "Flash3": AttentionBackendName._FLASH_3,
    "XFormers": AttentionBackendName.XFORMERS,
}
"""diffusers' names of what can be differentiated and needs no download while it runs."""
KEY = "spec.training.model.attention"


def use_attention(transformer: Any, wanted: Attention, device: torch.device, compute: torch.dtype) -> None:
    """Let the named back-end compute attention, once it has been seen to work there.

    Raises:
        DataError: the transformer takes torch's own only, or the back-end does not work on this machine.
    """
    if wanted == "Native":
        return
    if not any(hasattr(getattr(part, "processor", None), "_attention_backend") for part in transformer.modules()):
        raise DataError(
            f"{KEY} is {wanted}, but diffusers' {type(transformer).__name__} takes torch's own attention only; set it "
            "to Native"
        )
    try:
        transformer.set_attention_backend(BACKENDS[wanted].value)
        _try(transformer, BACKENDS[wanted], device, compute)
    except (RuntimeError, ValueError, ImportError, TypeError, AssertionError) as error:
        transformer.set_attention_backend(BACKENDS["Native"].value)
        said = str(error).strip().partition("\n")[0]
        raise DataError(
            f"{KEY} is {wanted}, which does not work on this {device.type} with {compute}: {said}\n"
            "  set it to Native, or install what it needs"
        ) from error


def _try(transformer: Any, backend: AttentionBackendName, device: torch.device, compute: torch.dtype) -> None:
    """Attention of a few tokens with heads as the transformer has them, and its gradient."""
    config = transformer.config
    shape = (1, 16, config.num_attention_heads, config.attention_head_dim)
    tokens = torch.zeros(shape, dtype=compute, device=device, requires_grad=True)
    dispatch_attention_fn(tokens, tokens, tokens, backend=backend).sum().backward()


def compile_blocks(transformer: nn.Module, backend: str = "inductor") -> None:
    """Compile each block when it is first run, with one of torch's compilers; equal blocks share the result.

    The number of rows differs from call to call, so they are compiled for any.
    """
    for blocks in transformer.children():
        if isinstance(blocks, nn.ModuleList):
            for block in blocks:
                block.compile(dynamic=True, backend=backend)
