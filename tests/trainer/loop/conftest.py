"""A whole run in this process: the smallest real pipeline, one rank, a reward that costs nothing."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import parse_job
from g2rpo_trainer.build import Built, EndAsked, build
from g2rpo_trainer.engine import World
from g2rpo_trainer.environment import RankEnvironment
from g2rpo_trainer.publish import Publisher
from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards import registry
from g2rpo_trainer.runfolder import RunFolder

Edit = Callable[[dict[str, Any]], None]


class Brightness:
    """Mean of all pixels: smooth, instant, and plainly something a policy can raise."""

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        assert images.shape[0] == len(prompts)
        assert images.min() >= 0
        assert images.max() <= 1
        return images.mean(dim=(1, 2, 3))


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    torch.set_num_threads(1)
    place = RankEnvironment.alone()
    before = dict(os.environ)
    os.environ.update(place.variables())
    yield World.join(place)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from g2rpo_trainer.miniature.components import build_pipeline

    folder = tmp_path_factory.mktemp("pipeline")
    pipeline = build_pipeline(seed=0)
    pipeline.vae.register_to_config(shift_factor=0.0, scaling_factor=1.0)
    torch.manual_seed(1)
    for name, weight in pipeline.transformer.named_parameters():
        if "proj_out" in name:
            torch.nn.init.normal_(weight, std=0.5)
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def document(pipeline_folder: Path, tmp_path: Path) -> dict[str, Any]:
    prompts = tmp_path / "prompts.jsonl"
    lines = [{"prompt": f"the number {i} {i}", "target": f"{i}{i}"} for i in range(5)]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {
        "apiVersion": "g2rpo.dev/v1alpha1",
        "kind": "G2RPOJob",
        "metadata": {"name": "test"},
        "spec": {
            "training": {
                "iterations": 4,
                "model": {
                    "family": "SD3",
                    "path": str(pipeline_folder),
                    "maxSequenceLength": 8,
                    "train": {"type": "Full"},
                },
                "prompts": {"path": str(prompts), "perIteration": 2},
                "sampling": {"steps": 4, "shift": 1.0, "height": 16, "width": 32},
                "algorithm": {
                    "type": "G2RPO",
                    "g2rpo": {"groupSize": 4, "stochasticSteps": 2, "granularities": [1, 2], "clipRange": 1e-3},
                },
                "rewards": [{"name": "brightness", "type": "PaddleOCR"}],
                "optimizer": {"learningRate": 1e-3},
                "checkpoint": {"everyIterations": 2},
                "evaluation": {"everyIterations": 2, "maxPrompts": 3, "probes": ["the number 1 1"]},
            }
        },
    }


@pytest.fixture
def job(document: dict[str, Any]) -> Callable[..., G2RPOJob]:
    """A job with some keys below spec.training set otherwise: job({"optimizer.learningRate": 1.0})."""

    def with_changes(changes: Mapping[str, Any] | None = None) -> G2RPOJob:
        changed = copy.deepcopy(document)
        for path, value in (changes or {}).items():
            *parents, key = path.split(".")
            place = changed["spec"]["training"]
            for parent in parents:
                place = place.setdefault(parent, {})
            place[key] = value
        return parse_job(changed)

    return with_changes


@pytest.fixture
def open_run(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Built]:
    """Open the run folder of a job as `session.run_job` does, and build it; again for a second attempt."""
    monkeypatch.setitem(registry.REWARDS, "PaddleOCR", lambda *_: Brightness())

    def opened(
        job: G2RPOJob,
        stop: Callable[[], bool] = lambda: False,
        end: EndAsked = lambda: None,
        attempt: int | None = None,
    ) -> Built:
        folder = RunFolder(tmp_path / "runs" / job.metadata.name)
        folder.open(job)
        number = attempt or folder.next_attempt()
        publisher = Publisher(job, folder, world.size, number, folder.claim(number).check)
        return build(job, world, folder, publisher, stop, end)

    return opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The run folder of `open_run`."""
    return tmp_path / "runs" / "test"
