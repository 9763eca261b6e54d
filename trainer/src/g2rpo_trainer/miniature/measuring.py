"""How legible a model folder is, by the two text readers.

Who calls this: `__main__.py`, which writes the numbers into the model card, and the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from g2rpo_trainer.miniature.recipe import HEIGHT, TEXT_TOKENS, WIDTH, numbers, prompt
from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.dddd_ocr import DdddOCR
from g2rpo_trainer.rewards.paddle_ocr import PaddleOCR

_STEPS = 8
_BATCH = 16


@dataclass(frozen=True)
class Legibility:
    """Means over pictures, each in [0, 1]."""

    likelihood: float
    """PP-OCR: probability of the number, per digit."""
    exact: float
    """PP-OCR: share read as the number asked for."""
    held_out_exact: float
    """ddddocr: share read as the number asked for."""


@dataclass(frozen=True)
class Measurement:
    """Legibility of a folder, by whether it was trained on the numbers."""

    training: Legibility
    unseen: Legibility


def measure(folder: Path, pictures_per_number: int = 4, seed: int = 0) -> Measurement:
    """Draw every number with 8 Euler steps, no shift and no guidance, and read the pictures.

    Args:
        folder: a model folder with the layout of the miniature.
        pictures_per_number: starting noises per number.
        seed: of the starting noises.

    Raises:
        OSError: the folder is not a pipeline.
    """
    pipeline = load(folder)
    training, unseen = (
        read(sample(pipeline, wanted * pictures_per_number, seed), wanted * pictures_per_number) for wanted in numbers()
    )
    return Measurement(training, unseen)


def load(folder: Path) -> StableDiffusion3Pipeline:
    """The pipeline of a folder, from the disk alone, silent."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(pipeline: StableDiffusion3Pipeline, wanted: list[str], seed: int) -> Tensor:
    """Draw N numbers: float32 [N, 3, 16, 32] in [0, 1]."""
    images: Tensor = pipeline(
        [prompt(number) for number in wanted],
        height=HEIGHT,
        width=WIDTH,
        sigmas=[1 - step / _STEPS for step in range(_STEPS)],
        num_inference_steps=_STEPS,
        guidance_scale=1.0,
        max_sequence_length=TEXT_TOKENS,
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
    ).images
    return images


def read(images: Tensor, wanted: list[str]) -> Legibility:
    """Score N pictures against the N numbers that were asked for."""
    prompts = [Prompt(index, prompt(number), {"target": number}) for index, number in enumerate(wanted)]
    readers = (PaddleOCR("Likelihood", _BATCH), PaddleOCR("ExactMatch", _BATCH), DdddOCR("ExactMatch", _BATCH))
    return Legibility(*(reader.score(images, prompts).mean().item() for reader in readers))
