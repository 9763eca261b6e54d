"""Does PP-OCR read the text that the prompt asks for?

Who calls this: `rewards/scoring.py`, as any reward. The recogniser is the network file inside the
`rapidocr` package, run straight through onnxruntime: importing the package itself takes seconds,
and its own interface takes one picture at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.onnx import TextScore, TextScorer, open_session, package_file

_HEIGHT = 48
_COLUMNS_PER_FRAME = 8
_MAX_WIDENING = 2.0
_BLUE_GREEN_RED = [2, 1, 0]


class PaddleOCR:
    """The reward `PaddleOCR`: PP-OCRv6 small, text recognition only, so one line per picture."""

    def __init__(self, score: TextScore, batch_size: int) -> None:
        """Load the recogniser.

        Args:
            score: `Likelihood` for training (smooth), `ExactMatch` for reports (0 or 1).
            batch_size: pictures per call of the network; 4 to 16 are fastest on one core.

        Raises:
            FileNotFoundError: the package `rapidocr` is not installed.
        """
        self._session = open_session(package_file("rapidocr", "models/PP-OCRv6_rec_small.onnx"))
        self._batch_size = batch_size
        known = self._session.get_modelmeta().custom_metadata_map["character"].splitlines()
        self._scorer = TextScorer(["", *known, " "], score)

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Score N pictures: float32 [N, 3, H, W] in [0, 1] to float32 [N] in [0, 1].

        Raises:
            ValueError: a prompt has no `target`, or one the network cannot read.
        """
        return self._scorer.score(images, prompts, self._batch_size, self.probabilities)

    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities per frame: float32 [N, 3, H, W] to float32 [N, frames, classes]."""
        (answer,) = self._session.run(None, {"x": recogniser_input(images).numpy()})
        return torch.from_numpy(answer)


def recogniser_input(images: Tensor) -> Tensor:
    """Pictures as the recogniser takes them: 48 rows, blue first, in [-1, 1].

    The shape is kept, but columns are enlarged at most twice: a picture of 16 x 32 becomes
    48 x 64, which is read as well as 48 x 96 and costs two thirds.

    Args:
        images: float32 [N, 3, H, W] in [0, 1].

    Returns:
        float32 [N, 3, 48, w], w a multiple of 8, the columns beyond the picture 0.
    """
    height, width = images.shape[-2:]
    columns = max(1, round(width * min(_HEIGHT / height, _MAX_WIDENING)))
    resized = interpolate(images.float().cpu(), (_HEIGHT, columns), mode="bilinear")
    blue_first = resized[:, _BLUE_GREEN_RED] * 2 - 1
    return pad(blue_first, (0, -columns % _COLUMNS_PER_FRAME)).contiguous()
