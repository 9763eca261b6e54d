"""Pictures and prompts for rewards, and pictures as PIL prepares them for a CLIP.

Who calls this: the tests of rewards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from g2rpo_trainer.records import Prompt

TEXTS = ("the number 4 7", "the number 0", "the number 4 7", "a very long prompt that is cut")


def pictures(count: int, height: int, width: int) -> Tensor:
    """Colored noise with large and small spots, in steps of 1/255 as files hold them."""
    noise = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 5, 5, generator=noise)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    mixed = (0.8 * smooth + 0.2 * torch.rand(count, 3, height, width, generator=noise)).clamp(0, 1)
    return (mixed * 255).round() / 255


def prompts(texts: Sequence[str] = TEXTS) -> list[Prompt]:
    return [Prompt(i, text, {}) for i, text in enumerate(texts)]


def array(image: Tensor) -> np.ndarray:
    """A picture that is in steps of 1/255 as bytes, [H, W, 3]."""
    found: np.ndarray = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    return found


def seen_by_pil(image: Tensor, size: int) -> Tensor:
    """A picture as OpenAI's, OpenCLIP's and BLIP's programs prepare it: PIL's bicubic, the middle, the colors."""
    whole = Image.fromarray(array(image))
    scale = size / min(whole.size)
    whole = whole.resize((int(whole.width * scale), int(whole.height * scale)), Image.Resampling.BICUBIC)
    left, top = round((whole.width - size) / 2), round((whole.height - size) / 2)
    middle = whole.crop((left, top, left + size, top + size))
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    colors = (np.asarray(middle) / 255.0 - mean) / std
    return torch.from_numpy(colors).float().permute(2, 0, 1)
