"""What the benchmarks share: a run of a sample job in this process, on one rank and one thread."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import yaml

from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import parse_job
from g2rpo_trainer.build import Built, build
from g2rpo_trainer.engine import World
from g2rpo_trainer.environment import LOOPBACK, RankEnvironment, free_port
from g2rpo_trainer.logs import hide_progress_bars
from g2rpo_trainer.publish import Silent
from g2rpo_trainer.runfolder import RunFolder

SAMPLES = Path(__file__).parents[1] / "manifests" / "samples"
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["g2rpo_trainer.build", "g2rpo_trainer.loop", "deepspeed.runtime.zero.muon.muon_optimizer"]
)


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


def joined(ranks: int, rank: int, port: int) -> World:
    """This process as a rank."""
    torch.set_num_threads(1)
    hide_progress_bars()
    place = RankEnvironment(rank, ranks, rank, LOOPBACK, port)
    os.environ.update(place.variables())
    return World.join(place)


def built(job: G2RPOJob, world: World, runs: Path) -> Built:
    """The job, ready to turn."""
    folder = RunFolder(runs / job.metadata.name)
    if world.rank == 0:
        folder.open(job)
    world.barrier()
    return build(job, world, folder, Silent(), lambda: False)


def on_ranks(ranks: int, act: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `act(world, *arguments)` answers on each rank, in a process of its own."""
    port, processes = free_port(), []
    for rank in range(ranks):
        here, there = FORKS.Pipe(duplex=False)
        process = FORKS.Process(target=_be_rank, args=(there, ranks, rank, port, act, arguments))
        process.start()
        there.close()  # so that a rank that ends without an answer is noticed
        processes.append((process, here))
    answers = [here.recv() for _, here in processes]
    for process, _ in processes:
        process.join()
    return answers


def _be_rank(
    there: Connection, ranks: int, rank: int, port: int, act: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    world = joined(ranks, rank, port)
    there.send(act(world, *arguments))
    world.leave()
