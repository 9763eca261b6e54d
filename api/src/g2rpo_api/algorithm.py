"""The algorithms and their hyper-parameters: what each does, its range, where its default is from.

Who calls this: `training.py`, which holds one of them; the trainer's algorithms, which obey it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import floor
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from g2rpo_api.base import MAX_INT32, WHOLE, Count, Items, Model, NonNegativeFloat, Positive, PositiveFloat, Union
from g2rpo_api.rules import Fault, Rule

Law = Literal["Flow", "Dance", "CPS"]
Update = Literal["PerStep", "PerIteration"]
Aggregate = Literal["Sum", "Mean"]
InitialNoise = Literal["Shared", "PerMember"]
GroupSize = Annotated[int, Field(ge=2, le=MAX_INT32), WHOLE]
DEFAULT_ETA: dict[Law, float] = {"Flow": 0.7, "Dance": 0.3, "CPS": 0.8}


class NoiseSpec(Model):
    """How much noise a stochastic step adds, and how that depends on the noise level t."""

    law: Law = "Flow"
    """Noise law. `Flow`: sigma_t = eta sqrt(t / (1 - t)) (Flow-GRPO, arXiv 2505.05470), most exploration
    where the picture's layout is decided. `Dance`: sigma_t = eta, the same at every level (DanceGRPO,
    arXiv 2505.07818). `CPS`: the noise that is added is taken out of the predicted noise, so states stay
    as noisy as the model expects (Flow-CPS, arXiv 2509.05952); try it when rollouts look grainy."""
    eta: PositiveFloat | None = None
    """Noise level. Empty means the law's published one: 0.7 for Flow, 0.3 for Dance, 0.8 for CPS (at most
    1 there). Raise it when all members of a group look alike; lower it when rollouts fall apart."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.law != 'CPS' || !has(self.eta) || self.eta <= 1.0",
            "must be at most 1 when law is CPS; lower it, or choose another law",
            ".eta",
        ),
    )

    @property
    def level(self) -> float:
        """eta, or the law's own default."""
        return DEFAULT_ETA[self.law] if self.eta is None else self.eta

    def faults(self) -> Iterator[Fault]:
        """A level that the law cannot have."""
        if self.law == "CPS" and self.level > 1:
            hint = "lower it, or choose another law: at 1 all predicted noise is already replaced by fresh noise"
            yield Fault(("eta",), self.eta, "a number above 0 and at most 1 when law is CPS", hint)


class G2RPOSettings(Model):
    """Granular-GRPO (arXiv 2510.01982): one random step per branch, judged at several step sizes."""

    group_size: GroupSize = 12
    """Members G per prompt and stochastic step: pictures that are compared with each other. More members
    make a better baseline and cost proportionally more. 12 in the paper."""
    first_stochastic_step: Count = 0
    """First grid step that explores, counted from pure noise. Early steps decide layout, late ones
    texture: raise it when the reward is about fine detail."""
    stochastic_steps: Positive = 8
    """Number |M| of consecutive grid steps that explore, each in branches of its own. Half of
    sampling.steps in the paper. The last one must leave a step to go: at most sampling.steps - 2."""
    granularities: Annotated[Items[Positive], Field(min_length=1, max_length=8)] = (1, 2, 3)
    """Strides at which every branch is finished: 1 follows the grid, 2 takes every second step, and so on.
    Each stride gives its own picture and its own vote; a stride listed twice votes twice. [1] is the
    cheapest; more make the advantage more robust and cost model calls, decoding and scoring."""
    noise: NoiseSpec = NoiseSpec()
    """Noise of the stochastic step."""
    clip_range: PositiveFloat = 1e-4
    """Clip range eps of the probability ratio. The log-probability is a mean over the latent's elements, so
    the same eps is a wider trust region for a smaller latent: raise it for small pictures (1e-3 for the
    miniature), watch the clip fraction."""
    advantage_clip: PositiveFloat = 5.0
    """Largest |advantage| after all rewards and granularities are added."""
    update: Update = "PerStep"
    """`PerStep`: one optimizer step for each stochastic step, noisiest first (the published recipe; faster,
    the later ones slightly off-policy). `PerIteration`: one optimizer step for their mean (calmer)."""
    aggregate: Aggregate = "Sum"
    """How the votes of the granularities become one: `Sum` as in the paper, or `Mean`, which keeps the size
    of the advantage when granularities are added."""
    zero_variance_tolerance: NonNegativeFloat = 1e-6
    """A group whose scores spread less than this, relative to the largest |score|, teaches nothing and gets
    advantage 0. Raise it for rewards computed in half precision."""
    kl_beta: NonNegativeFloat = 0.0
    """Weight of the KL divergence from the untrained model; 0 leaves it out, as in the paper. Raise it (0.01
    to 0.1) when held-out rewards fall. Needs model.train.type LoRA: the reference is the model without
    its adapter."""

    def steps(self) -> range:
        """Grid steps that explore, noisiest first."""
        return range(self.first_stochastic_step, self.first_stochastic_step + self.stochastic_steps)

    def grid_faults(self, sampling_steps: int) -> Iterator[Fault]:
        """Stochastic steps that a grid lacks: each needs a step after it that lands on the picture."""
        first, last = self.first_stochastic_step, sampling_steps - 2
        if first > last:
            allowed = f"an integer from 0 to {last} (sampling.steps - 2)"
            hint = f"lower it, or raise sampling.steps (now {sampling_steps})"
            yield Fault(("firstStochasticStep",), first, allowed, hint)
        elif self.steps()[-1] > last:
            allowed = f"an integer from 1 to {last + 1 - first} (sampling.steps - 1 - firstStochasticStep)"
            hint = f"lower it, or raise sampling.steps (now {sampling_steps}): the last one must leave a step to go"
            yield Fault(("stochasticSteps",), self.stochastic_steps, allowed, hint)


class WindowSpec(Model):
    """A sliding window of stochastic steps; all others are deterministic (MixGRPO, arXiv 2507.21802)."""

    size: Positive = 4
    """Grid steps in the window; at most sampling.steps - 1, the last step being deterministic always."""
    move_every_iterations: Positive = 25
    """Iterations after which the window moves on, from noise towards data."""
    stride: Positive = 1
    """Grid steps by which it moves. It stays where it is once it has reached the last stochastic step."""


class FlowGRPOSettings(Model):
    """Flow-GRPO (arXiv 2505.05470); DanceGRPO and MixGRPO are settings of it (see manifests/samples)."""

    group_size: GroupSize = 12
    """Members G per prompt: pictures that are compared with each other. More members make a better baseline
    and cost proportionally more."""
    initial_noise: InitialNoise = "PerMember"
    """`PerMember`: every member starts from noise of its own (Flow-GRPO). `Shared`: all members of a group
    start from the same noise and differ by the stochastic steps only (DanceGRPO)."""
    window: WindowSpec | None = None
    """Steps that are stochastic, and trained: a moving window (MixGRPO), or every step except the last
    when empty. A window makes training cheaper."""
    train_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the stochastic steps that is trained, drawn anew each iteration and trained in random order.
    0.6 in DanceGRPO. Lower it to save time."""
    noise: NoiseSpec = NoiseSpec()
    """Noise of the stochastic steps."""
    clip_range: PositiveFloat = 1e-4
    """Clip range eps of the probability ratio. The log-probability is a mean over the latent's elements, so
    the same eps is a wider trust region for a smaller latent: raise it for small pictures."""
    advantage_clip: PositiveFloat = 5.0
    """Largest |advantage| after all rewards are added."""
    update: Update = "PerIteration"
    """`PerIteration`: one optimizer step for the mean over the trained steps. `PerStep`: one optimizer step
    for each of them (faster, the later ones slightly off-policy)."""
    zero_variance_tolerance: NonNegativeFloat = 1e-6
    """A group whose scores spread less than this, relative to the largest |score|, teaches nothing and gets
    advantage 0. Raise it for rewards computed in half precision."""
    kl_beta: NonNegativeFloat = 0.0
    """Weight of the KL divergence from the untrained model; 0 leaves it out, 0.04 in Flow-GRPO. Raise it when
    held-out rewards fall. Needs model.train.type LoRA: the reference is the model without its adapter."""

    def stochastic_count(self, sampling_steps: int) -> int:
        """Stochastic steps of one trajectory on a grid of `sampling_steps`."""
        return sampling_steps - 1 if self.window is None else self.window.size

    def trained_count(self, sampling_steps: int) -> int:
        """Stochastic steps of one trajectory that are trained: the fraction, rounded, at least 1."""
        return max(1, floor(self.train_fraction * self.stochastic_count(sampling_steps) + 0.5))

    def grid_faults(self, sampling_steps: int) -> Iterator[Fault]:
        """A window that is wider than the stochastic steps of a grid."""
        if self.window is not None and self.window.size > sampling_steps - 1:
            allowed = f"an integer from 1 to {sampling_steps - 1} (sampling.steps - 1)"
            hint = f"lower it, or raise sampling.steps (now {sampling_steps}): the last step is always deterministic"
            yield Fault(("window", "size"), self.window.size, allowed, hint)


class AlgorithmSpec(Union):
    """The training algorithm and its settings."""

    members: ClassVar[dict[str, str | None]] = {"G2RPO": "g2rpo", "FlowGRPO": "flow_grpo"}

    type: Literal["G2RPO", "FlowGRPO"]
    """`G2RPO`: single stochastic steps judged at several granularities. `FlowGRPO`: whole stochastic
    trajectories, the baseline."""
    g2rpo: G2RPOSettings | None = None
    """Settings of G2RPO; its defaults when left out."""
    flow_grpo: FlowGRPOSettings | None = None
    """Settings of FlowGRPO; its defaults when left out."""

    @property
    def settings(self) -> G2RPOSettings | FlowGRPOSettings:
        """Settings of the chosen algorithm."""
        chosen = self.g2rpo if self.type == "G2RPO" else self.flow_grpo
        assert chosen is not None, "the member that type names is filled in"
        return chosen


def _default(settings: type[Model], field: str) -> str:
    return str(settings.model_fields[field].default)


def grid_rules() -> tuple[Rule, ...]:
    """`grid_faults` for the API server; `self` is the training. A member that is left out has its defaults."""
    given, last = "has(self.algorithm.g2rpo)", "self.sampling.steps - 2"
    first = f"({given} ? self.algorithm.g2rpo.firstStochasticStep : {_default(G2RPOSettings, 'first_stochastic_step')})"
    count = f"({given} ? self.algorithm.g2rpo.stochasticSteps : {_default(G2RPOSettings, 'stochastic_steps')})"
    other, window = "self.algorithm.type != 'G2RPO'", "self.algorithm.flowGrpo.window"
    return (
        Rule(
            f"{other} || {first} <= {last}",
            "must be at most sampling.steps - 2; lower it, or raise sampling.steps",
            ".algorithm.g2rpo.firstStochasticStep",
        ),
        Rule(
            f"{other} || {first} > {last} || {first} + {count} - 1 <= {last}",
            "must be at most sampling.steps - 1 - firstStochasticStep: the last one must leave a step to go; lower it, "
            "or raise sampling.steps",
            ".algorithm.g2rpo.stochasticSteps",
        ),
        Rule(
            f"self.algorithm.type != 'FlowGRPO' || !has(self.algorithm.flowGrpo) || !has({window}) || "
            f"{window}.size <= self.sampling.steps - 1",
            "must be at most sampling.steps - 1: the last step is always deterministic; lower it, or raise "
            "sampling.steps",
            ".algorithm.flowGrpo.window.size",
        ),
    )
