"""`spec.training.model` and `spec.training.sampling`: which model is trained, and how it draws.

Who calls this: `training.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from g2rpo_api.base import MAX_INT32, WHOLE, Items, Model, Positive, PositiveFloat, Text, Union
from g2rpo_api.prompts import Steps
from g2rpo_api.rules import Fault, Rule

Family = Literal["SD3", "Flux1"]
Precision = Literal["Float32", "BFloat16"]
Attention = Literal[
    "Native", "NativeCudnn", "NativeEfficient", "NativeFlash", "NativeMath", "Flex", "Flash", "Flash3", "XFormers"
]
ShiftRule = Literal["Fixed", "Model"]
Pixels = Annotated[int, Field(ge=8, le=MAX_INT32), WHOLE]
BUILTIN = "builtin:"
"""Prefix of paths that name something shipped with the trainer."""
BUILTIN_MODELS = ("builtin:miniature",)


class LoRASettings(Model):
    """Low-rank adapters (arXiv 2106.09685) on the transformer; everything else stays frozen."""

    rank: Positive = 32
    """Rank of the adapters. Higher learns more and takes more memory; 16 to 64 is usual."""
    alpha: PositiveFloat = 64.0
    """Scale: the adapter's output is multiplied by alpha / rank. Twice the rank is usual."""
    target_modules: Annotated[Items[Text], Field(min_length=1, max_length=64)] | None = None
    """Names of the layers that get adapters; the attention projections of the family when empty."""


class TrainSpec(Union):
    """Which weights of the transformer are trained."""

    members: ClassVar[dict[str, str | None]] = {"Full": None, "LoRA": "lora"}

    type: Literal["Full", "LoRA"]
    """`Full`: every weight (16 bytes of memory per parameter for weights, gradients and optimizer). `LoRA`:
    small adapters only; start with it when memory is short."""
    lora: LoRASettings | None = None
    """Settings of LoRA; its defaults when left out."""


class ModelSpec(Model):
    """The diffusion model that is trained."""

    family: Family
    """Architecture: `SD3` for Stable Diffusion 3 and 3.5, `Flux1` for FLUX.1-dev and -schnell."""
    path: Text
    """Hub id (stabilityai/stable-diffusion-3.5-medium, black-forest-labs/FLUX.1-dev), a local folder in diffusers'
    layout, or `builtin:miniature`, the small SD3 that is shipped for trying things on a CPU."""
    precision: Precision = "Float32"
    """`Float32`: everything in 32 bits. `BFloat16`: weights that are not trained are held in 16 bits and the
    transformer computes in them, in half the memory and a fraction of the time on a GPU; trained weights, their
    gradients, the noise and the likelihoods stay in 32 bits."""
    gradient_checkpointing: bool = False
    """Compute a block's activations anew for its gradient instead of keeping them: an update takes far less
    memory and about a third more time."""
    compile: bool = False
    """Compile the transformer's blocks by torch.compile: faster on a GPU after minutes of compiling. Needs a C
    compiler in the image. What is drawn and what is learnt from are compiled apart and differ in the last digits."""
    attention: Attention = "Native"
    """What computes attention, of what diffusers offers: `Native` is torch's choice and always works. The other
    `Native*` are one of torch's kernels each, `Flex` its FlexAttention. `Flash` needs the package flash-attn, `Flash3`
    flash-attn-3, `XFormers` xformers in the image. `SD3` takes `Native` only."""
    max_sequence_length: Annotated[int, Field(ge=1, le=512), WHOLE] = 256
    """Text tokens that the T5 encoder sees; longer prompts are cut. Lower saves memory and time."""
    text_cache: Text | None = None
    """Folder for encoded prompts, which jobs on the same model may share; `texts` in the run folder when empty."""
    train: TrainSpec
    """Which weights are trained."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!self.path.startsWith('{BUILTIN}') || self.path in {list(BUILTIN_MODELS)}",
            f"must be a hub id, a folder, or {' or '.join(BUILTIN_MODELS)}; name a model that is shipped",
            ".path",
        ),
    )

    def faults(self) -> Iterator[Fault]:
        """A shipped model that does not exist."""
        if self.path.startswith(BUILTIN) and self.path not in BUILTIN_MODELS:
            allowed = f"a hub id, a folder, or {' or '.join(BUILTIN_MODELS)}"
            yield Fault(("path",), self.path, allowed, "name a model that is shipped")


class SamplingSpec(Model):
    """How pictures are generated, in training and evaluation."""

    steps: Steps = 16
    """Grid steps T from noise to picture. Fewer are faster; judge the quality at the number you will use."""
    shift_rule: ShiftRule = "Fixed"
    """Where the time shift comes from: `Fixed` is `shift`; `Model` is what the model's own scheduler does, for
    FLUX.1-dev by the size of the picture, and `shift` is not used."""
    shift: PositiveFloat = 3.0
    """Time shift s of the grid: 1 is uniform, larger spends more steps near the noise. 3 for SD3 and
    FLUX.1 at 720 to 1024 pixels; smaller pictures want less."""
    height: Pixels
    """Height of the pictures, in pixels; a multiple of the model's patch (16 for SD3.5 and FLUX.1)."""
    width: Pixels
    """Width of the pictures, in pixels; a multiple of the model's patch (16 for SD3.5 and FLUX.1)."""
    guidance_scale: Annotated[float, Field(ge=1)] = 1.0
    """Guidance in training and sampling. `SD3`: weight of the prompt against the empty prompt; 1 means none, and
    anything above 1 doubles the rows that go through the transformer. `Flux1`: what FLUX.1-dev is told, at no
    cost (3.5 is usual); FLUX.1-schnell takes 1 only."""
    max_batch: Positive = 64
    """Rows that go through the transformer at once without gradient, per rank. Lower it when memory runs
    out during rollout; results do not change."""
    max_decode_batch: Positive = 16
    """Pictures that are decoded and scored at once, per rank. Lower it when memory runs out while decoding;
    results do not change."""
    vae_tiling_above_pixels: Positive = 4_194_304
    """Pictures of more pixels than this are decoded in tiles, which takes less memory and can leave seams. The
    default is 2048 x 2048."""
    truncate_timestep: bool = False
    """Feed the model the noise level cut to thousandths, as some reference programs do. Only for comparing
    with them."""
