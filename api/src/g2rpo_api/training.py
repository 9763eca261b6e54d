"""`spec.training`: what is trained, on what, by which rules. The trainer reads nothing else of a job.

Who calls this: `job.py`; the trainer's composition root. Facts about the cluster stay in `job.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from g2rpo_api.algorithm import AlgorithmSpec, grid_rules
from g2rpo_api.base import (
    MAX_INT32,
    MAX_INT64,
    WHOLE,
    Items,
    Model,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Text,
    Union,
    camel,
)
from g2rpo_api.prompts import EvaluationSpec, PromptsSpec, Steps
from g2rpo_api.rewards import MAX_REWARDS, RewardSpec
from g2rpo_api.rewards import Role as Role
from g2rpo_api.rules import Fault, Rule

Family = Literal["SD3", "Flux1"]
Precision = Literal["Float32", "BFloat16"]
Seed = Annotated[int, Field(ge=0, le=MAX_INT64), WHOLE]
Pixels = Annotated[int, Field(ge=8, le=MAX_INT32), WHOLE]
Probability = Annotated[float, Field(ge=0, lt=1)]
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
    max_sequence_length: Annotated[int, Field(ge=1, le=512), WHOLE] = 256
    """Text tokens that the T5 encoder sees; longer prompts are cut. Lower saves memory and time."""
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
    truncate_timestep: bool = False
    """Feed the model the noise level cut to thousandths, as some reference programs do. Only for comparing
    with them."""


class OptimizerSpec(Model):
    """AdamW (arXiv 1711.05101)."""

    learning_rate: PositiveFloat = 1e-4
    """Constant learning rate. 1e-4 suits LoRA and the miniature; 1e-6 to 1e-5 full training of large models."""
    betas: Annotated[Items[Probability], Field(min_length=2, max_length=2)] = (0.9, 0.999)
    """Decay of the running mean of the gradient and of its square."""
    epsilon: PositiveFloat = 1e-8
    """Added to the denominator of the update."""
    weight_decay: NonNegativeFloat = 1e-4
    """Decoupled weight decay."""
    gradient_clip: PositiveFloat = 1.0
    """Largest norm of the gradient; longer ones are scaled down. Lower it when the reward jumps about."""
    max_batch: Positive = 8
    """Rows that go through the transformer at once with gradient, per rank. Lower it when memory runs out
    during the update; results do not change."""


class DeepSpeedSpec(Model):
    """How DeepSpeed splits the training state over ranks."""

    zero_stage: Annotated[int, Field(ge=0, le=3), WHOLE] = 0
    """ZeRO stage: 0 keeps everything on every rank; 1 splits the optimizer state, 2 also the gradients, 3
    also the weights. Raise it when memory runs out; each stage communicates more."""


class CheckpointSpec(Model):
    """When the training state is saved, from which a run resumes bit by bit."""

    every_iterations: Positive = 20
    """Iterations between checkpoints: what a crash may cost."""
    keep_last: Positive = 3
    """Checkpoints that are kept; older ones are deleted."""


class SafetySpec(Model):
    """When to give up."""

    max_non_finite_steps: Positive = 10
    """Consecutive optimizer steps with a non-finite loss or gradient that are skipped before the run ends
    with exit code 5 (diverged)."""


def _kl_rule(variant: str, member: str) -> Rule:
    settings = f"self.algorithm.{member}"
    return Rule(
        f"self.model.train.type == 'LoRA' || self.algorithm.type != '{variant}' || !has({settings}) || "
        f"{settings}.klBeta == 0.0",
        "must be 0 when model.train.type is Full; set it to 0, or model.train.type: LoRA, whose model without adapter "
        "is the reference",
        f".algorithm.{member}.klBeta",
    )


class TrainingSpec(Model):
    """What is trained, on what, by which rules."""

    seed: Seed = 0
    """Seed of all randomness. Equal seeds give equal runs, whatever the number of ranks, to rounding."""
    iterations: Positive
    """Iterations to train."""
    model: ModelSpec
    """The model."""
    prompts: PromptsSpec
    """The prompts."""
    sampling: SamplingSpec
    """How pictures are generated."""
    algorithm: AlgorithmSpec
    """The algorithm."""
    rewards: Annotated[Items[RewardSpec], Field(min_length=1, max_length=MAX_REWARDS)]
    """The rewards; at least one with role Train."""
    optimizer: OptimizerSpec = OptimizerSpec()
    """The optimizer."""
    deepspeed: DeepSpeedSpec = DeepSpeedSpec()
    """How the training state is split over ranks."""
    checkpoint: CheckpointSpec = CheckpointSpec()
    """When the training state is saved."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """When and on what the policy is evaluated."""
    safety: SafetySpec = SafetySpec()
    """When to give up."""

    unique: ClassVar[dict[str, str]] = {"rewards": "name"}
    rules: ClassVar[tuple[Rule, ...]] = (
        *grid_rules(),
        *(_kl_rule(variant, camel(member)) for variant, member in AlgorithmSpec.members.items() if member),
        Rule(
            "self.rewards.exists(r, r.role == 'Train')",
            "must have at least one reward of role Train; set role: Train on one",
            ".rewards",
        ),
    )

    def faults(self) -> Iterator[Fault]:
        """Steps that the grid lacks, a reference that is not there, nothing to train on."""
        for fault in self.algorithm.settings.grid_faults(self.sampling.steps):
            yield replace(fault, at=("algorithm", self.algorithm.member, *fault.at))
        yield from _kl_faults(self)
        if all(reward.role == "HeldOut" for reward in self.rewards):
            names = [reward.name for reward in self.rewards]
            yield Fault(("rewards",), names, "a list with at least one reward of role Train", "set role: Train on one")


def _kl_faults(training: TrainingSpec) -> Iterator[Fault]:
    settings = training.algorithm.settings
    if settings.kl_beta > 0 and training.model.train.type != "LoRA":
        hint = "set it to 0, or model.train.type: LoRA, whose model without adapter is the reference"
        at = ("algorithm", training.algorithm.member, "klBeta")
        yield Fault(at, settings.kl_beta, "0 when model.train.type is Full", hint)
