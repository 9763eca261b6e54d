"""LAION's aesthetic predictor, version 2: how beautiful would people find this picture, from 1 to 10?

Who calls this: `rewards/scoring.py`, as any reward. A CLIP ViT-L/14 sees the picture; a head of linear layers, which
was published on its own, turns the embedding into a mark. The prompt plays no part.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPVisionModelWithProjection

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards import weights
from g2rpo_trainer.rewards.clip import clip_input

PUBLISHED = "aesthetic-model.pth"


class Aesthetic:
    """The reward `Aesthetic`."""

    def __init__(self, path: str, clip: str, batch_size: int, device: torch.device) -> None:
        """Load both networks.

        Args:
            path: hub id or folder with aesthetic-model.pth, or a file of the same layers under any name.
            clip: hub id or folder of the CLIP whose embeddings the head was taught with.
            batch_size: pictures per call of the network.
            device: where it works.

        Raises:
            OSError: a file is missing, or the head does not fit the CLIP.
        """
        file = weights.locate(path, PUBLISHED)
        network = weights.load_network(CLIPVisionModelWithProjection, clip)
        self._network = network.eval().requires_grad_(False).to(device)
        self._head = weights.linear_head(weights.read(file), network.config.projection_dim, file).to(device)
        self._batch_size = batch_size
        self._device = device

    @torch.no_grad()
    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Score N pictures: float32 [N, 3, H, W] in [0, 1] to float32 [N], about 3 to 7."""
        return torch.cat([self._marks(part) for part in images.split(self._batch_size)])

    def _marks(self, images: Tensor) -> Tensor:
        pixels = clip_input(images.to(self._device), self._network.config.image_size)
        embeddings = self._network(pixel_values=pixels).image_embeds
        return self._head(normalize(embeddings, dim=-1)).squeeze(-1)
