"""What the text readers share: an onnxruntime session of one thread, CTC decoding and scoring.

Who calls this: `paddle_ocr.py` and `dddd_ocr.py`. What a network expects of its pictures and
which characters it knows is theirs; from frame probabilities to a score is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Literal

import onnxruntime
import torch
from torch import Tensor
from torch.nn.functional import ctc_loss

from g2rpo_trainer.records import Prompt

TextScore = Literal["Likelihood", "ExactMatch"]
"""Likelihood: probability of the target text, per character. ExactMatch: 1 if it is what is read."""

Reader = Callable[[Tensor], Tensor]
"""Pictures [N, 3, H, W] to class probabilities per frame [N, frames, classes]."""

BLANK = 0
"""Index of CTC's blank among the classes of a frame."""

_ERRORS_ONLY = 3


def package_file(package: str, name: str) -> Path:
    """Path of a file inside an installed package, which is not imported.

    Raises:
        FileNotFoundError: the package is not installed or has no such file.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / name).is_file():
            return path
    raise FileNotFoundError(f"{name} of the package {package} is not installed")


@cache
def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Open a network on the CPU with one thread: the ranks of a run share the machine's cores.

    Two rewards that read with the same network get the same session.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def target_texts(prompts: Sequence[Prompt]) -> list[str]:
    """The text each prompt asks for: its metadata key `target`.

    Raises:
        ValueError: a prompt has no `target`, or an empty one.
    """
    for prompt in prompts:
        if not prompt.metadata.get("target"):
            raise ValueError(f"prompt {prompt.index} ({prompt.text!r}) has no text under the key 'target'")
    return [prompt.metadata["target"] for prompt in prompts]


class TextScorer:
    """Scores frame probabilities against target texts over a fixed set of characters."""

    def __init__(self, characters: Sequence[str], score: TextScore) -> None:
        """Args: characters: one per class, the blank first; score: what to answer."""
        self._characters = list(characters)
        self._index = {character: index for index, character in enumerate(characters) if index != BLANK}
        self._score = score

    def __call__(self, probabilities: Tensor, targets: Sequence[str]) -> Tensor:
        """Score N readings.

        Args:
            probabilities: float32 [N, frames, classes], each frame sums to 1.
            targets: N texts.

        Returns:
            float32 [N] in [0, 1].

        Raises:
            ValueError: a target has a character that the network does not know, or is too long
                for the number of frames.
        """
        if self._score == "ExactMatch":
            read = self.read(probabilities)
            return torch.tensor([float(text == target) for text, target in zip(read, targets, strict=True)])
        classes = [self._classes(target, probabilities.shape[1]) for target in targets]
        return likelihood(probabilities, classes)

    def score(self, images: Tensor, prompts: Sequence[Prompt], batch_size: int, reader: Reader) -> Tensor:
        """Score N pictures [N, 3, H, W] as `reader` reads them, `batch_size` at a time: float32 [N].

        Raises:
            ValueError: a prompt has no `target`, or one the network cannot read.
        """
        targets = target_texts(prompts)
        batches = [slice(row, row + batch_size) for row in range(0, len(images), batch_size)]
        return torch.cat([self(reader(images[b]), targets[b]) for b in batches])

    def read(self, probabilities: Tensor) -> list[str]:
        """The N texts of the likeliest class per frame, [N, frames, classes], repeats merged."""
        return ["".join(self._characters[k] for k in merge(row)) for row in probabilities.argmax(-1).tolist()]

    def _classes(self, target: str, frames: int) -> list[int]:
        unknown = [character for character in target if character not in self._index]
        if unknown:
            raise ValueError(f"target {target!r}: the text reader does not know {unknown[0]!r}")
        needed = len(target) + sum(a == b for a, b in pairwise(target))
        if needed > frames:
            raise ValueError(f"target {target!r} needs {needed} frames; pictures of this width have {frames}")
        return [self._index[character] for character in target]


def merge(classes: Sequence[int]) -> list[int]:
    """CTC's path to its label: repeated neighbours merged, then blanks dropped."""
    kept = [k for i, k in enumerate(classes) if i == 0 or k != classes[i - 1]]
    return [k for k in kept if k != BLANK]


def likelihood(probabilities: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
    """Probability of each target under CTC, to the power 1 / its number of characters.

    Sums over every alignment of the target with the frames: exp(-ctc_loss / length).

    Args:
        probabilities: float32 [N, frames, classes].
        targets: N non-empty lists of classes, the blank not among them.

    Returns:
        float32 [N] in [0, 1].
    """
    # A frame has thousands of classes and CTC reads a handful: only those are taken and logged.
    used = sorted({k for target in targets for k in target})
    column = {k: i + 1 for i, k in enumerate(used)}
    chosen = probabilities[:, :, [BLANK, *used]].clamp_min(torch.finfo(torch.float32).tiny)
    lengths = torch.tensor([len(target) for target in targets])
    loss = ctc_loss(
        chosen.log().transpose(0, 1),
        torch.tensor([column[k] for target in targets for k in target]),
        torch.full((len(targets),), probabilities.shape[1]),
        lengths,
        blank=BLANK,
        reduction="none",
    )
    return torch.exp(-loss / lengths)
