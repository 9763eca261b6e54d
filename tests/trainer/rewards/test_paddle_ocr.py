"""PaddleOCR against rapidocr's own recogniser, on rendered text."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.onnx import target_texts
from g2rpo_trainer.rewards.paddle_ocr import PaddleOCR, recogniser_input

WORDS = ["47", "90", "33", "Granular", "Sun 21", "16/32"]


def picture(text: str, height: int, width: int, ink: tuple[int, int, int] = (20, 20, 20)) -> torch.Tensor:
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", int(height * 0.7))
    image = Image.new("RGB", (width, height), (235, 235, 235))
    ImageDraw.Draw(image).text((width / 2, height / 2), text, fill=ink, font=font, anchor="mm")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def prompts(*targets: str) -> list[Prompt]:
    return [Prompt(i, f"a sign that says {target}", {"target": target}) for i, target in enumerate(targets)]


def blue_first(image: torch.Tensor) -> np.ndarray:
    return (image.permute(1, 2, 0).numpy()[..., ::-1] * 255).round().astype(np.uint8).copy()


@pytest.fixture(scope="module")
def rapidocr() -> Any:
    from rapidocr import RapidOCR

    return RapidOCR(params={"Global.log_level": "error", "Global.use_det": False, "Global.use_cls": False})


@pytest.fixture(scope="module")
def exact() -> PaddleOCR:
    return PaddleOCR("ExactMatch", batch_size=4)


@pytest.mark.parametrize("word", WORDS)
def test_reads_what_rapidocr_reads(rapidocr: Any, exact: PaddleOCR, word: str) -> None:
    image = picture(word, height=48, width=192)
    theirs = rapidocr(blue_first(image), use_det=False, use_cls=False, use_rec=True).txts[0]
    assert exact.score(image[None], prompts(theirs)).item() == 1
    assert theirs == word


def test_probabilities_are_those_of_rapidocr(rapidocr: Any, exact: PaddleOCR) -> None:
    image = picture("16/32", height=30, width=120, ink=(160, 30, 10))
    recogniser = rapidocr.text_rec
    theirs = recogniser.session(recogniser.resize_norm_img(blue_first(image), 4.0)[None])
    wide = torch.nn.functional.interpolate(image[None], (48, 192), mode="bilinear")
    ours = exact.probabilities(wide)
    assert ours.shape == theirs.shape
    assert np.abs(ours.numpy() - theirs).max() < 0.02


def test_input_is_that_of_rapidocr(rapidocr: Any) -> None:
    image = picture("47", height=32, width=64, ink=(200, 40, 0))
    theirs = rapidocr.text_rec.resize_norm_img(blue_first(image), 2.0)
    ours = recogniser_input(image[None])[0].numpy()
    assert ours.shape == theirs.shape == (3, 48, 96)
    assert np.abs(ours - theirs).max() <= 1.5 / 127.5


def test_columns_are_widened_at_most_twice_and_filled_to_a_frame() -> None:
    assert recogniser_input(torch.zeros(1, 3, 16, 32)).shape == (1, 3, 48, 64)
    assert recogniser_input(torch.zeros(1, 3, 96, 200)).shape == (1, 3, 48, 104)
    padded = recogniser_input(torch.ones(1, 3, 48, 50))
    assert padded[..., :50].min() == 1
    assert padded[..., 50:].abs().max() == 0


def test_likelihood_is_near_one_for_the_text_and_near_zero_for_another() -> None:
    images = torch.stack([picture("47", 16, 32), picture("47", 16, 32), picture("83", 16, 32)])
    scores = PaddleOCR("Likelihood", batch_size=2).score(images, prompts("47", "15", "83"))
    assert scores.dtype == torch.float32
    assert scores[0] > 0.95
    assert scores[1] < 0.05
    assert scores[2] > 0.95


def test_the_batch_size_does_not_change_a_score() -> None:
    images = torch.stack([picture(text, 16, 32) for text in ("12", "90", "56", "77", "31")])
    wanted = prompts("12", "90", "55", "71", "31")
    one, five = (PaddleOCR("Likelihood", batch_size=n).score(images, wanted) for n in (1, 5))
    assert torch.allclose(one, five, atol=1e-5)


def test_a_missing_target_is_an_error_not_a_zero(exact: PaddleOCR) -> None:
    with pytest.raises(ValueError, match="prompt 7"):
        exact.score(torch.zeros(1, 3, 16, 32), [Prompt(7, "the number 4 7", {"text": "47"})])
    assert target_texts(prompts("47")) == ["47"]


def test_the_packages_of_the_readers_are_not_imported() -> None:
    code = (
        "import sys\n"
        "from g2rpo_trainer.rewards.paddle_ocr import PaddleOCR\n"
        "from g2rpo_trainer.rewards.dddd_ocr import DdddOCR\n"
        "PaddleOCR('Likelihood', 4), DdddOCR('ExactMatch', 4)\n"
        "assert not {'rapidocr', 'ddddocr', 'cv2'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
