"""What the benchmarks share: a run of a sample job in this process, on one rank and one thread."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import yaml

from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import parse_job
from g2rpo_trainer.build import Built, build
from g2rpo_trainer.engine import World
from g2rpo_trainer.launch import RankEnvironment
from g2rpo_trainer.logs import hide_progress_bars
from g2rpo_trainer.publish import Silent
from g2rpo_trainer.runfolder import RunFolder

SAMPLES = Path(__file__).parents[1] / "manifests" / "samples"


def in_process_run(sample: str, runs: Path, changes: Mapping[str, Any]) -> Built:
    """Build a sample job on one rank, with some keys below spec.training set otherwise."""
    document = yaml.safe_load((SAMPLES / f"{sample}.yaml").read_text())
    document["spec"]["workers"] = {"nodes": 1, "processesPerNode": 1}
    for path, value in changes.items():
        *parents, key = path.split(".")
        place = document["spec"]["training"]
        for parent in parents:
            place = place[parent]
        place[key] = value
    return built_from(parse_job(document), runs)


def built_from(job: G2RPOJob, runs: Path) -> Built:
    """Build a job on one rank."""
    torch.set_num_threads(1)
    hide_progress_bars()
    folder = RunFolder(runs / job.metadata.name)
    folder.open(job)
    return build(job, alone(), folder, Silent(), lambda: False)


@cache
def alone() -> World:
    """The only rank; a process meets the others once."""
    place = RankEnvironment.alone()
    os.environ.update(place.variables())
    return World.join(place)
