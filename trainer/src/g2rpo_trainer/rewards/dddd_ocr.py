"""Does ddddocr, another maker's network, read the text that the prompt asks for?

Who calls this: `rewards/scoring.py`, as any reward; its use is to be held out, beside `PaddleOCR`.
The network and its characters are files inside the `ddddocr` package, which is not imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.onnx import TextScore, TextScorer, open_session, package_file
from g2rpo_trainer.rewards.pixels import to_bytes

_HEIGHT = 64


class DdddOCR:
    """The reward `DdddOCR`: the reader that `ddddocr.DdddOcr()` uses unless told otherwise."""

    def __init__(self, score: TextScore, batch_size: int) -> None:
        """Load the reader.

        Args:
            score: `Likelihood` (smooth) or `ExactMatch` (0 or 1).
            batch_size: pictures whose readings are scored together. The network itself takes one
                picture a call, whatever this is.

        Raises:
            FileNotFoundError: the package `ddddocr` is not installed.
        """
        self._session = open_session(package_file("ddddocr", "common_old.onnx"))
        self._batch_size = batch_size
        self._scorer = TextScorer(_characters(package_file("ddddocr", "charsets.py")), score)

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Score N pictures: float32 [N, 3, H, W] in [0, 1] to float32 [N] in [0, 1].

        Raises:
            ValueError: a prompt has no `target`, or one the network cannot read.
        """
        return self._scorer.score(images, prompts, self._batch_size, self.probabilities)

    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities per frame: float32 [N, 3, H, W] to float32 [N, frames, classes]."""
        logits = [self._session.run(None, {"input1": reader_input(picture)})[0] for picture in to_bytes(images)]
        return torch.from_numpy(np.concatenate(logits, axis=1)).transpose(0, 1).softmax(-1)


def reader_input(picture: np.ndarray) -> np.ndarray:
    """A picture as the reader takes it: 64 rows, its shape kept, grey.

    Args:
        picture: uint8 [H, W, 3].

    Returns:
        float32 [1, 1, 64, w] in [0, 1].
    """
    height, width = picture.shape[:2]
    size = (int(width * (_HEIGHT / height)), _HEIGHT)
    grey = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS).convert("L")
    return np.asarray(grey, dtype=np.float32)[None, None] / 255


def _characters(path: Path) -> list[str]:
    # Loaded as a file: importing it from its package would pull in OpenCV.
    spec = spec_from_file_location("ddddocr_charsets", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{path} is not a Python file")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    characters: list[str] = module.CHARSET_OLD
    return characters
