"""What judges the pictures: reward models, trained on or only watched.

Who calls this: `training.py`; the trainer's rewards, which obey it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from g2rpo_api.base import Model, Positive, PositiveFloat, Union, spelled

Role = Literal["Train", "HeldOut"]
OnFailure = Literal["Fail", "SkipGroup"]
OCRScore = Literal["Likelihood", "ExactMatch"]
MAX_REWARDS = 16


class PaddleOCRSettings(Model):
    """PP-OCR's recogniser."""

    score: OCRScore = "Likelihood"
    """`Likelihood`: how probable the recogniser finds the target text, 0 to 1, smooth enough to learn from.
    `ExactMatch`: 1 where it reads exactly the target, else 0."""


class DdddOCRSettings(Model):
    """The ddddocr recogniser, trained by other people on other data: a judge that was not trained on."""

    score: OCRScore = "ExactMatch"
    """`ExactMatch`: 1 where it reads exactly the target, else 0. `Likelihood`: how probable it finds the
    target text, 0 to 1."""


class RewardSpec(Union):
    """One reward model."""

    members: ClassVar[dict[str, str | None]] = {"PaddleOCR": "paddle_ocr", "DdddOCR": "dddd_ocr"}

    name: Annotated[str, spelled(r"^[a-z][a-z0-9-]*$", 63, "lower-case letters, digits and -, a letter first")]
    """Name in metrics and reports, unique among the rewards."""
    type: Literal["PaddleOCR", "DdddOCR"]
    """What scores the pictures. Both read text and need a `target` with each prompt."""
    paddle_ocr: PaddleOCRSettings | None = None
    """Settings of PaddleOCR; its defaults when left out."""
    dddd_ocr: DdddOCRSettings | None = None
    """Settings of DdddOCR; its defaults when left out."""
    role: Role = "Train"
    """`Train`: part of the advantage. `HeldOut`: only watched; it should rise with the others, and falls when
    the policy exploits a trained reward."""
    weight: PositiveFloat = 1.0
    """Weight of this reward's normalised advantage among the trained ones; without effect on held-out ones."""
    on_failure: OnFailure = "Fail"
    """When scoring raises or gives a non-finite score: `Fail` ends the run with exit code 4, `SkipGroup` drops
    the group from the update and counts it."""
    batch_size: Positive = 64
    """Pictures per call of the reward's network, per rank; no more than sampling.maxDecodeBatch come at once."""

    @property
    def settings(self) -> PaddleOCRSettings | DdddOCRSettings:
        """Settings of the chosen reward."""
        chosen = self.paddle_ocr if self.type == "PaddleOCR" else self.dddd_ocr
        assert chosen is not None, "the member that type names is filled in"
        return chosen
