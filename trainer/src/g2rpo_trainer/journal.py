"""The run's diary: one frozen record per iteration, one line of `metrics.jsonl` each.

Who calls this: the loop writes records; the report, the curve files, telemetry and resume read them.
Where its business ends: it knows nothing of tensors; what arrives here is plain numbers.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from g2rpo_api.progress import StoppedReport

Role = Literal["train", "heldout"]
Phase = Literal["rollout", "decode", "reward", "train", "checkpoint", "eval"]


class Entry(BaseModel):
    """A frozen piece of a record; unknown keys are refused so that a damaged line is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Spread(Entry):
    """Mean, standard deviation (ddof 0) and range of a set of scores."""

    mean: float
    std: float
    min: float
    max: float


class RewardEntry(Entry):
    """One reward during the iteration's rollout.

    `anchor` is over the deterministic pictures, one per prompt: the training curve. `branch` is over
    the pictures that the loss learns from, by granularity ("1", "2", ...).
    """

    name: str
    role: Role
    weight: float
    anchor: Spread | None
    branch: dict[str, Spread]


class CorrelationEntry(Entry):
    """How much two rewards agree: Pearson's correlation, NaN where there is none; see `correlation.py`."""

    first: str
    second: str
    value: float

    @property
    def pair(self) -> str:
        """Both names, as a label."""
        return f"{self.first}/{self.second}"


class AppearanceEntry(Entry):
    """What pictures look like, as means over them, each from 0 to 1; see `appearance.py`."""

    saturation: float
    brightness: float
    contrast: float
    lattice: float
    """Share of the contrast that repeats from one of the model's patches to the next."""
    diversity: float
    """Distance between two pictures: of the same prompt in a rollout, of different prompts in an evaluation; NaN
    where no two can be compared."""


class SpentEntry(Entry):
    """What all attempts took until now, those iterations included whose weights were lost."""

    seconds: float
    rank_seconds: float
    """The same times the ranks."""


class EvaluationEntry(Entry):
    """All rewards, trained and held-out, on one fixed set of prompts with fixed noise."""

    split: Literal["eval", "unseen"]
    """`eval`: prompts of the training file; `unseen`: prompts the training never uses."""
    prompts: int
    rewards: dict[str, Spread]
    correlations: list[CorrelationEntry] = []
    """Of all rewards, over these prompts."""
    appearance: AppearanceEntry | None = None


class AdvantageEntry(Entry):
    """Advantages of the iteration, after the clamp."""

    mean: float
    std: float
    absmax: float
    clipped_ratio: float
    """Share of advantages that the clamp cut."""


class StepEntry(Entry):
    """What happened at one stochastic step k (0 = noisiest)."""

    k: int
    reward_std: float
    """Mean over groups of the standard deviation of the weighted reward within the group."""
    clip_ratio: float
    loss: float
    ratio_absdev: float
    """Mean of |r - 1|."""


class PolicyEntry(Entry):
    """Health of the policy update, over all transitions of the iteration."""

    ratio_mean: float
    ratio_std: float
    clip_low: float
    """Share of transitions with A < 0 and r < 1 - eps: the gradient is cut."""
    clip_high: float
    """Share of transitions with A > 0 and r > 1 + eps."""
    approx_kl: float
    """Mean of (r - 1) - ln r, Schulman's estimator of KL(old || new), in nats per element."""
    loss: float
    kl_loss: float
    grad_norm: float
    learning_rate: float
    optimizer_steps: int
    nonfinite_steps: int
    steps: list[StepEntry]


class IterationRecord(Entry):
    """One line of `metrics.jsonl`. Iteration 0 is the evaluation of the untouched model: no update."""

    iteration: int = Field(ge=0)
    time: float
    """Unix seconds at which the record was written."""
    attempt: int
    world_size: int
    rewards: list[RewardEntry]
    evaluation: list[EvaluationEntry]
    advantage: AdvantageEntry | None
    policy: PolicyEntry | None
    groups: int
    zero_variance_groups: int
    """(group, step, granularity, reward) cells whose members all scored the same."""
    correlations: list[CorrelationEntry] = []
    """Of the trained rewards, within the groups that the loss learns from."""
    cells: int = 0
    """All such cells."""
    skipped_groups: int
    """Groups without advantage because a reward with onFailure SkipGroup failed."""
    seconds: dict[Phase, float]
    step_seconds: float
    """Wall time of the whole iteration."""
    model_calls: int
    """Rows that went through the transformer without gradient, over all ranks."""
    images: int
    """Pictures decoded and scored for training, over all ranks."""
    appearance: AppearanceEntry | None = None
    """Of those pictures."""
    spent: SpentEntry = SpentEntry(seconds=0.0, rank_seconds=0.0)
    stopped: StoppedReport | None = None
    """Why the run ended here, before the job's last iteration."""
