"""CLIP score (arXiv 2104.08718): do picture and prompt go together?

Who calls this: `rewards/scoring.py`, as any reward. The score is the cosine itself, neither stretched nor cut at 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.clip import load_clip


class CLIPScore:
    """The reward `CLIPScore`, with any CLIP that transformers loads."""

    def __init__(self, path: str, batch_size: int, device: torch.device) -> None:
        """Load a CLIP.

        Args:
            path: hub id, or a folder as `save_pretrained` writes it, which needs no network.
            batch_size: pictures per call of the network.
            device: where it works.

        Raises:
            OSError: weights or tokenizer are missing.
        """
        self._clip = load_clip(path, path, batch_size, device)

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Score N pictures: float32 [N, 3, H, W] in [0, 1] to float32 [N] in [-1, 1]."""
        return self._clip.similarities(images, [prompt.text for prompt in prompts])
