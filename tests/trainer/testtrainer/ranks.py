"""Real ranks for tests: processes that meet over gloo, forked from one that has imported the libraries.

Who calls this: the tests of what ranks do together. What ranks are to do stands here, too, since a process that is
forked imports it by name.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from g2rpo_api.parse import parse_job
from g2rpo_trainer.build import build
from g2rpo_trainer.engine import Engine, OptimizerSettings, World
from g2rpo_trainer.environment import LOOPBACK, RankEnvironment, free_port
from g2rpo_trainer.loop import train
from g2rpo_trainer.publish import Publisher, Silent
from g2rpo_trainer.records import Prompt
from g2rpo_trainer.runfolder import RunFolder

PATIENCE_SECONDS = 200
FORKS = multiprocessing.get_context("forkserver")
# DeepSpeed imports the last one when it first wraps a module, and torch's compiler with it
FORKS.set_forkserver_preload(
    ["g2rpo_trainer.build", "g2rpo_trainer.loop", "deepspeed.runtime.zero.muon.muon_optimizer"]
)
Weights = dict[str, np.ndarray]


def on_ranks(size: int, task: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `task(world, *arguments)` returns on each of `size` ranks; the first failure is raised."""
    port = free_port()
    ranks = []
    for rank in range(size):
        here, there = FORKS.Pipe(duplex=False)
        place = RankEnvironment(rank, size, rank, LOOPBACK, port)
        process = FORKS.Process(target=_be_rank, args=(place, there, task, arguments))
        process.start()
        there.close()
        ranks.append((process, here))
    try:
        answers = [here.recv() if here.poll(PATIENCE_SECONDS) else (False, "nothing came") for _, here in ranks]
    finally:
        for process, here in ranks:
            process.kill()
            process.join()
            here.close()
    failures = [text for fine, text in answers if not fine]
    assert not failures, "\n".join(failures)
    return [answer for _, answer in answers]


def _be_rank(place: RankEnvironment, there: Connection, task: Callable[..., Any], arguments: Sequence[Any]) -> None:
    os.environ.update(place.variables())
    torch.set_num_threads(1)
    try:
        world = World.join(place)
        there.send((True, task(world, *arguments)))
        world.leave()
    except BaseException:  # noqa: BLE001  told to the test
        there.send((False, traceback.format_exc()))


class Layers(nn.Module):
    """Parameters of many shapes, none of which two or four ranks share evenly, and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        shapes = {"a": (3, 5), "b": (1,), "c": (7, 2, 3), "d": (2,), "frozen": (4,)}
        self.weights = nn.ParameterDict({name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()})
        self.weights["frozen"].requires_grad_(False)

    def forward(self, number: float) -> Tensor:
        return sum(((weight * number).sin() ** 2).sum() for weight in self.weights.values())  # type: ignore[return-value]


SETTINGS: Mapping[str, Any] = {
    "learning_rate": 0.05,
    "betas": (0.8, 0.9),
    "epsilon": 1e-6,
    "weight_decay": 0.03,
    "gradient_clip": 0.5,
}


def steps(world: World, stage: int, numbers: Sequence[float], loaded: Path | None, saved: Path | None) -> Weights:
    """Weights after steps of a small module with losses that all ranks share evenly."""
    module = Layers()
    engine = Engine(module, OptimizerSettings(**SETTINGS, zero_stage=stage), world)
    if loaded is not None:
        engine.load(loaded.parent, loaded.name)
    for number in numbers:
        engine.backward(engine.forward(number))
        assert engine.step().applied
    if saved is not None:
        engine.save(saved.parent, saved.name)
    world.barrier()
    with engine.whole_weights():
        return {name: weight.detach().numpy().copy() for name, weight in module.weights.items()}


class Brightness:
    """Mean of all pixels of a picture, from which wrong pictures can be told."""

    def __init__(self, **_: Any) -> None:
        pass

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        return images.mean(dim=(1, 2, 3))


def runs(world: World, documents: Iterable[Mapping[str, Any]], folder: Path) -> list[Weights]:
    """Trained weights after each of several jobs, that were run or taken up one after the other."""
    return [_run(world, document, folder) for document in documents]


def _run(world: World, document: Mapping[str, Any], runs: Path) -> Weights:
    job = parse_job(document)
    folder = RunFolder(runs / job.metadata.name)
    publisher: Publisher | Silent = Silent()
    if world.rank == 0:
        folder.open(job)
        attempt = folder.next_attempt()
        publisher = Publisher(job, folder, world.size, attempt, folder.claim(attempt).check)
    world.barrier()
    built = build(job, world, folder, publisher, lambda: False)
    assert train(built.run, built.state)
    with built.run.engine.whole_weights():
        trained = [(n, p) for n, p in built.family.transformer.named_parameters() if p.requires_grad]
        return {name: weight.detach().numpy().copy() for name, weight in trained}
