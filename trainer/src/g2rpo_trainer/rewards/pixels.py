"""Pictures as bytes and files: what programs other than torch take.

Who calls this: the rewards that hand pictures to PIL, to a reader or to a server. Rounding to bytes is here and
nowhere else.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from torch import Tensor

_FAST = 1
"""Of PNG's levels of compression: more costs time and saves little on a network of one's own."""


def to_bytes(images: Tensor) -> np.ndarray:
    """Pictures in bytes: float32 [N, 3, H, W] in [0, 1] to uint8 [N, H, W, 3], rounded to the nearest."""
    values = images.detach().float().mul(255).round_().clamp_(0, 255).byte()
    pixels: np.ndarray = values.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return pixels


def to_jpeg(picture: np.ndarray, quality: int) -> bytes:
    """A picture, uint8 [H, W, 3], as a JPEG file of PIL's usual kind (colors at half the resolution)."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="JPEG", quality=quality)
    return file.getvalue()


def to_png(picture: np.ndarray) -> bytes:
    """A picture, uint8 [H, W, 3], as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", compress_level=_FAST)
    return file.getvalue()
