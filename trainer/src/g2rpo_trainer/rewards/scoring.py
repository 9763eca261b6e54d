"""From latents to checked scores: decode in batches, ask every reward, apply its failure policy.

Who calls this: the algorithms (trained rewards) and the evaluation (all of them). A reward's own file
only scores; what a failure means is decided here and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

import torch
from torch import Tensor

from g2rpo_trainer.appearance import Album
from g2rpo_trainer.errors import DivergedError, RewardError
from g2rpo_trainer.records import Prompt, PromptBatch, Scores
from g2rpo_trainer.rewards.foreign import said
from g2rpo_trainer.rewards.protocol import Reward, UnscoredError
from g2rpo_trainer.timing import CallLog, CallResult, Counter, RewardCall, Stopwatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightedReward:
    """A reward and what the job says about it."""

    name: str
    reward: Reward
    weight: float
    role: Literal["Train", "HeldOut"]
    on_failure: Literal["Fail", "SkipGroup"]


class BadScoresError(ValueError):
    """A reward answered with something else than a tensor of a score for each picture."""


def checked_scores(entry: WeightedReward, images: Tensor, prompts: Sequence[Prompt], calls: CallLog) -> Tensor:
    """Scores [N] of one reward; NaN where it failed and its policy is SkipGroup. The call is added to `calls`.

    Raises:
        RewardError: it failed and its policy is Fail.
    """
    started = perf_counter()
    try:
        scores = _verified(entry.reward.score(images, prompts), len(prompts))
        calls.add(RewardCall(entry.name, "ok", perf_counter() - started))
        return scores
    except Exception as error:  # a reward is anybody's code: whatever it raises is a failure of that reward
        calls.add(RewardCall(entry.name, _result(error), perf_counter() - started))
        message = f"reward {entry.name!r} failed on {len(prompts)} pictures: {said(error)}"
        if entry.on_failure == "Fail":
            raise RewardError(
                f"{message}\n  mend the reward, or set spec.training.rewards[name={entry.name}].onFailure: SkipGroup "
                "to train without the groups it cannot score"
            ) from error
        logger.warning("%s; its groups are skipped (onFailure: SkipGroup)", message)
        return _kept(error, len(prompts))


def _result(error: Exception) -> CallResult:
    if isinstance(error, UnscoredError):
        return "unscored"
    return "invalid" if isinstance(error, BadScoresError) else "failed"


def _verified(scores: Any, count: int) -> Tensor:
    if not isinstance(scores, Tensor):
        raise BadScoresError(f"answered with a {type(scores).__name__}, not with a tensor")
    if scores.shape != (count,):
        raise BadScoresError(f"answered with shape {tuple(scores.shape)} for {count} pictures")
    values: Tensor = scores.detach().float().cpu()
    unscored = int((~values.isfinite()).sum())
    if unscored:
        raise UnscoredError(f"{unscored} of {count} scores are not finite", values)
    return values


def _kept(error: Exception, count: int) -> Tensor:
    """Scores that a failure leaves, NaN for the others."""
    nothing = torch.full((count,), torch.nan)
    if not isinstance(error, UnscoredError) or error.scores.shape != (count,):
        return nothing
    scores = error.scores.detach().float().cpu()
    return torch.where(scores.isfinite(), scores, nothing)


@dataclass(frozen=True)
class Scorer:
    """Decodes latents and asks rewards, a batch at a time."""

    decode: Callable[[Tensor], Tensor]
    """Latents [n, ...] to pictures [n, 3, H, W] in [0, 1]."""
    rewards: tuple[WeightedReward, ...]
    max_batch: int
    """Pictures decoded and scored at once."""
    stopwatch: Stopwatch
    counter: Counter
    """Pictures decoded and scored."""
    album: Album
    """What they look like, by prompt."""
    calls: CallLog
    """How the rewards answered."""

    def __call__(self, latents: Tensor, prompt: Tensor, batch: PromptBatch) -> Scores:
        """Scores [M, N] of N latents whose prompts are batch.prompts[prompt]."""
        self.counter.add(len(latents))
        prompts = [batch.prompts[i] for i in prompt.tolist()]
        parts = []
        for start in range(0, len(latents), self.max_batch):
            rows = slice(start, start + self.max_batch)
            images = self.images(latents[rows])
            self.album.add(images, prompt[rows].tolist())
            parts.append(self.score_images(images, prompts[rows]))
        return Scores(torch.cat(parts, dim=1))

    def images(self, latents: Tensor) -> Tensor:
        """Pictures of latents, timed as decoding.

        Raises:
            DivergedError: the weights are finite but what they draw is not; no reward can be blamed.
        """
        with self.stopwatch.phase("decode"):
            images = self.decode(latents)
        if not bool(images.isfinite().all()):
            raise DivergedError(
                "the model draws pictures that are not finite: the last updates were too large. Lower "
                "spec.training.optimizer.learningRate or optimizer.gradientClip and start a new run"
            )
        return images

    def score_images(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Scores [M, n] of pictures, timed as reward."""
        with self.stopwatch.phase("reward"):
            return torch.stack([checked_scores(entry, images, prompts, self.calls) for entry in self.rewards])
