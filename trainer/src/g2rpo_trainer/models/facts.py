"""What is known of a family without loading it. No torch here: a job is counted without it.

Who calls this: the families, and planning.
"""

from __future__ import annotations

from g2rpo_api.model import Family

_BOTH_STREAMS = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""The attention projections of blocks that keep pictures and text apart."""
LORA_TARGETS: dict[Family, tuple[str, ...]] = {"SD3": _BOTH_STREAMS, "Flux1": _BOTH_STREAMS}
"""Layers that LoRA adapts unless the job names others. FLUX.1's blocks of one stream share the first three names."""
PIPELINES: dict[Family, str] = {"SD3": "StableDiffusion3Pipeline", "Flux1": "FluxPipeline"}
"""What diffusers calls them, in model_index.json."""
EMBEDDED_GUIDANCE: frozenset[Family] = frozenset({"Flux1"})
"""Families whose guidance is an input of the transformer, learnt by distillation."""
TORCHS_ATTENTION: frozenset[Family] = frozenset({"SD3"})
"""Families whose transformer, as diffusers writes it, lets nothing but torch's own kernel compute attention."""

NO_GUIDANCE_INPUT = (
    "spec.training.sampling.guidanceScale is {:g}, but the model (as FLUX.1-schnell) has no input for guidance; set "
    "it to 1"
)
"""What is wrong with a guidance scale that the transformer cannot be told."""


def rows_per_velocity(family: Family, guidance_scale: float) -> int:
    """Transformer rows behind one velocity: 2 with classifier-free guidance, else 1."""
    return 2 if guidance_scale > 1 and family not in EMBEDDED_GUIDANCE else 1
