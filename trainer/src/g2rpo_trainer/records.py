"""What crosses a boundary inside the trainer: frozen records with a shape and a unit per field.

Letters used in shapes: P prompts of this rank, G members of a group, K stochastic steps, L
granularities, M trained rewards, N rows of a batch, B members that share a row, `...` a latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from g2rpo_trainer.flow.sde import GaussianStep


@dataclass(frozen=True)
class Prompt:
    """One line of a prompt file."""

    index: int
    """Line number in the file, from 0."""
    text: str
    metadata: Mapping[str, str]
    """Other keys of a jsonl line; rewards that need a target text read `target`."""


@dataclass(frozen=True)
class PromptBatch:
    """The prompts of one iteration that this rank works on."""

    iteration: int
    """From 1."""
    slots: tuple[int, ...]
    """Position of each prompt in the iteration's batch over all ranks; names its noise. P entries."""
    prompts: tuple[Prompt, ...]
    """P prompts."""


@dataclass(frozen=True)
class Scores:
    """Answers of the trained rewards for N pictures."""

    values: Tensor
    """float32 [M, N]; NaN where a reward with onFailure SkipGroup failed."""

    @property
    def valid(self) -> Tensor:
        """Rows that every reward answered, bool [N]."""
        return ~self.values.isnan().any(dim=0)


@dataclass(frozen=True)
class Transitions:
    """Stochastic step k of a batch of rows: where it started, where each member went, how good it was.

    Members that share their starting state share a row: for singular sampling N = P and B = G, for
    whole random trajectories N = P G and B = 1.
    """

    k: int
    step: GaussianStep
    x: Tensor
    """States before the step, float32 [N, ...]."""
    x_next: Tensor
    """States after it, float32 [N, B, ...]."""
    prompt: Tensor
    """Prompt of each row, int64 [N], indexing the PromptBatch."""
    log_prob: Tensor
    """Log density of x_next under the policy that drew it, nats per element, [N, B]."""
    advantage: Tensor
    """A of each member, [N, B]."""

    def with_advantage(self, advantage: Tensor) -> Transitions:
        """The same step with the members' advantages [N, B] filled in."""
        return replace(self, advantage=advantage.to(self.x))

    def rows(self, part: slice) -> Transitions:
        """Some of the rows."""
        tensors = ("x", "x_next", "prompt", "log_prob", "advantage")
        return replace(self, **{name: getattr(self, name)[part] for name in tensors})


@dataclass(frozen=True)
class Rollout:
    """What a rollout scored: the numbers behind the curves, on the CPU."""

    anchor_rewards: Tensor | None
    """Scores of the deterministic pictures, [M, P]; None where the method draws none."""
    branch_rewards: Tensor
    """Scores of the pictures that the loss learns from, [M, L, K, P, G]."""
    advantages: Tensor
    """A after the clamp, [K, P, G]."""
    clipped: Tensor
    """Where the clamp cut, bool [K, P, G]."""
    zero_variance: Tensor
    """Cells of valid groups whose members all scored the same, bool [M, L, K, P]."""
    valid: Tensor
    """Groups whose pictures were all scored, bool [P]; the others have A = 0."""


@dataclass(frozen=True)
class Experience:
    """What `collect` hands to `losses`: transitions in the order in which they are trained."""

    transitions: tuple[Transitions, ...]
    rollout: Rollout


@dataclass(frozen=True)
class LossStats:
    """What one loss looked like, detached."""

    k: int
    ratio: Tensor
    """r, [N, B]."""
    advantage: Tensor
    """A, [N, B]."""
    surrogate: float
    """Mean clipped surrogate over this chunk's members."""
    kl: float
    """Mean KL to the reference over this chunk's members, nats per element; 0 when beta = 0."""


@dataclass(frozen=True)
class Loss:
    """A scalar to differentiate, already weighted so that an optimizer step's losses add up to a mean."""

    value: Tensor
    boundary: bool
    """Whether an optimizer step follows."""
    stats: LossStats
