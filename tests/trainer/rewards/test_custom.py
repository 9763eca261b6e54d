"""A class of the user's own, from a folder that only a test has."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from g2rpo_api.rewards import RewardSpec
from g2rpo_trainer.errors import RewardError
from g2rpo_trainer.rewards.registry import build_reward
from g2rpo_trainer.rewards.scoring import checked_scores
from g2rpo_trainer.timing import CallLog
from testtrainer.pictures import pictures, prompts

CPU = torch.device("cpu")
SOURCE = """
class Brightness:
    def __init__(self, channel, gain=1.0, *, batch_size, device):
        self.channel, self.gain, self.made_for = channel, gain, (batch_size, device)

    def score(self, images, prompts):
        return self.gain * images[:, self.channel].mean(dim=(1, 2)) + len(prompts)

class Silent:
    def __init__(self, batch_size, device):
        self.score = 3

class Stubborn:
    def __init__(self, batch_size, device):
        raise FileNotFoundError("weights.pt")

class Clumsy:
    def __init__(self, batch_size, device):
        pass

    def score(self, images, prompts):
        return [prompt.text for prompt in prompts][len(images)]

class Forgetful:
    def __init__(self, path):
        pass

NUMBER = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a module that nobody imported before."""
    name = f"own_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    (tmp_path / f"{name}_broken.py").write_text("1 +")
    (tmp_path / f"{name}_fails.py").write_text("one = 1\nhalf = one / 0\n")
    (tmp_path / f"{name}_needy.py").write_text("import a_package_that_nobody_has")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for known in [known for known in sys.modules if known.startswith(name)]:
        del sys.modules[known]


def build(entry_point: str, arguments: dict[str, Any] | None = None, **spec: Any) -> Any:
    custom = {"entryPoint": entry_point, "arguments": arguments or {}}
    return build_reward(RewardSpec.model_validate({"name": "own", "type": "Custom", "custom": custom, **spec}), CPU)


def test_a_class_is_made_with_its_arguments_and_scores_as_any_reward(module: str) -> None:
    entry = build(f"{module}:Brightness", {"channel": 2, "gain": 2.0}, batchSize=5)
    images = pictures(3, 8, 8)
    expected = 2 * images.numpy()[:, 2].mean(axis=(1, 2)) + 3
    assert checked_scores(entry, images, prompts(["a"] * 3), CallLog()).tolist() == pytest.approx(expected.tolist())
    assert entry.reward.made_for == (5, CPU)


@pytest.mark.parametrize(
    ("entry_point", "arguments", "said"),
    [
        ("_nowhere:Brightness", {}, "cannot be imported: ModuleNotFoundError: No module named .*PYTHONPATH"),
        (":Darkness", {}, "cannot be imported: AttributeError: module .* has no attribute 'Darkness'"),
        ("_broken:A", {}, "cannot be imported: SyntaxError"),
        ("_needy:A", {}, "cannot be imported: ModuleNotFoundError: No module named 'a_package_that_nobody_has'"),
        (":Brightness", {}, "cannot be made with batch_size, device: TypeError: .*'channel'"),
        (":Brightness", {"chanel": 1}, "cannot be made with chanel, batch_size, device: TypeError: .*'chanel'"),
        (":Forgetful", {"path": "a"}, "cannot be made with path, batch_size, device: TypeError: .*'batch_size'"),
        (
            ":Stubborn",
            {},
            r"cannot be made with batch_size, device: FileNotFoundError: weights.pt \(own_\d+\.py, line 15\)",
        ),
        (
            "_fails:A",
            {},
            r"cannot be imported: ZeroDivisionError: division by zero \(own_\d+_fails\.py, line 2\); install",
        ),
        (":NUMBER", {}, "cannot be made with batch_size, device: TypeError"),
        (":Silent", {}, r"makes a Silent without a method score\(images, prompts\)"),
    ],
)
def test_what_cannot_be_had_is_told_with_its_reason(
    entry_point: str, arguments: dict[str, Any], said: str, module: str
) -> None:
    with pytest.raises(RewardError, match=rf"reward 'own' \(Custom\) cannot be loaded: custom\.entryPoint .*{said}"):
        build(f"{module}{entry_point}", arguments)


def test_a_failure_while_it_scores_names_the_line(module: str) -> None:
    with pytest.raises(RewardError, match=r"'own' failed on 2 pictures: IndexError: .* \(own_\d+\.py, line 22\)\n"):
        checked_scores(build(f"{module}:Clumsy"), pictures(2, 8, 8), prompts(["a"] * 2), CallLog())
