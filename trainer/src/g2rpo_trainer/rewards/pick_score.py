"""PickScore (arXiv 2305.01569): which picture would users of a generator have picked for this prompt?

Who calls this: `rewards/scoring.py`, as any reward. The published weights are a CLIP ViT-H/14 of transformers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.clip import load_clip


class PickScore:
    """The reward `PickScore`."""

    def __init__(self, path: str, tokenizer: str, batch_size: int, device: torch.device) -> None:
        """Load the weights.

        Args:
            path: hub id, or a folder as `save_pretrained` writes it, which needs no network.
            tokenizer: hub id or folder of the CLIP that was tuned, for its tokenizer.
            batch_size: pictures per call of the network.
            device: where it works.

        Raises:
            OSError: weights or tokenizer are missing.
        """
        self._clip = load_clip(path, tokenizer, batch_size, device)

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Score N pictures: float32 [N, 3, H, W] in [0, 1] to float32 [N], about 16 to 26.

        The cosine times the factor that the network learnt, about 100; some tables give the cosine.
        """
        return self._clip.scale * self._clip.similarities(images, [prompt.text for prompt in prompts])
