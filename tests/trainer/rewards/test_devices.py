"""Pictures come from the GPU that drew them: rewards that work on the CPU fetch them from there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from g2rpo_api.rewards import RewardSpec
from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.registry import build_reward
from testtrainer.pictures import pictures
from testtrainer.servers import Asked, Reply, reply, serving

CPU = torch.device("cpu")
ASK = [Prompt(i, "the number 4", {"target": "4"}) for i in range(3)]


class Elsewhere(Tensor):
    """A tensor that numpy cannot read before it is brought to the CPU, like one on a GPU; results are such, too."""

    def numpy(self, *, force: bool = False) -> np.ndarray:
        raise TypeError(f"can't convert a tensor of another device to numpy, force = {force}")

    def __array__(self, *_: Any) -> np.ndarray:
        raise TypeError("can't convert a tensor of another device to numpy")

    def cpu(self, *_: Any, **__: Any) -> Tensor:
        return self.as_subclass(Tensor)


def test_the_stand_in_is_as_unreadable_as_a_tensor_on_a_gpu() -> None:
    there = pictures(1, 8, 8).as_subclass(Elsewhere)
    with pytest.raises(TypeError):
        (there * 2).numpy()
    assert isinstance((there * 2).cpu().numpy(), np.ndarray)


@pytest.mark.parametrize("kind", ["PaddleOCR", "DdddOCR", "JPEG"])
def test_a_reward_of_the_cpu_fetches_its_pictures(kind: str) -> None:
    reward = build_reward(RewardSpec(name="a", type=kind), CPU).reward
    images = pictures(3, 16, 32)
    assert torch.equal(reward.score(images.as_subclass(Elsewhere), ASK), reward.score(images, ASK))


def test_a_reward_that_sends_pictures_away_fetches_them_first() -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path.endswith("/completions"):
            return reply({"choices": [{"message": {"content": "Score: 3"}}]})
        return reply({"scores": [1, 2, 3]})

    images = pictures(3, 8, 8).as_subclass(Elsewhere)
    with serving(answer) as server:
        judge = {"url": server.url, "model": "m"}
        for kind, settings in (("http", {"url": server.url}), ("vlmJudge", judge)):
            named = {"http": "HTTP", "vlmJudge": "VLMJudge"}[kind]
            spec = RewardSpec.model_validate({"name": "a", "type": named, kind: settings})
            assert build_reward(spec, CPU).reward.score(images, ASK).isfinite().all()
