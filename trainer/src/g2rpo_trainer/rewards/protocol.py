"""What a reward is: a function from pictures and prompts to float32 scores.

Who calls this: `rewards/scoring.py` batches, times and checks; a reward only scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from g2rpo_trainer.records import Prompt


class UnscoredError(ValueError):
    """Some pictures could not be scored, the others could."""

    def __init__(self, reason: str, scores: Tensor) -> None:
        """Say why, with the scores [N]: NaN where there is none."""
        super().__init__(reason)
        self.scores = scores


class Reward(Protocol):
    """Scores pictures against their prompts.

    A reward may raise whatever its library raises, or UnscoredError where only some pictures have no
    score; the failure policy of its spec decides what follows. It never answers 0 for "could not score".
    """

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Score N pictures.

        Args:
            images: float32 [N, 3, H, W] in [0, 1].
            prompts: N prompts, row by row.

        Returns:
            float32 [N], finite; higher is better.
        """
        ...
