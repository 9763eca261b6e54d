"""AdamW and how its state is split, as the job says it and as DeepSpeed wants to hear it.

Who calls this: build makes the settings, the engine hands them to DeepSpeed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

LARGEST_BUCKET = 500_000_000
"""Gradients that ZeRO reduces at once; DeepSpeed's default."""


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW and how DeepSpeed splits its state."""

    learning_rate: float
    betas: tuple[float, float]
    epsilon: float
    weight_decay: float
    gradient_clip: float
    """Largest norm of the gradient over all weights."""
    zero_stage: int
    offload_optimizer: bool = False
    """Its state is in ordinary memory, and moves there; stages 1 to 3."""
    offload_parameters: bool = False
    """The weights' shares are in ordinary memory; stage 3."""


def deepspeed_config(settings: OptimizerSettings, trained: int, compute: torch.dtype) -> dict[str, Any]:
    """One micro-batch a rank; the loop, not a counter, says when a step is due.

    Args:
        settings: what the job says.
        trained: elements that are trained, over all ranks.
        compute: float32, or bfloat16 for torch's autocast.
    """
    # the buffer of gradients under way is allocated in full, however few there are
    bucket = min(LARGEST_BUCKET, trained)
    zero: dict[str, Any] = {"stage": settings.zero_stage, "overlap_comm": False, "reduce_bucket_size": bucket}
    on_cpu = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if settings.offload_optimizer:
        zero["offload_optimizer"] = on_cpu
    if settings.offload_parameters:
        zero["offload_param"] = on_cpu
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": settings.gradient_clip if settings.zero_stage > 0 else 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
        **_autocast(settings, compute),
    }


def _autocast(settings: OptimizerSettings, compute: torch.dtype) -> dict[str, Any]:
    """What ranks exchange stays float32, but under stage 3, where all weights travel for every batch, in bfloat16."""
    if compute == torch.float32:
        return {}
    exchanged: dict[str, Any] = {} if settings.zero_stage == 3 else {"lower_precision_safe_modules": []}
    return {"torch_autocast": {"enabled": True, "dtype": "bfloat16", **exchanged}}
