"""Pictures of numbers: what the miniature is trained to draw.

Who calls this: `training.py` and the tests. The faces are the DejaVu fonts inside matplotlib.
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from g2rpo_trainer.miniature.recipe import HEIGHT, WIDTH

FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif", "DejaVuSerif-Bold")

_SIZES = (12, 16)
_SUPERSAMPLING = 4
_JITTER = (4.0, 1.5)
_MARGIN = 0.5
_PAPER = (205, 255)
_INK = (0, 80)


def render(text: str, rng: random.Random) -> Image.Image:
    """Draw a text in a random face, size, place and contrast: grey, dark on light, 32 wide, 16 high."""
    scale = _SUPERSAMPLING
    font = _font(rng.choice(FACES), rng.randint(_SIZES[0] * scale, _SIZES[1] * scale))
    left, top, right, bottom = font.getbbox(text)
    x = _place(WIDTH * scale, left, right, _JITTER[0] * scale, rng)
    y = _place(HEIGHT * scale, top, bottom, _JITTER[1] * scale, rng)
    image = Image.new("L", (WIDTH * scale, HEIGHT * scale), rng.randint(*_PAPER))
    ImageDraw.Draw(image).text((x, y), text, fill=rng.randint(*_INK), font=font)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)


def render_batch(texts: list[str], rng: random.Random) -> Tensor:
    """Draw N texts: float32 [N, 3, 16, 32] in [0, 1]."""
    grey = np.stack([np.asarray(render(text, rng)) for text in texts])
    return (torch.from_numpy(grey).float() / 255)[:, None].repeat(1, 3, 1, 1)


def _place(room: int, start: float, end: float, jitter: float, rng: random.Random) -> int:
    # The middle, moved at random, but never so far that ink leaves the picture.
    slack = max(0.0, (room - (end - start)) / 2 - _MARGIN * _SUPERSAMPLING)
    reach = min(jitter, slack)
    return round((room - (end - start)) / 2 - start + rng.uniform(-reach, reach))


@cache
def _font(face: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf"), size)
