"""Layers that LoRA adapts unless the job names others. No torch here: a job is counted without it.

Who calls this: the families, and planning.
"""

from __future__ import annotations

from g2rpo_api.training import Family

LORA_TARGETS: dict[Family, tuple[str, ...]] = {
    "SD3": ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
}
"""The attention projections of both streams."""
