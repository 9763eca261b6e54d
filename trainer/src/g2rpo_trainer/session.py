"""One attempt at a job on one rank, from an open run folder to a report.

Who calls this: `__main__`, once it knows that the job is right; heavy imports begin here.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch

from g2rpo_api import contract
from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.build import build
from g2rpo_trainer.delivery import deliver
from g2rpo_trainer.engine import World, peers_needed
from g2rpo_trainer.environment import RankEnvironment, Surroundings
from g2rpo_trainer.exhaustion import memory_needed
from g2rpo_trainer.lastword import LastWord
from g2rpo_trainer.logs import hide_progress_bars, log_to
from g2rpo_trainer.loop import train
from g2rpo_trainer.planning.doctor import present_card
from g2rpo_trainer.planning.startup import refuse_what_cannot_fit, warn_at_start
from g2rpo_trainer.planning.utilisation import Card, measured
from g2rpo_trainer.publish import Publisher, Silent, alive
from g2rpo_trainer.runfolder import RunFolder
from g2rpo_trainer.stopping import StopFile, StopRequest


def run_job(job: G2RPOJob, place: RankEnvironment, around: Surroundings, stop: StopRequest, word: LastWord) -> bool:
    """Train the job in its run folder from its newest checkpoint if there is one.

    The first rank of every machine answers on the port, from before the ranks meet.

    Args:
        job: what to train; rank 0's run folder is open.
        place: which rank this is.
        around: where the run goes, and what the pod wants of it.
        stop: listens to signals once the ranks have met.
        word: is told how to find out how far training got, and said as soon as all that training made is saved.

    Returns:
        True when it is done, False when `stop` ended it with a checkpoint.

    Raises:
        SpecError, TrainerError: see `__main__` for what each means to a user.
    """
    torch.set_num_threads(1)  # for the CPU: several ranks share its cores
    hide_progress_bars()
    folder = RunFolder(around.runs / job.metadata.name)
    folder.make()
    log_to(folder.path / contract.RUN_LOG, job.metadata.name, place.rank)
    refuse_what_cannot_fit(job.spec.training, place.world_size, present_card(place.local_rank))
    if place.rank == 0:
        warn_at_start(job, around.runs)
        return _lead(job, place, around, stop, word)
    with alive(around.port, place.rank) if place.local_rank == 0 else nullcontext(Silent()) as publisher:
        return _train(job, place, folder, publisher, stop, StopFile())


def _lead(job: G2RPOJob, place: RankEnvironment, around: Surroundings, stop: StopRequest, word: LastWord) -> bool:
    folder = RunFolder(around.runs / job.metadata.name)
    attempt = around.attempt or folder.next_attempt()
    publisher = Publisher(job, folder, place.world_size, attempt, folder.claim(attempt).check)
    word.progress = publisher.progress
    memory = present_card(place.local_rank)
    card = Card(torch.cuda.get_device_name(place.local_rank), memory) if memory else None
    file = folder.path / contract.RUN_JOB
    with publisher.serving(around.port):
        with measured(job, file, place.world_size, card, publisher.expect):
            done = _train(job, place, folder, publisher, stop, StopFile(around.stop_file))
        word.say(word.ended(done))  # all is saved, and a pod that was told to go may be killed before the rest is done
        publisher.finish(done)
        if done:
            publisher.linger(around.linger_seconds, lambda: stop.asked)
    return done


def _train(
    job: G2RPOJob,
    place: RankEnvironment,
    folder: RunFolder,
    publisher: Publisher | Silent,
    stop: StopRequest,
    end: StopFile,
) -> bool:
    with memory_needed(place.rank), peers_needed(place.rank):
        world = World.join(place)
        stop.install()
        built = build(job, world, folder, publisher, lambda: stop.asked, end.reason)
        done = train(built.run, built.state)
        if done:
            deliver(job, folder, built)
        world.leave()
    return done
