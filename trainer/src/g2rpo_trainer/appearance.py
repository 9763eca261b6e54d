"""What pictures look like, as numbers: signs of a policy that tricks its reward or draws one thing only. Pure.

Who calls this: the scorer notes every picture that it decodes, the summary adds the notes up. Statistics of N
pictures [N, 3, H, W] in [0, 1] are [N], each from 0 to 1. What is worth an alarm is not decided here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pdist

LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue in brightness (ITU-R BT.709)."""
THUMBNAIL = 32
"""Pixels of the longer sides of what is compared: fine grain does not make two pictures different."""
FLAT = 1e-8
"""Variance of the brightness below which a picture has no pattern."""
KINDS = ("saturation", "brightness", "contrast", "lattice")


@dataclass(frozen=True)
class Notes:
    """Statistics of n pictures, and what it takes to compare them with each other."""

    values: Tensor
    """One row a picture, one column for each of `KINDS`, float32 [n, 4] on the CPU."""
    thumbnails: Tensor
    """float32 [n, 3, h, w] on the CPU."""
    groups: tuple[int, ...]
    """Which pictures belong together: n numbers."""


class Album:
    """Takes notes of pictures as they pass."""

    def __init__(self, patch: int) -> None:
        """Of a model with patches of `patch` pixels."""
        self._patch = patch
        self._parts: list[Notes] = []

    def add(self, images: Tensor, groups: Sequence[int]) -> None:
        """Note pictures [n, 3, H, W], each of its group."""
        self._parts.append(notes(images, self._patch, groups))

    def take(self) -> Notes:
        """Of all pictures since the last call, of which there must be some."""
        parts, self._parts = self._parts, []
        return joined(parts)


def notes(images: Tensor, patch: int, groups: Sequence[int]) -> Notes:
    """Statistics of pictures [n, 3, H, W] of a model with patches of `patch` pixels."""
    columns = (saturation(images), brightness(images), contrast(images), lattice(images, patch))
    return Notes(torch.stack(columns, dim=1).cpu(), thumbnails(images).cpu(), tuple(groups))


def joined(parts: Sequence[Notes]) -> Notes:
    """All pictures of one or more parts."""
    return Notes(
        torch.cat([part.values for part in parts]),
        torch.cat([part.thumbnails for part in parts]),
        tuple(group for part in parts for group in part.groups),
    )


def saturation(images: Tensor) -> Tensor:
    """Mean distance between the strongest and the weakest channel: 0 is grey, 1 pure colour."""
    return (images.amax(dim=1) - images.amin(dim=1)).mean(dim=(1, 2))


def brightness(images: Tensor) -> Tensor:
    """Mean luma: 0 is black, 1 white."""
    return _luma(images).mean(dim=(1, 2))


def contrast(images: Tensor) -> Tensor:
    """Standard deviation of the luma over the pixels, at most 0.5."""
    return _luma(images).std(dim=(1, 2), correction=0)


def lattice(images: Tensor, patch: int) -> Tensor:
    """Share of the luma's variance that repeats from patch to patch: 1 where all patches are alike, 0 where flat.

    The energy of the spectrum at all multiples of the patch frequency, in both directions, over all energy but
    that of the mean: by Parseval's theorem the variance of the mean patch over that of the picture. Noise has about
    one part in as many as there are patches. Sides are multiples of `patch`.
    """
    luma = _luma(images)
    tiles = luma.unflatten(2, (-1, patch)).unflatten(1, (-1, patch)).mean(dim=(1, 3))
    whole, repeated = (x.var(dim=(1, 2), correction=0) for x in (luma, tiles))
    return torch.where(whole > FLAT, repeated / whole.clamp(min=FLAT), 0.0)


def thumbnails(images: Tensor) -> Tensor:
    """The pictures at no more than 32 x 32 pixels, each the mean of what it covers."""
    size = (min(images.shape[2], THUMBNAIL), min(images.shape[3], THUMBNAIL))
    return adaptive_avg_pool2d(images.float(), size)


def diversity(pictures: Tensor) -> float:
    """Mean over all pairs of pictures [n, ...] of their root mean square difference; NaN for fewer than two."""
    flat = pictures.flatten(1)
    return float(pdist(flat).mean()) / math.sqrt(flat.shape[1]) if len(flat) > 1 else math.nan


def group_diversities(taken: Notes) -> list[float]:
    """Diversity within each group, in the order in which groups appear."""
    groups = torch.tensor(taken.groups)
    return [diversity(taken.thumbnails[groups == group]) for group in dict.fromkeys(taken.groups)]


def _luma(images: Tensor) -> Tensor:
    return torch.einsum("nchw,c->nhw", images.float(), images.new_tensor(LUMA).float())
