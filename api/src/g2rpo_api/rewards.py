"""What judges the pictures: reward models, trained on or only watched.

Who calls this: `training.py`; the trainer's rewards, which obey it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from g2rpo_api.base import Model, Positive, PositiveFloat, Union, spelled
from g2rpo_api.reward_settings import (
    AestheticSettings,
    CLIPScoreSettings,
    CustomSettings,
    DdddOCRSettings,
    HPSv2Settings,
    HTTPSettings,
    ImageRewardSettings,
    JPEGSettings,
    PaddleOCRSettings,
    PickScoreSettings,
    VLMJudgeSettings,
)

Role = Literal["Train", "HeldOut"]
OnFailure = Literal["Fail", "SkipGroup"]
MAX_REWARDS, NAME_LENGTH = 12, 32
"""What a page of metrics has room for; Prometheus fetches it every few seconds."""


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
        "HTTP": "http",
        "VLMJudge": "vlm_judge",
        "Custom": "custom",
    }

    name: Annotated[str, spelled(r"^[a-z][a-z0-9-]*$", NAME_LENGTH, "lower-case letters, digits and -, a letter first")]
    """Name in metrics and reports, unique among the rewards."""
    type: Literal[
        "PaddleOCR",
        "DdddOCR",
        "HPSv2",
        "CLIPScore",
        "PickScore",
        "ImageReward",
        "Aesthetic",
        "JPEG",
        "HTTP",
        "VLMJudge",
        "Custom",
    ]
    """What scores the pictures. `PaddleOCR` and `DdddOCR` read text and need a `target` with each prompt; `HPSv2`,
    `CLIPScore`, `PickScore` and `ImageReward` compare with the prompt itself; `Aesthetic` and `JPEG` look at the
    picture only. `HTTP` asks a server, `VLMJudge` a vision-language model, `Custom` is a class of your own."""
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
    http: HTTPSettings | None = None
    """Settings of HTTP."""
    vlm_judge: VLMJudgeSettings | None = None
    """Settings of VLMJudge."""
    custom: CustomSettings | None = None
    """Settings of Custom."""
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
