"""What an HTTP reward and its server say to each other, as JSON.

    POST /score   {"images": ["<PNG in base64>", ...], "prompts": ["...", ...], "metadata": [{"target": "4 7"}, ...]}
    200           {"scores": [0.81, null, ...]}         null: this picture could not be scored
    400 ...       {"error": "what is wrong, and what to do"}
    GET /healthz  200 when it can score

Who calls this: `http_reward.py` writes questions and reads answers, `rewardserver` the other way about. Nothing is
ever unpickled, and a picture is opened as PNG or JPEG only.
"""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.pixels import to_bytes, to_png
from g2rpo_trainer.rewards.service import ServiceError

SCORE, HEALTH, METRICS = "/score", "/healthz", "/metrics"
MAX_PIXELS = 2**26
"""Of all pictures of a request together: a small file may unfold to a very large picture."""
_FORMATS = ("PNG", "JPEG")


class Question(BaseModel):
    """A request as it comes in."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    images: Annotated[list[str], Field(min_length=1)]
    prompts: list[str]
    metadata: list[dict[str, str]] = []

    @model_validator(mode="after")
    def _equally_long(self) -> Question:
        lengths = {len(self.images), len(self.prompts), len(self.metadata or self.images)}
        if len(lengths) > 1:
            raise ValueError(
                f"{len(self.images)} images, {len(self.prompts)} prompts and {len(self.metadata)} metadata; "
                "there must be as many of each (metadata may be left out)"
            )
        return self


class QuestionError(ValueError):
    """A request that cannot be answered, whatever the reward."""


def question(images: Tensor, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """A request for N pictures, float32 [N, 3, H, W] in [0, 1]."""
    return {
        "images": [png_text(picture) for picture in to_bytes(images)],
        "prompts": [prompt.text for prompt in prompts],
        "metadata": [dict(prompt.metadata) for prompt in prompts],
    }


def png_text(picture: np.ndarray) -> str:
    """A picture, uint8 [H, W, 3], as PNG in base64."""
    return base64.b64encode(to_png(picture)).decode()


def read_question(body: bytes) -> tuple[list[Tensor], list[Prompt]]:
    """Pictures, uint8 [3, H, W] of any size each, and their prompts.

    Raises:
        QuestionError: the body is no request; the message says what is wrong.
    """
    try:
        asked = Question.model_validate_json(body)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, wrong["loc"])) or "the request"
        raise QuestionError(f"{place}: {wrong['msg']}") from error
    metadata = asked.metadata or [{}] * len(asked.prompts)
    prompts = [Prompt(i, text, more) for i, (text, more) in enumerate(zip(asked.prompts, metadata, strict=True))]
    return _pictures(asked.images), prompts


def _pictures(texts: Sequence[str]) -> list[Tensor]:
    opened = [_opened(text, i) for i, text in enumerate(texts)]
    pixels = sum(image.width * image.height for image in opened)
    if pixels > MAX_PIXELS:
        raise QuestionError(f"images: {pixels:,} pixels in all, at most {MAX_PIXELS:,}; send fewer at a time")
    return [_picture(image, i) for i, image in enumerate(opened)]


def _opened(text: str, index: int) -> Image.Image:
    """A picture whose size is known and whose pixels are not yet read."""
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            return Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=_FORMATS)
    except (binascii.Error, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise QuestionError(f"images.{index}: no {' or '.join(_FORMATS)} in base64: {error}") from error


def _picture(image: Image.Image, index: int) -> Tensor:
    try:
        pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise QuestionError(f"images.{index}: damaged: {error}") from error
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def scores(answer: Any, count: int) -> Tensor:
    """Scores out of an answer, float32 [count]; NaN for null.

    Raises:
        ServiceError: it is no list of `count` numbers under `scores`.
    """
    found = answer.get("scores") if isinstance(answer, Mapping) else None
    if not isinstance(found, list) or not all(value is None or type(value) in (int, float) for value in found):
        raise ServiceError(f'the answer is not {{"scores": [numbers or null]}} but {str(answer)[:200]}')
    if len(found) != count:
        raise ServiceError(f"the answer has {len(found)} scores for {count} pictures")
    return torch.tensor([float("nan") if value is None else value for value in found], dtype=torch.float32)
