"""From what all ranks saw in an iteration to one record. Pure.

Who calls this: the loop, after gathering; nothing is averaged twice, since all values are at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from g2rpo_trainer.appearance import KINDS
from g2rpo_trainer.correlation import within_groups
from g2rpo_trainer.journal import (
    AdvantageEntry,
    AppearanceEntry,
    CorrelationEntry,
    EvaluationEntry,
    IterationRecord,
    Phase,
    PolicyEntry,
    RewardEntry,
    SpentEntry,
    Spread,
    StepEntry,
)
from g2rpo_trainer.records import LossStats, Rollout
from g2rpo_trainer.reporting.series import finite_mean
from g2rpo_trainer.timing import RankState, RewardCall


@dataclass(frozen=True)
class UpdateStats:
    """This rank's optimizer steps of one iteration."""

    losses: list[LossStats]
    grad_norms: list[float]
    """Norms of the steps that were applied; the same on every rank."""
    skipped: int
    """Steps skipped because something was not finite."""
    learning_rate: float


@dataclass(frozen=True)
class RankReport:
    """What one rank did in one iteration."""

    rollout: Rollout
    update: UpdateStats
    model_calls: int
    images: int
    appearance: Tensor
    """One row a picture, one column for each of `appearance.KINDS`."""
    diversities: list[float]
    """Of the pictures of each prompt."""
    state: RankState
    calls: list[RewardCall]


@dataclass(frozen=True)
class Frame:
    """What the loop knows of an iteration beside the ranks' reports."""

    iteration: int
    time: float
    attempt: int
    world_size: int
    seconds: dict[Phase, float]
    step_seconds: float
    evaluation: list[EvaluationEntry]
    spent: SpentEntry


@dataclass(frozen=True)
class Constants:
    """Settings that a record repeats or needs."""

    reward_names: tuple[str, ...]
    """Trained rewards, in the order of the scores."""
    reward_weights: tuple[float, ...]
    granularities: tuple[int, ...]
    steps: tuple[int, ...] | None
    """Stochastic steps if each has its own rewards, else None."""
    clip_range: float


def spread(values: Tensor) -> Spread:
    """Mean, std (ddof 0) and range of the values that are not NaN."""
    known = values[~values.isnan()].double()
    if not len(known):
        return Spread(mean=float("nan"), std=float("nan"), min=float("nan"), max=float("nan"))
    std, mean = torch.std_mean(known, correction=0)
    return Spread(mean=mean.item(), std=std.item(), min=known.min().item(), max=known.max().item())


def appearance_entry(values: Tensor, diversities: Sequence[float]) -> AppearanceEntry:
    """Means over pictures, one row each and one column for each of `appearance.KINDS`, and over groups of them."""
    means = dict(zip(KINDS, values.double().mean(dim=0).tolist(), strict=True))
    return AppearanceEntry(**means, diversity=finite_mean(diversities))


def correlation_entries(names: Sequence[str], values: Tensor) -> list[CorrelationEntry]:
    """Each two rewards once, out of a matrix [M, M]."""
    places = [(i, j) for j in range(len(names)) for i in range(j)]
    return [CorrelationEntry(first=names[i], second=names[j], value=values[i, j].item()) for i, j in places]


def untrained_record(frame: Frame) -> IterationRecord:
    """Iteration 0: the evaluation of the model before any update."""
    return IterationRecord(
        **_frame_fields(frame),
        rewards=[],
        advantage=None,
        policy=None,
        groups=0,
        zero_variance_groups=0,
        skipped_groups=0,
        model_calls=0,
        images=0,
    )


def iteration_record(frame: Frame, reports: Sequence[RankReport], constants: Constants) -> IterationRecord:
    """The record of a trained iteration, over all ranks."""
    rollouts = [report.rollout for report in reports]
    branch = torch.cat([rollout.branch_rewards for rollout in rollouts], dim=3)
    flat = torch.cat([rollout.zero_variance for rollout in rollouts], dim=3)
    return IterationRecord(
        **_frame_fields(frame),
        rewards=_reward_entries(rollouts, branch, constants),
        correlations=correlation_entries(constants.reward_names, within_groups(branch, flat)),
        advantage=_advantage_entry(rollouts),
        policy=_policy_entry([report.update for report in reports], branch, constants),
        groups=branch.shape[3],
        zero_variance_groups=int(flat.sum()),
        cells=flat.numel(),
        skipped_groups=sum(int((~rollout.valid).sum()) for rollout in rollouts),
        model_calls=sum(report.model_calls for report in reports),
        images=sum(report.images for report in reports),
        appearance=appearance_entry(
            torch.cat([report.appearance for report in reports]),
            [diversity for report in reports for diversity in report.diversities],
        ),
    )


def _frame_fields(frame: Frame) -> dict[str, object]:
    return {
        "iteration": frame.iteration,
        "time": frame.time,
        "attempt": frame.attempt,
        "world_size": frame.world_size,
        "seconds": frame.seconds,
        "step_seconds": frame.step_seconds,
        "evaluation": frame.evaluation,
        "spent": frame.spent,
    }


def _reward_entries(rollouts: list[Rollout], branch: Tensor, constants: Constants) -> list[RewardEntry]:
    anchors = [rollout.anchor_rewards for rollout in rollouts if rollout.anchor_rewards is not None]
    return [
        RewardEntry(
            name=name,
            role="train",
            weight=constants.reward_weights[m],
            anchor=spread(torch.cat([anchor[m] for anchor in anchors])) if anchors else None,
            branch={str(stride): spread(branch[m, j]) for j, stride in enumerate(constants.granularities)},
        )
        for m, name in enumerate(constants.reward_names)
    ]


def _advantage_entry(rollouts: list[Rollout]) -> AdvantageEntry:
    values = torch.cat([rollout.advantages.flatten() for rollout in rollouts]).double()
    clipped = torch.cat([rollout.clipped.flatten() for rollout in rollouts])
    std, mean = torch.std_mean(values, correction=0)
    return AdvantageEntry(
        mean=mean.item(),
        std=std.item(),
        absmax=values.abs().max().item(),
        clipped_ratio=clipped.double().mean().item(),
    )


def _policy_entry(updates: list[UpdateStats], branch: Tensor, constants: Constants) -> PolicyEntry:
    losses = [loss for update in updates for loss in update.losses]
    ratio = torch.cat([loss.ratio.flatten() for loss in losses]).double()
    advantage = torch.cat([loss.advantage.flatten() for loss in losses])
    std, mean = torch.std_mean(ratio, correction=0)
    low, high = _clipped(ratio, advantage, constants.clip_range)
    norms = updates[0].grad_norms
    return PolicyEntry(
        ratio_mean=mean.item(),
        ratio_std=std.item(),
        clip_low=low.double().mean().item(),
        clip_high=high.double().mean().item(),
        approx_kl=(ratio - 1 - ratio.log()).mean().item(),
        loss=_weighted_mean(losses, [loss.surrogate for loss in losses]),
        kl_loss=_weighted_mean(losses, [loss.kl for loss in losses]),
        grad_norm=sum(norms) / len(norms) if norms else float("nan"),
        learning_rate=updates[0].learning_rate,
        optimizer_steps=len(norms),
        nonfinite_steps=updates[0].skipped,
        steps=_step_entries(losses, branch, constants),
    )


def _step_entries(losses: list[LossStats], branch: Tensor, constants: Constants) -> list[StepEntry]:
    return [
        _step_entry(k, [loss for loss in losses if loss.k == k], branch, constants)
        for k in sorted({loss.k for loss in losses})
    ]


def _step_entry(k: int, losses: list[LossStats], branch: Tensor, constants: Constants) -> StepEntry:
    ratio = torch.cat([loss.ratio.flatten() for loss in losses]).double()
    advantage = torch.cat([loss.advantage.flatten() for loss in losses])
    low, high = _clipped(ratio, advantage, constants.clip_range)
    own = branch if constants.steps is None else branch[:, :, [constants.steps.index(k)]]
    weights = torch.tensor(constants.reward_weights).view(-1, 1, 1, 1)
    return StepEntry(
        k=k,
        reward_std=(own.std(dim=-1, correction=1) * weights).sum(dim=0).nanmean().item(),
        clip_ratio=(low | high).double().mean().item(),
        loss=_weighted_mean(losses, [loss.surrogate for loss in losses]),
        ratio_absdev=(ratio - 1).abs().mean().item(),
    )


def _clipped(ratio: Tensor, advantage: Tensor, clip_range: float) -> tuple[Tensor, Tensor]:
    """Where the surrogate has no gradient: below with A < 0, above with A > 0."""
    low = (advantage < 0) & (ratio < 1 - clip_range)
    return low, (advantage > 0) & (ratio > 1 + clip_range)


def _weighted_mean(losses: list[LossStats], values: list[float]) -> float:
    """Mean over members, each chunk counting by its size."""
    sizes = [loss.ratio.numel() for loss in losses]
    return sum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)
