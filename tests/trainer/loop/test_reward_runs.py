"""Whole runs whose rewards are elsewhere, fail now and then, or want opposite things."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.build import Built
from g2rpo_trainer.errors import RewardError
from g2rpo_trainer.loop import train
from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.protocol import UnscoredError
from g2rpo_trainer.rewardserver.server import Limits, RewardServer

MakeJob = Callable[..., G2RPOJob]
OpenRun = Callable[..., Built]
TRAINED = {"name": "brightness", "type": "PaddleOCR"}
OPPOSITE = """
class Darkness:
    def __init__(self, batch_size, device):
        pass

    def score(self, images, prompts):
        return -images.mean(dim=(1, 2, 3))
"""


def diary(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Brightness:
    """The reward that runs in this process have, on the other side of HTTP; some prompts it cannot score."""

    def __init__(self, without: str = "none") -> None:
        self.without = without

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        scores = images.mean(dim=(1, 2, 3))
        missing = torch.tensor([self.without in prompt.text for prompt in prompts])
        if missing.any():
            raise UnscoredError("some", scores.masked_fill(missing, torch.nan))
        return scores


@pytest.fixture
def serve() -> Iterator[Callable[[Brightness], dict[str, Any]]]:
    """Start a server; what a job calls its reward."""
    servers = []

    def started(reward: Brightness) -> dict[str, Any]:
        servers.append(RewardServer(reward, None, Limits(64, 0.0, 2**26), "127.0.0.1", 0))
        url = f"http://127.0.0.1:{servers[-1].port}"
        return {"name": "brightness", "type": "HTTP", "http": {"url": url, "retries": 0}}

    yield started
    for server in servers:
        server.close()


def test_a_reward_over_http_scores_a_run_as_one_in_the_process_does(
    job: MakeJob, open_run: OpenRun, folder: Path, serve: Callable[..., dict[str, Any]]
) -> None:
    here = open_run(job({"iterations": 1}))
    assert train(here.run, here.state)
    expected = diary(folder)[1]["rewards"][0]
    folder.rename(folder.with_name("here"))
    there = open_run(job({"iterations": 1, "rewards": [serve(Brightness())]}))
    assert train(there.run, there.state)
    found = diary(folder)[1]["rewards"][0]
    half_a_byte = 0.5 / 255
    assert found["anchor"]["mean"] == pytest.approx(expected["anchor"]["mean"], abs=half_a_byte)
    for granularity in ("1", "2"):
        for statistic in ("mean", "min", "max"):
            wanted = expected["branch"][granularity][statistic]
            assert found["branch"][granularity][statistic] == pytest.approx(wanted, abs=half_a_byte)


def test_pictures_that_a_server_cannot_score_cost_their_own_group_only(
    job: MakeJob, open_run: OpenRun, folder: Path, serve: Callable[..., dict[str, Any]]
) -> None:
    reward = {**serve(Brightness("number 3")), "onFailure": "SkipGroup"}
    built = open_run(job({"rewards": [reward], "iterations": 5}))
    assert train(built.run, built.state)
    entries = diary(folder)[1:]
    # 5 iterations of 2 prompts are two epochs of 5 prompts, one of which cannot be scored
    assert sum(entry["skipped_groups"] for entry in entries) == 2
    assert all(entry["policy"]["optimizer_steps"] > 0 for entry in entries)


def test_a_server_that_fails_ends_a_run_with_its_reason(
    job: MakeJob, open_run: OpenRun, serve: Callable[..., dict[str, Any]]
) -> None:
    built = open_run(job({"rewards": [serve(Brightness("number 3"))], "evaluation.maxPrompts": 1}))
    with pytest.raises(RewardError, match=r"reward 'brightness' failed .* scores are not finite"):
        train(built.run, built.state)


def test_rewards_that_want_opposite_things_are_told_as_such(
    job: MakeJob, open_run: OpenRun, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "opposite_of_bright.py").write_text(OPPOSITE)
    monkeypatch.syspath_prepend(tmp_path)
    custom = {"type": "Custom", "custom": {"entryPoint": "opposite_of_bright:Darkness"}}
    rewards = [TRAINED, {"name": "dark", **custom}, {"name": "watched", **custom, "role": "HeldOut"}]
    built = open_run(job({"rewards": rewards, "iterations": 2}))
    assert train(built.run, built.state)
    sys.modules.pop("opposite_of_bright")
    untrained, first, last = diary(folder)
    (trained,) = first["correlations"]
    assert (trained["first"], trained["second"]) == ("brightness", "dark")
    assert trained["value"] == pytest.approx(-1, abs=1e-4)
    for record in (untrained, last):
        found = {(c["first"], c["second"]): c["value"] for c in record["evaluation"][0]["correlations"]}
        assert found == pytest.approx(
            {("brightness", "dark"): -1, ("brightness", "watched"): -1, ("dark", "watched"): 1}, abs=1e-4
        )
    assert abs(first["advantage"]["absmax"]) < 1e-2, "they cancel out"
