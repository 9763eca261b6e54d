"""What ranks and ZeRO stages cost and save on the miniature, and where a start and a checkpoint spend their time.

    python benchmarks/scaling.py [--iterations 3] [--ranks 1 2 4]

Every combination of 1, 2 and 4 ranks, stages 0 to 3 and LoRA or full training runs the same iterations: forked
processes that meet over gloo, one thread each. Where there are fewer cores than ranks, ranks take turns. Memory is
counted in tensors that are alive, since a process is mostly libraries; the start is timed in a process of its own.
Writes results/scaling.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from common import built, on_ranks

from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import parse_job
from g2rpo_trainer.engine import World
from g2rpo_trainer.environment import free_port
from g2rpo_trainer.loop import learn

RESULTS = Path(__file__).parent / "results" / "scaling.json"
MIB = 2**20
START = """
import json, sys, time
stamps = []
def stamp(part):
    stamps.append((part, time.perf_counter(), time.process_time()))
stamp("interpreter")
import g2rpo_trainer.__main__; stamp("the job's definition")
import torch; stamp("torch")
import torch._dynamo; stamp("torch's compiler, which deepspeed and diffusers ask for")
import deepspeed; stamp("deepspeed")
import g2rpo_trainer.models.loading; stamp("diffusers and transformers")
import g2rpo_trainer.session; stamp("rewards, plots and the rest of the trainer")
sys.path.insert(0, sys.argv[1])
from common import built, joined
from scaling import Case, job_of
case = Case(1, 0, "LoRA")
world = joined(1, 0, int(sys.argv[2])); stamp("meeting the ranks")
from pathlib import Path
built(job_of(case), world, Path(sys.argv[3])); stamp("model, text, engine, rewards")
print(json.dumps(stamps))
"""


@dataclass(frozen=True)
class Case:
    """One combination."""

    ranks: int
    zero_stage: int
    train: str
    offload: str = "None"


@dataclass(frozen=True)
class Measured:
    """What a rank took; seconds of the slowest rank, memory of the largest."""

    iteration_seconds: float
    """Of the quickest iteration but for the first, in which much is set up; so are the next two."""
    rollout_seconds: float
    train_seconds: float
    state_mib: float
    """Tensors alive between iterations."""
    before_step_mib: float
    """Tensors alive before an optimizer step, with gradients."""
    resident_growth_mib: float
    """By how much the process grew at most since the ranks met."""
    save_seconds: float
    load_seconds: float
    checkpoint_mib: float


def job_of(case: Case) -> G2RPOJob:
    """Four prompts an iteration, eight pictures each; JPEG size as a reward that costs little."""
    training = {
        "iterations": 1000,
        "model": {"family": "SD3", "path": "builtin:miniature", "maxSequenceLength": 8, "train": {"type": case.train}},
        "prompts": {"path": "builtin:numbers", "perIteration": 4},
        "sampling": {"steps": 8, "height": 16, "width": 32},
        "algorithm": {"type": "G2RPO", "g2rpo": {"groupSize": 4, "stochasticSteps": 2, "granularities": [1]}},
        "rewards": [{"name": "jpeg", "type": "JPEG"}],
        "deepspeed": {"zeroStage": case.zero_stage, "offloadOptimizer": case.offload},
        "evaluation": {"maxPrompts": 1},
    }
    name = f"{case.train}-{case.ranks}-{case.zero_stage}-{case.offload}".lower()
    document = {"apiVersion": "g2rpo.dev/v1alpha1", "kind": "G2RPOJob", "metadata": {"name": name}}
    return parse_job(document | {"spec": {"training": training}})


def measure(world: World, case: Case, folder: Path, iterations: int) -> dict[str, float]:
    """A `Measured` of this rank; the first iteration is not counted."""
    before = resident_mib()
    start = built(job_of(case), world, folder)
    run, state = start.run, start.state
    alive: list[float] = []
    step = run.engine.step

    def watched() -> Any:
        alive.append(alive_mib())
        return step()

    run.engine.step = watched  # type: ignore[method-assign]
    taken, phases = [], []
    for iteration in range(1, iterations + 2):
        if iteration == 2:  # looking at memory takes time
            run.engine.step = step  # type: ignore[method-assign]
        world.barrier()
        started = time.perf_counter()
        learnt = learn(run, iteration, state)
        world.barrier()
        taken.append(time.perf_counter() - started)
        phases.append(run.stopwatch.take())
        assert learnt is not None
        state = learnt.state
    del learnt
    best = min(range(1, len(taken)), key=taken.__getitem__)
    rest = alive_mib()
    started = time.perf_counter()
    run.store.save(state, run.engine.save)
    saved = time.perf_counter()
    newest = run.store.newest()
    assert newest is not None
    run.engine.load(run.store.folder, newest[0])
    world.barrier()
    loaded = time.perf_counter()
    files = (run.store.folder / newest[0]).rglob("*")
    measured = Measured(
        iteration_seconds=taken[best],
        rollout_seconds=phases[best]["rollout"],
        train_seconds=phases[best]["train"],
        state_mib=rest,
        before_step_mib=max(alive),
        resident_growth_mib=peak_mib() - before,
        save_seconds=saved - started,
        load_seconds=loaded - saved,
        checkpoint_mib=sum(path.stat().st_size for path in files if path.is_file()) / MIB,
    )
    return asdict(measured)


def alive_mib() -> float:
    """Storage of all tensors that this process can reach, each once."""
    gc.collect()
    tensors = [found for found in gc.get_objects() if type(found) in (torch.Tensor, torch.nn.Parameter)]
    grads = [found.grad for found in tensors if found.is_leaf and found.grad is not None]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in [*tensors, *grads]}
    return sum(storages.values()) / MIB


def resident_mib() -> float:
    """What is resident of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


def peak_mib() -> float:
    """What was resident at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def largest(case: Case, iterations: int) -> Measured:
    """The slowest and the largest of all ranks."""
    with tempfile.TemporaryDirectory() as folder:
        answers = on_ranks(case.ranks, measure, case, Path(folder), iterations)
    return Measured(*(max(values) for values in zip(*(answer.values() for answer in answers), strict=True)))


def start_up() -> list[dict[str, Any]]:
    """Seconds on the clock and of this process's CPU by part of a start, from a process that starts."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        command = [sys.executable, "-c", START, str(Path(__file__).parent), str(free_port()), folder]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    stamps = [["", begun, 0.0], *json.loads(answer.stdout.splitlines()[-1])]
    return [
        {"part": part, "seconds": clock - stamps[i][1], "cpu_seconds": cpu - stamps[i][2]}
        for i, (part, clock, cpu) in enumerate(stamps[1:])
    ]


def table(results: Sequence[tuple[Case, Measured]]) -> str:
    """For a README."""
    lines = ["| ranks | stage | trained | iteration s | state MiB | before a step MiB | save s | load s |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for case, found in results:
        stage = f"{case.zero_stage}{', offloaded' if case.offload == 'CPU' else ''}"
        memory = f"{found.state_mib:.1f} | {found.before_step_mib:.1f}"
        disk = f"{found.save_seconds:.2f} | {found.load_seconds:.2f}"
        lines.append(f"| {case.ranks} | {stage} | {case.train} | {found.iteration_seconds:.2f} | {memory} | {disk} |")
    return "\n".join(lines)


def main() -> None:
    """All combinations, then the start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    starts = [start_up() for _ in range(2)][-1]
    plain = [Case(ranks, stage, train) for ranks, stage, train in product(arguments.ranks, range(4), ("LoRA", "Full"))]
    offloaded = [Case(2, stage, "Full", "CPU") for stage in (2, 3)]
    results = [(case, largest(case, arguments.iterations)) for case in [*plain, *offloaded]]
    document = {
        "cores": os.cpu_count(),
        "iterations": arguments.iterations,
        "start": starts,
        "cases": [asdict(case) | asdict(found) for case, found in results],
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(table(results))
    for part in starts:
        print(f"{part['seconds']:6.2f} s, {part['cpu_seconds']:6.2f} s of CPU: {part['part']}")


if __name__ == "__main__":
    main()
