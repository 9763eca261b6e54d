"""A reward behind HTTP: pictures as PNG in JSON there, scores in JSON back.

Who calls this: `rewards/scoring.py`, as any reward. What is sent and answered stands in `wire.py`, which the server
reads, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards import wire
from g2rpo_trainer.rewards.service import Service


class HTTPReward:
    """The reward `HTTP`."""

    def __init__(self, service: Service, batch_size: int) -> None:
        """Take over a service once it says that it is well; `batch_size` pictures go with a request.

        Raises:
            ServiceError: it does not.
        """
        service.get(wire.HEALTH)
        self._service = service
        self._batch_size = batch_size

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Score N pictures: float32 [N, 3, H, W] in [0, 1] to float32 [N]; NaN where the server says null.

        Raises:
            ServiceError: the server does not answer, or answers no scores.
        """
        starts = range(0, len(prompts), self._batch_size)
        return torch.cat([self._part(images, prompts, slice(at, at + self._batch_size)) for at in starts])

    def _part(self, images: Tensor, prompts: Sequence[Prompt], part: slice) -> Tensor:
        question = wire.question(images[part], prompts[part])
        return wire.scores(self._service.post(wire.SCORE, question), len(prompts[part]))
