"""Every stop rule on a real run: the shipped miniature, readers and all, each ended by the rule that it deserves.

The recipe that tricks its reward is paid for small files and draws flat pictures, which no reader can read. The one
that collapses has a learning rate and a trust region ten times too wide. The healthy one is the quickstart's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from g2rpo_api.parse import parse_job
from g2rpo_trainer.build import build
from g2rpo_trainer.engine import World
from g2rpo_trainer.journal import IterationRecord
from g2rpo_trainer.loop import train
from g2rpo_trainer.publish import Publisher
from g2rpo_trainer.runfolder import RunFolder

SAMPLE = Path(__file__).parents[3] / "manifests" / "samples" / "miniature-g2rpo.yaml"
EVERY_RULE: dict[str, Any] = {
    "maxHours": 1.0,
    "maxGpuHours": 1.0,
    "target": {"reward": "paddle-ocr", "value": 0.99},
    "plateau": {"iterations": 10},
    "collapse": {"iterations": 4},
    "hacking": {"evaluations": 2},
}
READERS = [
    {"name": "paddle-ocr", "type": "PaddleOCR"},
    {"name": "dddd-ocr", "type": "DdddOCR", "ddddOcr": {"score": "Likelihood"}, "role": "HeldOut"},
]
SMALL_FILES = [{"name": "small-file", "type": "JPEG"}, *[reader | {"role": "HeldOut"} for reader in READERS]]
QUICK = {"prompts.perIteration": 2, "evaluation.maxPrompts": 40, "evaluation.everyIterations": 4}
WILD = {
    "optimizer.learningRate": 2e-3,
    "optimizer.gradientClip": 1.0,
    "algorithm.g2rpo.clipRange": 1e-2,
    "algorithm.g2rpo.groupSize": 4,
    "algorithm.g2rpo.stochasticSteps": 2,
    "prompts.perIteration": 8,
}
"""Many prompts with few pictures each, so that a mean over few iterations is known well."""

Turn = Callable[[Mapping[str, Any]], list[IterationRecord]]


@pytest.fixture
def turn(world: World, tmp_path: Path) -> Turn:
    """Run the quickstart's job with some keys below spec.training set otherwise; the diary."""

    def turned(changes: Mapping[str, Any]) -> list[IterationRecord]:
        document = yaml.safe_load(SAMPLE.read_text())
        document["spec"]["workers"] = {"processesPerNode": 1}
        for path, value in changes.items():
            *parents, key = path.split(".")
            place = document["spec"]["training"]
            for parent in parents:
                place = place[parent]
            place[key] = value
        job = parse_job(document)
        folder = RunFolder(tmp_path / job.metadata.name)
        folder.open(job)
        built = build(job, world, folder, Publisher(job, folder, world.size, 1), lambda: False)
        assert train(built.run, built.state)
        return folder.records()

    return turned


def end(records: list[IterationRecord]) -> tuple[str, str]:
    """Reason and key of the end."""
    stopped = records[-1].stopped
    assert stopped is not None, [record.evaluation for record in records if record.evaluation]
    assert records[-1].evaluation, "an end is evaluated"
    return stopped.reason, stopped.message.rpartition("spec.training.stop.")[2].rstrip(")")


def evaluated(records: list[IterationRecord], reward: str) -> list[float]:
    return [record.evaluation[0].rewards[reward].mean for record in records if record.evaluation]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quickstart_is_healthy(turn: Turn) -> None:
    records = turn({"iterations": 20, "rewards": READERS, "evaluation.everyIterations": 5, "stop": EVERY_RULE})
    assert records[-1].iteration == 20
    assert records[-1].stopped is None
    assert evaluated(records, "paddle-ocr")[-1] > evaluated(records, "paddle-ocr")[0] + 0.1


@pytest.mark.slow
def test_a_policy_that_is_paid_for_small_files_and_forgets_to_write_is_hacking(turn: Turn) -> None:
    records = turn(QUICK | {"iterations": 40, "rewards": SMALL_FILES, "optimizer.learningRate": 3e-4,
                            "optimizer.gradientClip": 1.0, "algorithm.g2rpo.clipRange": 1e-2,
                            "evaluation.maxPrompts": 80, "stop": {"hacking": {"evaluations": 3}}})  # fmt: skip
    assert end(records) == ("RewardHacking", "hacking")
    assert evaluated(records, "small-file")[-1] > evaluated(records, "small-file")[0]
    assert min(evaluated(records, reader)[-1] for reader in ("paddle-ocr", "dddd-ocr")) < 0.05


@pytest.mark.slow
def test_a_learning_rate_that_is_too_high_is_a_collapse(turn: Turn) -> None:
    records = turn(QUICK | WILD | {"iterations": 60, "rewards": READERS, "evaluation.everyIterations": 60,
                                   "stop": {"collapse": {"iterations": 5}}})  # fmt: skip
    assert end(records) == ("Collapse", "collapse.rewardDrop")
    before, after = evaluated(records, "paddle-ocr")
    assert after < before / 2


@pytest.mark.slow
def test_a_learning_rate_that_is_too_low_is_a_plateau(turn: Turn) -> None:
    records = turn(QUICK | {"iterations": 60, "optimizer.learningRate": 1e-12,
                            "stop": {"plateau": {"iterations": 4, "minDelta": 0.5}}})  # fmt: skip
    assert end(records) == ("Plateau", "plateau")
    assert records[-1].iteration == 8


@pytest.mark.slow
def test_a_target_ends_a_run_that_reaches_it(turn: Turn) -> None:
    changes = {"prompts.perIteration": 4, "rewards": READERS, "stop": {"target": {"reward": "dddd-ocr", "value": 0.06}}}
    records = turn(QUICK | changes | {"iterations": 60})
    assert end(records) == ("Target", "target")
    unseen = [record.evaluation[1].rewards["dddd-ocr"].mean for record in records if record.evaluation]
    assert unseen[-1] >= 0.06 > max(unseen[:-1])


@pytest.mark.parametrize("key", ["maxHours", "maxGpuHours"])
def test_a_budget_ends_a_run_that_used_it_up(turn: Turn, key: str) -> None:
    records = turn(QUICK | {"iterations": 200, "stop": {key: 3 / 3600}})
    assert end(records) == ("Budget", key)
    assert records[-1].spent.seconds >= 3
    assert all(record.spent.seconds < 3 for record in records[:-1])
