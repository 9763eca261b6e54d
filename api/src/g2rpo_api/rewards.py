"""What judges the pictures: reward models, trained on or only watched.

Who calls this: `training.py`; the trainer's rewards, which obey it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from g2rpo_api.base import Model, Positive, PositiveFloat, Text, Union, spelled

Role = Literal["Train", "HeldOut"]
OnFailure = Literal["Fail", "SkipGroup"]
OCRScore = Literal["Likelihood", "ExactMatch"]
MAX_REWARDS = 16
CLIP_VIT_H = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


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


class HPSv2Settings(Model):
    """Human Preference Score v2 (arXiv 2306.09341), version 2.1: a CLIP tuned on what people prefer."""

    path: Text = "xswu/HPSv2"
    """Hub id with the published HPS_v2.1_compressed.pt, a folder with that file, or the file itself, which may
    also be a .safetensors file of the same weights."""
    clip: Text = CLIP_VIT_H
    """The CLIP that was tuned, for its configuration and tokenizer: a hub id, or a folder with config.json,
    vocab.json and merges.txt. Its weights are not read."""


class CLIPScoreSettings(Model):
    """CLIP score (arXiv 2104.08718): how well a CLIP finds that picture and prompt go together."""

    path: Text = CLIP_VIT_H
    """A CLIP as transformers saves it: a hub id, or a folder, with weights and tokenizer."""


RewardSettings = PaddleOCRSettings | DdddOCRSettings | HPSv2Settings | CLIPScoreSettings


class RewardSpec(Union):
    """One reward model."""

    members: ClassVar[dict[str, str | None]] = {
        "PaddleOCR": "paddle_ocr",
        "DdddOCR": "dddd_ocr",
        "HPSv2": "hpsv2",
        "CLIPScore": "clip_score",
    }

    name: Annotated[str, spelled(r"^[a-z][a-z0-9-]*$", 63, "lower-case letters, digits and -, a letter first")]
    """Name in metrics and reports, unique among the rewards."""
    type: Literal["PaddleOCR", "DdddOCR", "HPSv2", "CLIPScore"]
    """What scores the pictures. `PaddleOCR` and `DdddOCR` read text and need a `target` with each prompt; `HPSv2`
    and `CLIPScore` compare with the prompt itself."""
    paddle_ocr: PaddleOCRSettings | None = None
    """Settings of PaddleOCR; its defaults when left out."""
    dddd_ocr: DdddOCRSettings | None = None
    """Settings of DdddOCR; its defaults when left out."""
    hpsv2: HPSv2Settings | None = None
    """Settings of HPSv2; its defaults when left out."""
    clip_score: CLIPScoreSettings | None = None
    """Settings of CLIPScore; its defaults when left out."""
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
    def settings(self) -> RewardSettings:
        """Settings of the chosen reward."""
        chosen = {
            "PaddleOCR": self.paddle_ocr,
            "DdddOCR": self.dddd_ocr,
            "HPSv2": self.hpsv2,
            "CLIPScore": self.clip_score,
        }[self.type]
        assert chosen is not None, "the member that type names is filled in"
        return chosen
