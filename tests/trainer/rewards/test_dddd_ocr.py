"""DdddOCR against ddddocr's own classification, on rendered text."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.dddd_ocr import DdddOCR, reader_input

SIZES = [(16, 32), (64, 128), (40, 90)]


def drawing(text: str, height: int, width: int) -> Image.Image:
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans-Bold.ttf", int(height * 0.8))
    image = Image.new("RGB", (width, height), (240, 235, 230))
    ImageDraw.Draw(image).text((width / 2, height / 2), text, fill=(30, 10, 60), font=font, anchor="mm")
    return image


def batch(*drawings: Image.Image) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(d)).permute(2, 0, 1).float() / 255 for d in drawings])


def prompts(*targets: str) -> list[Prompt]:
    return [Prompt(i, "a number", {"target": target}) for i, target in enumerate(targets)]


@pytest.fixture(scope="module")
def ddddocr() -> Any:
    from ddddocr import DdddOcr

    return DdddOcr(show_ad=False)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", ["47", "90", "38", "61"])
def test_reads_what_ddddocr_reads(ddddocr: Any, text: str, size: tuple[int, int]) -> None:
    image = drawing(text, *size)
    png = io.BytesIO()
    image.save(png, "png")
    theirs = ddddocr.classification(png.getvalue())
    reader = DdddOCR("ExactMatch", batch_size=8)
    assert reader.score(batch(image), prompts(theirs)).item() == 1
    assert reader.score(batch(image), prompts(theirs + "0")).item() == 0


def test_likelihood_prefers_the_text_that_is_drawn() -> None:
    images = batch(drawing("47", 64, 128), drawing("47", 64, 128), drawing("90", 64, 128))
    scores = DdddOCR("Likelihood", batch_size=2).score(images, prompts("47", "12", "90"))
    assert scores.dtype == torch.float32
    assert scores[0] > 0.9
    assert scores[1] < 0.1
    assert scores[2] > 0.9


def test_input_keeps_the_shape_of_the_picture_and_is_grey() -> None:
    picture = np.zeros((32, 100, 3), dtype=np.uint8)
    picture[..., 1] = 255
    grey = reader_input(picture)
    assert grey.shape == (1, 1, 64, 200)
    assert np.allclose(grey, 0.587, atol=0.002)


def test_a_missing_target_is_an_error_not_a_zero() -> None:
    with pytest.raises(ValueError, match="prompt 2"):
        DdddOCR("ExactMatch", batch_size=4).score(torch.zeros(1, 3, 16, 32), [Prompt(2, "x", {})])
