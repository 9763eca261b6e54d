"""How large is the picture as a JPEG file? A reward without any network, made popular by DDPO (arXiv 2305.13301).

Who calls this: `rewards/scoring.py`, as any reward. Small files are smooth pictures, large ones are full of detail;
both ends are reached quickly, so it shows at once whether a recipe learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.pixels import to_bytes, to_jpeg

QUALITY = 95
_BYTES_PER_KILOBYTE = 1000
_SIGN = {"Compressibility": -1, "Incompressibility": 1}


class JPEG:
    """The reward `JPEG`."""

    def __init__(self, score: Literal["Compressibility", "Incompressibility"]) -> None:
        """Reward small files (`Compressibility`), or large ones."""
        self._sign = _SIGN[score]

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Score N pictures: float32 [N, 3, H, W] in [0, 1] to float32 [N].

        The score is the size at quality 95 in kilobytes of 1000 bytes, negative for `Compressibility`.
        """
        sizes = [len(to_jpeg(picture, QUALITY)) for picture in to_bytes(images)]
        return self._sign * torch.tensor(sizes, dtype=torch.float32) / _BYTES_PER_KILOBYTE
