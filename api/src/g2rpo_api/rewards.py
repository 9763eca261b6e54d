"""What judges the pictures: reward models, trained on or only watched.

Who calls this: `training.py`; the trainer's rewards, which obey it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from g2rpo_api.base import Model, Positive, PositiveFloat, Text, Union, spelled

Role = Literal["Train", "HeldOut"]
OnFailure = Literal["Fail", "SkipGroup"]
OCRScore = Literal["Likelihood", "ExactMatch"]
JPEGScore = Literal["Compressibility", "Incompressibility"]
MAX_REWARDS = 16
CLIP_VIT_H = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
CLIP_VIT_L = "openai/clip-vit-large-patch14"


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


class PickScoreSettings(Model):
    """PickScore (arXiv 2305.01569): a CLIP tuned on what users of a generator picked."""

    path: Text = "yuvalkirstain/PickScore_v1"
    """The published CLIP as transformers saves it: a hub id, or a folder."""
    tokenizer: Text = CLIP_VIT_H
    """The CLIP that was tuned, for its tokenizer: a hub id, or a folder with vocab.json and merges.txt."""


class ImageRewardSettings(Model):
    """ImageReward 1.0 (arXiv 2304.05977): a BLIP tuned on what people prefer."""

    path: Text = "THUDM/ImageReward"
    """Hub id with the published ImageReward.pt, a folder with that file, or the file itself, which may also be a
    .safetensors file of the same weights."""
    tokenizer: Text = "google-bert/bert-base-uncased"
    """BERT's tokenizer: a hub id, or a folder with vocab.txt or tokenizer.json."""


class AestheticSettings(Model):
    """LAION's aesthetic predictor, version 2: how beautiful people would find the picture, whatever the prompt."""

    path: Text = "trl-lib/ddpo-aesthetic-predictor"
    """Its head: a hub id with aesthetic-model.pth, a folder with that file, or the file itself, such as
    sac+logos+ava1-l14-linearMSE.pth, which is the same."""
    clip: Text = CLIP_VIT_L
    """The CLIP that sees the picture, as transformers saves it: a hub id, or a folder."""


class JPEGSettings(Model):
    """Size of the picture as a JPEG file of quality 95, in kB (arXiv 2305.13301). Needs no network at all."""

    score: JPEGScore = "Compressibility"
    """`Compressibility`: the size, negative, so that smooth pictures win. `Incompressibility`: the size, so that
    pictures full of detail win."""


class RewardSpec(Union):
    """One reward model."""

    members: ClassVar[dict[str, str | None]] = {
        "PaddleOCR": "paddle_ocr",
        "DdddOCR": "dddd_ocr",
        "HPSv2": "hpsv2",
        "CLIPScore": "clip_score",
        "PickScore": "pick_score",
        "ImageReward": "image_reward",
        "Aesthetic": "aesthetic",
        "JPEG": "jpeg",
    }

    name: Annotated[str, spelled(r"^[a-z][a-z0-9-]*$", 63, "lower-case letters, digits and -, a letter first")]
    """Name in metrics and reports, unique among the rewards."""
    type: Literal["PaddleOCR", "DdddOCR", "HPSv2", "CLIPScore", "PickScore", "ImageReward", "Aesthetic", "JPEG"]
    """What scores the pictures. `PaddleOCR` and `DdddOCR` read text and need a `target` with each prompt; `HPSv2`,
    `CLIPScore`, `PickScore` and `ImageReward` compare with the prompt itself; `Aesthetic` and `JPEG` look at the
    picture only."""
    paddle_ocr: PaddleOCRSettings | None = None
    """Settings of PaddleOCR; its defaults when left out."""
    dddd_ocr: DdddOCRSettings | None = None
    """Settings of DdddOCR; its defaults when left out."""
    hpsv2: HPSv2Settings | None = None
    """Settings of HPSv2; its defaults when left out."""
    clip_score: CLIPScoreSettings | None = None
    """Settings of CLIPScore; its defaults when left out."""
    pick_score: PickScoreSettings | None = None
    """Settings of PickScore; its defaults when left out."""
    image_reward: ImageRewardSettings | None = None
    """Settings of ImageReward; its defaults when left out."""
    aesthetic: AestheticSettings | None = None
    """Settings of Aesthetic; its defaults when left out."""
    jpeg: JPEGSettings | None = None
    """Settings of JPEG; its defaults when left out."""
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
    def settings(self) -> Model:
        """Settings of the chosen reward."""
        chosen: Model = getattr(self, str(self.members[self.type]))
        return chosen
