"""Real ranks for tests: processes that meet over gloo, forked from one that has imported the libraries.

Who calls this: the tests of what ranks do together. What ranks are to do stands here, too, since a process that is
forked imports it by name.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from g2rpo_api.contract import ENV_TERMINATION_LOG
from g2rpo_api.parse import parse_job
from g2rpo_api.progress import TerminationReport
from g2rpo_trainer.__main__ import main
from g2rpo_trainer.build import build
from g2rpo_trainer.engine import Engine, World
from g2rpo_trainer.environment import LOOPBACK, RankEnvironment, free_port
from g2rpo_trainer.launch import LAUNCHED
from g2rpo_trainer.logs import hide_progress_bars
from g2rpo_trainer.loop import train
from g2rpo_trainer.optimizer_settings import OptimizerSettings
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


@contextmanager
def commands(size: int, job: Path, runs: Path) -> Iterator[list[Any]]:
    """`g2rpo-train` as so many ranks, without a launcher: processes that end with its exit codes."""
    places = [RankEnvironment(rank, size, rank, LOOPBACK, port) for port in [free_port()] for rank in range(size)]
    ranks = [FORKS.Process(target=_be_command, args=(place, job, runs)) for place in places]
    for process in ranks:
        process.start()
    try:
        yield ranks
    finally:
        for process in ranks:
            process.kill()
            process.join()


def exit_codes(ranks: Sequence[Any], seconds: float = PATIENCE_SECONDS) -> list[int | None]:
    """How each ended; None where it still runs after so many seconds."""
    until = time.monotonic() + seconds
    for process in ranks:
        process.join(max(0.0, until - time.monotonic()))
    return [process.exitcode for process in ranks]


def word_of(runs: Path, rank: int) -> TerminationReport:
    """The last word of a rank."""
    return TerminationReport.model_validate_json((runs / f"{rank}.word").read_bytes())


def _be_command(place: RankEnvironment, job: Path, runs: Path) -> None:
    os.environ.update(place.variables() | {LAUNCHED: "1", ENV_TERMINATION_LOG: str(runs / f"{place.rank}.word")})
    sys.exit(main([str(job), "--runs", str(runs), "--port", "0"]))


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


def steps(
    world: World,
    stage: int,
    numbers: Sequence[float],
    loaded: Path | None,
    saved: Path | None,
    offload: bool = False,
) -> Weights:
    """Weights after steps of a small module with losses that all ranks share evenly."""
    module = Layers()
    offloaded = {"offload_optimizer": offload, "offload_parameters": offload and stage == 3}
    engine = Engine(module, OptimizerSettings(**SETTINGS, zero_stage=stage, **offloaded), world)
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
    """Mean of all pixels of a picture; on one rank it may misbehave from some call on."""

    def __init__(self, rank: int = -1, deed: str = "", calls: int = 1, marker: str = "/", **_: Any) -> None:
        """On `rank`, after so many calls, do the `deed` if the marker is there: raise, hang or die."""
        self._deed = deed if int(os.environ["RANK"]) == rank and Path(marker).exists() else ""
        self._calls = calls

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        self._calls -= 1
        if self._calls < 0 and self._deed == "raise":
            raise ValueError("the network is down")
        if self._calls < 0 and self._deed == "hang":
            signal.pause()
        if self._calls < 0 and self._deed == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return images.mean(dim=(1, 2, 3))


COLLECTIVES = (
    "all_reduce",
    "reduce",
    "reduce_scatter_tensor",
    "all_gather_into_tensor",
    "all_gather_object",
    "barrier",
)


def counted(world: World, documents: Iterable[Mapping[str, Any]], folder: Path) -> list[Counter[str]]:
    """How often this rank called each collective, in each job."""
    counts: list[Counter[str]] = []
    plain = {name: getattr(distributed, name) for name in COLLECTIVES}

    def counting(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            counts[-1][name] += 1
            return plain[name](*arguments, **named)

        return call

    for name in COLLECTIVES:
        setattr(distributed, name, counting(name))
    for document in documents:
        counts.append(Counter())
        _run(world, document, folder)
    return counts


def runs(world: World, documents: Iterable[Mapping[str, Any]], folder: Path) -> list[Weights]:
    """Trained weights after each of several jobs, that were run or taken up one after the other."""
    return [_run(world, document, folder) for document in documents]


def _run(world: World, document: Mapping[str, Any], runs: Path) -> Weights:
    hide_progress_bars()
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
