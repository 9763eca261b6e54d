from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from g2rpo_api.rewards import RewardSpec
from g2rpo_trainer.rewards.registry import build_reward
from testtrainer.pictures import array, pictures, prompts

CPU = torch.device("cpu")


def scores(images: Tensor, score: str | None = None) -> Tensor:
    settings = {"score": score} if score else None
    reward = build_reward(RewardSpec(name="size", type="JPEG", jpeg=settings), CPU).reward
    return reward.score(images, prompts(["a"] * len(images)))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (90, 40)])
def test_the_score_is_the_size_of_the_file_that_pil_writes(height: int, width: int, tmp_path: Path) -> None:
    images = pictures(3, height, width)
    sizes = []
    for image in images:
        Image.fromarray(array(image)).save(tmp_path / "a.jpg", quality=95)
        sizes.append((tmp_path / "a.jpg").stat().st_size / 1000)
    found = scores(images, "Incompressibility")
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(sizes)
    assert scores(images, "Compressibility").tolist() == pytest.approx([-size for size in sizes])


def test_unless_told_otherwise_smooth_pictures_win() -> None:
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    grey = torch.full((1, 3, 64, 64), 0.5)
    rough, smooth = scores(torch.cat([noise, grey])).tolist()
    assert rough < smooth < 0


def test_values_beyond_the_range_are_cut_not_wrapped() -> None:
    images = torch.stack([torch.full((3, 16, 16), value) for value in (1.0, 1.7, 0.0, -0.3)])
    white, beyond, black, below = scores(images).tolist()
    assert (white, black) == (beyond, below)
