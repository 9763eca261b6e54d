"""A CLIP (arXiv 2103.00020): how similar are picture and text?

Who calls this: the rewards that are a CLIP. Pictures go in as CLIP was taught: shorter side to the network's
size, the middle square, normalised; nothing is rounded on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate
from transformers import CLIPModel, CLIPTokenizer

from g2rpo_trainer.rewards.weights import load_network, load_tokenizer

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of red, green and blue in the pictures that CLIP was taught with."""


class CLIP:
    """A network and its tokenizer, in float32 on one device."""

    def __init__(self, network: Any, tokenizer: Any, batch_size: int, device: torch.device) -> None:
        """Take over transformers' CLIPModel and CLIPTokenizer; `batch_size` pictures go through at once."""
        self._network = network.float().eval().requires_grad_(False).to(device)
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self._device = device

    @property
    def scale(self) -> float:
        """By what the network learnt to multiply similarities; about 100."""
        return float(self._network.logit_scale.exp())

    @torch.no_grad()
    def similarities(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Cosine of the angle between the embeddings of each picture and its text.

        Args:
            images: float32 [N, 3, H, W] in [0, 1].
            texts: N texts; of long ones the beginning counts.

        Returns:
            float32 [N] in [-1, 1].
        """
        different = list(dict.fromkeys(texts))
        embeddings = torch.cat([self._text(part) for part in _parts(different, self._batch_size)])
        rows = embeddings[[different.index(text) for text in texts]]
        return cosine_similarity(torch.cat([self._image(part) for part in images.split(self._batch_size)]), rows)

    def _image(self, images: Tensor) -> Tensor:
        pixels = clip_input(images.to(self._device), self._network.config.vision_config.image_size)
        return self._network.get_image_features(pixel_values=pixels).pooler_output

    def _text(self, texts: Sequence[str]) -> Tensor:
        length = self._network.config.text_config.max_position_embeddings
        tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
        return self._network.get_text_features(**tokens.to(self._device)).pooler_output


def load_clip(path: str, tokenizer: str, batch_size: int, device: torch.device) -> CLIP:
    """A CLIP with the weights in one hub repository or folder and the tokenizer in another, or the same.

    Raises:
        OSError: weights or tokenizer are missing.
    """
    return CLIP(load_network(CLIPModel, path), load_tokenizer(CLIPTokenizer, tokenizer), batch_size, device)


def clip_input(images: Tensor, size: int) -> Tensor:
    """Pictures as a CLIP takes them.

    Args:
        images: float32 [N, 3, H, W] in [0, 1].
        size: pixels of a side of what the network sees.

    Returns:
        float32 [N, 3, size, size], each color with mean 0 and variance 1 over CLIP's own pictures.
    """
    height, width = images.shape[-2:]
    scaled = (size, size * width // height) if height <= width else (size * height // width, size)
    resized = interpolate(images.float(), scaled, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    square = resized[..., top : top + size, left : left + size]
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (square - mean) / std


def _parts(texts: Sequence[str], size: int) -> list[Sequence[str]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]
