"""One attempt at a job on one rank, from an open run folder to a report.

Who calls this: `__main__`, once it knows that the job is right; heavy imports begin here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch

from g2rpo_api import contract
from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.build import Built, build
from g2rpo_trainer.engine import World
from g2rpo_trainer.export import export_weights
from g2rpo_trainer.launch import RankEnvironment
from g2rpo_trainer.logs import hide_progress_bars, log_to
from g2rpo_trainer.loop import train
from g2rpo_trainer.publish import Publisher, Silent
from g2rpo_trainer.runfolder import RunFolder

logger = logging.getLogger(__name__)


def run_job(job: G2RPOJob, place: RankEnvironment, runs: Path, port: int | None, stop: Callable[[], bool]) -> bool:
    """Train the job in its run folder, which is open, from its newest checkpoint if there is one.

    Returns:
        True when it is done, False when `stop` ended it early (with a checkpoint).

    Raises:
        SpecError, TrainerError: see `__main__` for what each means to a user.
    """
    torch.set_num_threads(1)  # for the CPU: several ranks share its cores
    hide_progress_bars()
    folder = RunFolder(runs / job.metadata.name)
    world = World.join(place)
    log_to(folder.path / contract.RUN_LOG, job.metadata.name, place.rank)
    lead = place.rank == 0
    done = _lead(job, folder, world, port, stop) if lead else _train(job, folder, world, Silent(), stop)
    world.leave()
    return done


def _lead(job: G2RPOJob, folder: RunFolder, world: World, port: int | None, stop: Callable[[], bool]) -> bool:
    publisher = Publisher(job, folder, world.size, folder.next_attempt())
    with publisher.serving(port):
        done = _train(job, folder, world, publisher, stop)
        publisher.finish(done)
    return done


def _train(
    job: G2RPOJob, folder: RunFolder, world: World, publisher: Publisher | Silent, stop: Callable[[], bool]
) -> bool:
    built = build(job, world, folder, publisher, stop)
    done = train(built.run, built.state)
    if done:
        _export(job, folder, built, world)
    return done


def _export(job: G2RPOJob, folder: RunFolder, built: Built, world: World) -> None:
    with built.run.engine.whole_weights():
        if world.rank == 0:
            lora = job.spec.training.model.train.type == "LoRA"
            export_weights(built.family, lora, folder.path / contract.RUN_EXPORT)
    world.barrier()
