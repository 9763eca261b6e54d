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
    WHOLE,
    Count,
    Items,
    Model,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Seed,
    camel,
)
from g2rpo_api.model import ModelSpec, SamplingSpec
from g2rpo_api.prompts import EvaluationSpec, PromptsSpec
from g2rpo_api.rewards import MAX_REWARDS, RewardSpec
from g2rpo_api.rewards import Role as Role
from g2rpo_api.rules import Fault, Rule
from g2rpo_api.stopping import StopSpec, stop_rules
from g2rpo_api.tracking import TrackingSpec

Schedule = Literal["Constant", "Linear", "Cosine"]
Offload = Literal["None", "CPU"]
Probability = Annotated[float, Field(ge=0, lt=1)]
_NOTHING_SPLIT = "None when zeroStage is 0, which does not split the optimizer state"
_WEIGHTS_WHOLE = "None when zeroStage is below 3, where every rank holds the weights"
_RAISE = "remove it, or set zeroStage to"


class OptimizerSpec(Model):
    """AdamW (arXiv 1711.05101)."""

    learning_rate: PositiveFloat = 1e-4
    """Learning rate. 1e-4 suits LoRA and the miniature; 1e-6 to 1e-5 full training of large models."""
    warmup_iterations: Count = 0
    """Iterations over which the learning rate rises in equal steps to its full value. A few help when the first
    updates are clipped much."""
    schedule: Schedule = "Constant"
    """Learning rate after the warm-up: `Constant`, or falling to nothing at `iterations`, along a straight line
    (`Linear`) or half a wave (`Cosine`). A run that is taken up with more iterations follows the longer curve."""
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


class EMASpec(Model):
    """Running mean of the trained weights (exponential moving average): steadier pictures than the last weights."""

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Share of the mean that stays at each update. 0.95 averages over some 20 updates; the first ones count more."""
    every_iterations: Positive = 1
    """Iterations between updates of the mean."""


class DeepSpeedSpec(Model):
    """How DeepSpeed splits the training state over ranks. A run may be taken up with other values."""

    zero_stage: Annotated[int, Field(ge=0, le=3), WHOLE] = 0
    """ZeRO stage: 0 keeps everything on every rank; 1 splits the optimizer state, 2 also the gradients, 3
    also the weights. Raise it when memory runs out; each stage communicates more."""
    offload_optimizer: Offload = "None"
    """`CPU` keeps the optimizer state in ordinary memory and updates the weights there, which takes longer: 12 bytes
    a trained parameter less on the GPU, over all ranks. Needs a zeroStage of at least 1."""
    offload_parameters: Offload = "None"
    """`CPU` keeps the weights in ordinary memory and fetches them as they are needed. Needs zeroStage 3."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.offloadOptimizer) || self.offloadOptimizer == 'None' || "
            "(has(self.zeroStage) && self.zeroStage >= 1)",
            f"must be {_NOTHING_SPLIT}; {_RAISE} at least 1",
            ".offloadOptimizer",
        ),
        Rule(
            "!has(self.offloadParameters) || self.offloadParameters == 'None' || "
            "(has(self.zeroStage) && self.zeroStage == 3)",
            f"must be {_WEIGHTS_WHOLE}; {_RAISE} 3",
            ".offloadParameters",
        ),
    )

    def faults(self) -> Iterator[Fault]:
        """What cannot leave the GPU because no stage splits it."""
        if self.offload_optimizer != "None" and self.zero_stage < 1:
            yield Fault(("offloadOptimizer",), self.offload_optimizer, _NOTHING_SPLIT, f"{_RAISE} at least 1")
        if self.offload_parameters != "None" and self.zero_stage < 3:
            yield Fault(("offloadParameters",), self.offload_parameters, _WEIGHTS_WHOLE, f"{_RAISE} 3")


class CheckpointSpec(Model):
    """When the training state is saved, from which a run resumes bit by bit."""

    every_iterations: Positive = 20
    """Iterations between checkpoints: what a crash may cost."""
    keep_last: Positive = 3
    """Checkpoints that are kept; older ones are deleted."""
    keep_best: bool = False
    """Also save a checkpoint whenever an evaluation of the trained rewards is the best so far, on unseen prompts
    where there are some, keep it until there is a better one, and export it in the end instead of the last weights."""


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
    """Seed of all randomness in training. Equal seeds give equal runs, whatever the number of ranks, to rounding."""
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
    ema: EMASpec | None = None
    """Running mean of the trained weights, which evaluation and export then use. Takes 4 bytes per trained weight
    more on every rank, split over the ranks from deepspeed.zeroStage 1 on."""
    deepspeed: DeepSpeedSpec = DeepSpeedSpec()
    """How the training state is split over ranks."""
    checkpoint: CheckpointSpec = CheckpointSpec()
    """When the training state is saved."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """When and on what the policy is evaluated."""
    safety: SafetySpec = SafetySpec()
    """When to give up."""
    tracking: TrackingSpec = TrackingSpec()
    """Where the run is shown beside its own folder and port."""
    stop: StopSpec = StopSpec()
    """When to end before the last iteration."""

    unique: ClassVar[dict[str, str]] = {"rewards": "name"}
    rules: ClassVar[tuple[Rule, ...]] = (
        *grid_rules(),
        *(_kl_rule(variant, camel(member)) for variant, member in AlgorithmSpec.members.items() if member),
        Rule(
            "self.rewards.exists(r, r.role == 'Train')",
            "must have at least one reward of role Train; set role: Train on one",
            ".rewards",
        ),
        Rule(
            "!has(self.optimizer) || !has(self.optimizer.warmupIterations) || "
            "self.optimizer.warmupIterations <= self.iterations",
            "must be at most iterations; lower it",
            ".optimizer.warmupIterations",
        ),
        *stop_rules(),
    )

    def faults(self) -> Iterator[Fault]:
        """Steps that the grid lacks, a reference that is not there, nothing to train on, rules about nothing."""
        for fault in self.algorithm.settings.grid_faults(self.sampling.steps):
            yield replace(fault, at=("algorithm", self.algorithm.member, *fault.at))
        yield from _kl_faults(self)
        if all(reward.role == "HeldOut" for reward in self.rewards):
            names = [reward.name for reward in self.rewards]
            yield Fault(("rewards",), names, "a list with at least one reward of role Train", "set role: Train on one")
        if self.optimizer.warmup_iterations > self.iterations:
            at = ("optimizer", "warmupIterations")
            yield Fault(at, self.optimizer.warmup_iterations, f"at most {self.iterations} (iterations)", "lower it")
        for fault in self.stop.reward_faults({reward.name: reward.role for reward in self.rewards}):
            yield replace(fault, at=("stop", *fault.at))


def _kl_faults(training: TrainingSpec) -> Iterator[Fault]:
    settings = training.algorithm.settings
    if settings.kl_beta > 0 and training.model.train.type != "LoRA":
        hint = "set it to 0, or model.train.type: LoRA, whose model without adapter is the reference"
        at = ("algorithm", training.algorithm.member, "klBeta")
        yield Fault(at, settings.kl_beta, "0 when model.train.type is Full", hint)
