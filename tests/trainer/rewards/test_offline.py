"""Hub ids without a network: a process that may not ask the hub finds what its cache has, and names what it lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HEAD = {"layers.0.weight": torch.ones(1, 12), "layers.0.bias": torch.zeros(1)}
PROGRAM = """
import torch
from g2rpo_api.rewards import RewardSpec
from g2rpo_trainer.errors import RewardError
from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.registry import build_reward

def score(**spec):
    try:
        reward = build_reward(RewardSpec.model_validate({"name": "a", **spec}), torch.device("cpu")).reward
    except RewardError as error:
        return str(error)
    return "finite" if reward.score(torch.rand(1, 3, 8, 8), [Prompt(0, "the number 4", {})]).isfinite() else "?"

print(score(type="CLIPScore", clipScore={"path": "org/clip"}))
print(score(type="PickScore", pickScore={"path": "org/clip", "tokenizer": "org/clip"}))
print(score(type="Aesthetic", aesthetic={"path": "org/head", "clip": "org/clip"}))
print(score(type="HPSv2", hpsv2={"path": "org/absent", "clip": "org/clip"}))
print(score(type="ImageReward", imageReward={"path": "org/head", "tokenizer": "org/absent"}))
"""


def cached(cache: Path, repository: str, files: Path) -> None:
    """Put files where the hub's client keeps those of a repository."""
    place = cache / f"models--{repository.replace('/', '--')}"
    shutil.copytree(files, place / "snapshots" / "0")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0")


@pytest.fixture
def cache(clip_folder: Path, tmp_path: Path) -> Path:
    (tmp_path / "head").mkdir()
    torch.save(HEAD, tmp_path / "head" / "aesthetic-model.pth")
    cached(tmp_path / "cache", "org/clip", clip_folder)
    cached(tmp_path / "cache", "org/head", tmp_path / "head")
    return tmp_path / "cache"


def test_what_is_in_the_hubs_cache_needs_no_hub(cache: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert ended.returncode == 0, ended.stderr
    *found, no_weights, no_tokenizer = [line for line in ended.stdout.splitlines() if line.startswith(("fin", "rew"))]
    assert found == ["finite"] * 3
    assert "reward 'a' (HPSv2) cannot be loaded" in no_weights
    assert "reward 'a' (ImageReward) cannot be loaded" in no_tokenizer
