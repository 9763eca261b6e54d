"""A vision-language model as a judge, behind the chat completions API of OpenAI; UnifiedReward (arXiv 2503.05236).

Who calls this: `rewards/scoring.py`, as any reward. Each picture is one request; how many are under way at a time is
bounded. An answer without a mark is no score, and never 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.pixels import to_bytes
from g2rpo_trainer.rewards.protocol import UnscoredError
from g2rpo_trainer.rewards.service import Service, ServiceError
from g2rpo_trainer.rewards.wire import png_text

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_MARK = re.compile(rf"(?<![a-z])score[\s*_:=\"'`]*(?:is|of)?[\s*_:=\"'`]*{_NUMBER}", re.IGNORECASE)
_BARE = re.compile(rf"[\s*_\"'`]*{_NUMBER}[\s*_\"'`.]*")
_TOLD = 200
"""Characters of an answer without a mark that go into the message."""


@dataclass(frozen=True)
class Examination:
    """What the judge is asked."""

    model: str
    question: str
    """With {prompt} and {scale}, where they are wanted."""
    scale: float
    """Best mark."""
    max_tokens: int


class VLMJudge:
    """The reward `VLMJudge`."""

    def __init__(self, service: Service, examination: Examination, concurrency: int) -> None:
        """Take over a service whose base URL ends in /v1; at most `concurrency` requests are under way at a time."""
        self._service = service
        self._examination = examination
        self._pool = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="judge")

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Score N pictures: float32 [N, 3, H, W] in [0, 1] to float32 [N] in [0, scale].

        Raises:
            UnscoredError: some answers have no mark on the scale.
            ServiceError: the judge does not answer, or not as a chat completion.
        """
        texts = [prompt.text for prompt in prompts]
        answers = list(self._pool.map(self._answer, to_bytes(images), texts))
        marks = [mark(answer, self._examination.scale) for answer in answers]
        scores = torch.tensor([float("nan") if value is None else value for value in marks], dtype=torch.float32)
        unclear = [answer for answer, value in zip(answers, marks, strict=True) if value is None]
        if unclear:
            raise UnscoredError(
                f"{len(unclear)} of {len(answers)} answers have no mark from 0 to {self._examination.scale:g} after "
                f"the word score; one is {unclear[0][-_TOLD:]!r}. Ask for it in vlmJudge.question, or raise maxTokens",
                scores,
            )
        return scores

    def _answer(self, picture: np.ndarray, text: str) -> str:
        asked = self._examination
        question = asked.question.replace("{scale}", f"{asked.scale:g}").replace("{prompt}", text)
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png_text(picture)}"}}
        request = {
            "model": asked.model,
            "messages": [{"role": "user", "content": [image, {"type": "text", "text": question}]}],
            "temperature": 0,
            "max_tokens": asked.max_tokens,
        }
        answer = self._service.post("/chat/completions", request)
        try:
            content = answer["choices"][0]["message"]["content"]
        except (LookupError, TypeError) as error:
            raise ServiceError(f"the answer is no chat completion but {str(answer)[:_TOLD]}") from error
        return content if isinstance(content, str) else ""


def mark(answer: str, scale: float) -> float | None:
    """The number after the last `score`, or the whole answer where that is a number; None if it is not on the scale."""
    bare = _BARE.fullmatch(answer)
    found = [bare[1]] if bare else _MARK.findall(answer)
    value = float(found[-1]) if found else -1.0
    return value if 0 <= value <= scale else None
