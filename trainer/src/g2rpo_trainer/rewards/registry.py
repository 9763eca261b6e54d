"""Which class scores for which `type` of a job: adding a reward is its file and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from g2rpo_api.reward_settings import ServiceSettings
from g2rpo_api.rewards import RewardSpec
from g2rpo_trainer.errors import RewardError
from g2rpo_trainer.rewards.aesthetic import Aesthetic
from g2rpo_trainer.rewards.clip_score import CLIPScore
from g2rpo_trainer.rewards.custom import load_custom
from g2rpo_trainer.rewards.dddd_ocr import DdddOCR
from g2rpo_trainer.rewards.hpsv2 import HPSv2
from g2rpo_trainer.rewards.http_reward import HTTPReward
from g2rpo_trainer.rewards.image_reward import ImageReward
from g2rpo_trainer.rewards.jpeg import JPEG
from g2rpo_trainer.rewards.paddle_ocr import PaddleOCR
from g2rpo_trainer.rewards.pick_score import PickScore
from g2rpo_trainer.rewards.protocol import Reward
from g2rpo_trainer.rewards.scoring import WeightedReward
from g2rpo_trainer.rewards.service import Patience, Service
from g2rpo_trainer.rewards.vlm_judge import Examination, VLMJudge

# the settings are those of the type, which is the key here
REWARDS: dict[str, Callable[[Any, int, torch.device], Reward]] = {
    "PaddleOCR": lambda settings, batch_size, _: PaddleOCR(settings.score, batch_size),
    "DdddOCR": lambda settings, batch_size, _: DdddOCR(settings.score, batch_size),
    "HPSv2": lambda settings, batch_size, device: HPSv2(settings.path, settings.clip, batch_size, device),
    "CLIPScore": lambda settings, batch_size, device: CLIPScore(settings.path, batch_size, device),
    "PickScore": lambda settings, batch_size, device: PickScore(settings.path, settings.tokenizer, batch_size, device),
    "ImageReward": lambda settings, batch_size, device: ImageReward(
        settings.path, settings.tokenizer, batch_size, device
    ),
    "Aesthetic": lambda settings, batch_size, device: Aesthetic(settings.path, settings.clip, batch_size, device),
    "JPEG": lambda settings, batch_size, device: JPEG(settings.score),
    "HTTP": lambda settings, batch_size, _: HTTPReward(_service(settings), batch_size),
    "VLMJudge": lambda settings, _batch_size, _device: VLMJudge(
        _service(settings, settings.concurrency),
        Examination(settings.model, settings.question, settings.scale, settings.max_tokens),
        settings.concurrency,
    ),
    "Custom": lambda settings, batch_size, device: load_custom(
        settings.entry_point, settings.arguments, batch_size, device
    ),
}


def _service(settings: ServiceSettings, connections: int = 1) -> Service:
    patience = Patience(settings.timeout_seconds, settings.retries)
    return Service(settings.url, settings.token_from_env, patience, connections)


def build_reward(spec: RewardSpec, device: torch.device) -> WeightedReward:
    """Load a reward as the job describes it; a network that wants a GPU goes to `device`.

    Raises:
        RewardError: its files are missing or cannot be loaded, or its service does not answer.
    """
    try:
        reward = REWARDS[spec.type](spec.settings, spec.batch_size, device)
    except (OSError, ImportError, RewardError) as error:
        raise RewardError(f"reward {spec.name!r} ({spec.type}) cannot be loaded: {error}") from error
    return WeightedReward(spec.name, reward, spec.weight, spec.role, spec.on_failure)
