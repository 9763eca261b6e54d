"""The running mean of the trained weights, by diffusers' EMAModel: kept beside them, and put in their place to draw.

Who calls this: the engine owns it, saves and loads it. Every rank keeps the whole mean and computes the same one,
which needs ranks that hold the weights whole: ZeRO stages 0 to 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from diffusers.training_utils import EMAModel
from torch import nn


class WeightMean:
    """Exponential moving average of weights.

    As in diffusers' training scripts the first update takes the weights as they are, and the n-th one keeps at most
    the share n / (9 + n) of the mean.
    """

    def __init__(self, weights: Sequence[nn.Parameter], decay: float, every: int) -> None:
        """Begin with the weights as they are.

        Args:
            weights: what is trained, whole; changed in place by whoever trains.
            decay: share of the mean that stays at an update, 0 to below 1.
            every: iterations between updates.
        """
        self._weights = list(weights)
        self._every = every
        self._mean = EMAModel(self._weights, decay=decay)

    def update(self, iteration: int) -> None:
        """Take the weights after `iteration`, from 1, into the mean if an update is due."""
        if iteration % self._every == 0:
            self._mean.step(self._weights)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the weights are the mean; afterwards they are bit by bit what they were."""
        self._mean.store(self._weights)
        self._mean.copy_to(self._weights)
        try:
            yield
        finally:
            self._mean.restore(self._weights)

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs to go on."""
        return self._mean.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self._mean.load_state_dict(state)
        self._mean.to(device=self._weights[0].device)
