"""Which class scores for which `type` of a job: adding a reward is its file and a line here."""

from __future__ import annotations

from collections.abc import Callable

from g2rpo_api.rewards import RewardSpec
from g2rpo_trainer.errors import RewardError
from g2rpo_trainer.rewards.dddd_ocr import DdddOCR
from g2rpo_trainer.rewards.paddle_ocr import PaddleOCR
from g2rpo_trainer.rewards.protocol import Reward
from g2rpo_trainer.rewards.scoring import WeightedReward

REWARDS: dict[str, Callable[[RewardSpec], Reward]] = {
    "PaddleOCR": lambda spec: PaddleOCR(spec.settings.score, spec.batch_size),
    "DdddOCR": lambda spec: DdddOCR(spec.settings.score, spec.batch_size),
}


def build_reward(spec: RewardSpec) -> WeightedReward:
    """Load a reward as the job describes it.

    Raises:
        RewardError: its files are missing or cannot be loaded.
    """
    try:
        reward = REWARDS[spec.type](spec)
    except (OSError, ImportError) as error:
        raise RewardError(f"reward {spec.name!r} ({spec.type}) cannot be loaded: {error}") from error
    return WeightedReward(spec.name, reward, spec.weight, spec.role, spec.on_failure)
