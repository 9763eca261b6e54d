"""What docs/rewards.md shows is right: its jobs are read, its class scores, its table knows every reward."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from g2rpo_api.job import WorkersSpec
from g2rpo_api.parse import parse_reward
from g2rpo_api.rewards import RewardSpec
from g2rpo_trainer.rewards.registry import REWARDS, build_reward
from testtrainer.pictures import pictures, prompts

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def documents() -> Iterator[Any]:
    for block in blocks("yaml"):
        yield from yaml.safe_load_all(block)


SHOWN = [reward for document in documents() for reward in document.get("rewards", ())]


@pytest.mark.parametrize("reward", SHOWN, ids=lambda reward: reward["name"])
def test_every_reward_that_is_shown_is_one(reward: dict[str, Any]) -> None:
    assert parse_reward(reward, "docs/rewards.md").name == reward["name"]


def test_what_pods_are_given_is_taken_by_a_job() -> None:
    (workers,) = [document["workers"] for document in documents() if "workers" in document]
    assert WorkersSpec.model_validate(workers).volume_mounts[0].mount_path == "/rewards"


def test_the_tables_tell_of_every_type_and_no_other() -> None:
    first, second = GUIDE.split("## Weights, with and without the internet")
    assert set(re.findall(r"^\| `([A-Z]\w+)` \|", first, re.MULTILINE)) == set(RewardSpec.members) == set(REWARDS)
    for kind, key in re.findall(r"^\| `([A-Z]\w+)` \| `(\w+)` \|", second, re.MULTILINE):
        assert key in type(RewardSpec(name="a", type=kind).settings).model_fields


def test_the_class_that_is_shown_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = blocks("python")
    (tmp_path / "sharpness.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    (shown,) = [reward for reward in SHOWN if reward["type"] == "Custom"]
    images = torch.cat([pictures(2, 8, 8), torch.full((1, 3, 8, 8), 0.5)])
    scores = build_reward(parse_reward(shown, "docs"), torch.device("cpu")).reward.score(images, prompts(["a"] * 3))
    sys.modules.pop("sharpness")
    across, down = images.numpy(), images.numpy()
    expected = 10 * (
        abs(across[..., 1:] - across[..., :-1]).mean(axis=(1, 2, 3))
        + abs(down[..., 1:, :] - down[..., :-1, :]).mean(axis=(1, 2, 3))
    )
    assert scores.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert scores[2] == 0 < scores[0]


def test_the_server_of_the_deployment_has_options_that_it_knows() -> None:
    from g2rpo_trainer.rewardserver.__main__ import _parser

    (deployment,) = [document for document in documents() if document.get("kind") == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    options = _parser().parse_args(container["args"])
    spec = parse_reward({"name": "a", "type": options.type, "hpsv2": options.settings}, "docs")
    assert json.loads(spec.settings.model_dump_json())["path"] == "/models/HPSv2"
    assert (options.host, options.port) == ("0.0.0.0", container["ports"][0]["containerPort"])
