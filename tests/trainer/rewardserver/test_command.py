"""`g2rpo-reward-server` as people start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from g2rpo_api.rewards import RewardSpec
from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.registry import build_reward
from g2rpo_trainer.rewardserver.__main__ import main
from testtrainer.pictures import pictures

COMMAND = [sys.executable, "-m", "g2rpo_trainer.rewardserver"]


@pytest.fixture
def served() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that serves PP-OCR with a token, and its address."""
    options = ["--type", "PaddleOCR", "--settings", "{score: Likelihood}", "--port", "0", "--token-from-env", "TOKEN"]
    process = subprocess.Popen(
        [*COMMAND, *options],
        env={**os.environ, "TOKEN": "sesame", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    line = next((line for line in process.stdout if " at http://" in line), "")
    yield process, line.partition(" at ")[2].partition(",")[0]
    process.kill()
    process.communicate()


def test_a_server_in_a_process_of_its_own_scores_as_the_reward_does_here(
    served: tuple[subprocess.Popen[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, url = served
    monkeypatch.setenv("TOKEN", "sesame")
    images = pictures(4, 16, 32)
    ask = [Prompt(i, f"the number {i}", {"target": str(i)}) for i in range(4)]
    remote = {"name": "far", "type": "HTTP", "http": {"url": url, "tokenFromEnv": "TOKEN"}, "batchSize": 3}
    far = build_reward(RewardSpec.model_validate(remote), torch.device("cpu")).reward
    near = build_reward(RewardSpec(name="near", type="PaddleOCR"), torch.device("cpu")).reward
    expected = near.score(images, ask)
    assert expected.std() > 0
    assert torch.allclose(far.score(images, ask), expected, atol=1e-6)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "--type"),
        (["--type", "HPS"], 2, "invalid choice: 'HPS'"),
        (["--type", "JPEG", "--settings", "3"], 2, "not a mapping"),
        (["--type", "JPEG", "--settings", "{a: 1"], 2, "not one YAML mapping"),
        (["--type", "JPEG", "--settings", "{scores: Compressibility}"], 2, "did you mean score?"),
        (["--type", "JPEG", "--settings", "{score: compressibility}"], 2, "did you mean Compressibility?"),
        (["--type", "HTTP"], 2, "http.url"),
        (["--type", "JPEG", "--batch-size", "0"], 2, "0 is below 1"),
        (["--type", "JPEG", "--wait-ms", "-1"], 2, "-1.0 is below 0"),
        (["--type", "JPEG", "--token-from-env", "NO_SUCH_TOKEN"], 2, "NO_SUCH_TOKEN"),
    ],
)
def test_wrong_options_are_answered_at_once(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        found = main(arguments)
    except SystemExit as exit_:
        found = exit_.code if isinstance(exit_.code, int) else 2
    assert found == code
    assert said in capsys.readouterr().err


def test_a_reward_that_cannot_be_loaded_ends_with_its_reason(tmp_path: Path) -> None:
    settings = json.dumps({"path": str(tmp_path)})
    command = [*COMMAND, "--type", "CLIPScore", "--settings", settings, "--device", "cpu"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 4
    assert "(CLIPScore) cannot be loaded" in ended.stderr
    assert "Traceback" not in ended.stderr
