"""The running mean of the trained weights, by diffusers' EMAModel: kept beside them, and put in their place to draw.

Who calls this: the engine, which owns it, saves it and loads it. What it averages are the tensors that the optimizer
moves, so that a rank keeps the mean of its share of the weights and nothing is exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from diffusers.training_utils import EMAModel
from torch import Tensor

MEANS = "shadow_params"
"""EMAModel's name for the means."""


class WeightMean:
    """Exponential moving average of weights.

    As in diffusers' training scripts the first update takes the weights as they are, and the n-th one keeps at most
    the share n / (9 + n) of the mean.
    """

    def __init__(self, weights: Sequence[Tensor], decay: float, every: int) -> None:
        """Begin with the weights as they are.

        Args:
            weights: leaves that require a gradient, changed in place by whoever trains; none where a rank has none.
            decay: share of the mean that stays at an update, 0 to below 1.
            every: iterations between updates.
        """
        self._weights = list(weights)
        self._every = every
        self._mean = EMAModel(self._weights, decay=decay)
        self._places = {id(weight): place for place, weight in enumerate(self._weights)}

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

    def of(self, weight: Tensor) -> Tensor:
        """The mean of one of the weights: what is written there is taken up."""
        return self._mean.shadow_params[self._places[id(weight)]]

    def state(self) -> dict[str, Any]:
        """Numbers that `load` needs to go on, beside the means themselves."""
        return {name: value for name, value in self._mean.state_dict().items() if name != MEANS}

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave; the means are written by `of`."""
        self._mean.load_state_dict({**state, MEANS: self._mean.shadow_params})
