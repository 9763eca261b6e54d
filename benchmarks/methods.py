"""The methods against each other: same weights, same rewards, equal CPU-seconds, several seeds.

    python benchmarks/methods.py --cpu-seconds 90 --seeds 3

Every run is a process of its own, one rank on one thread; its clock is the process's CPU time, which
stands still while it evaluates. Writes methods.json, methods.md (a table) and methods.svg (a plot).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GRANULARITIES = "algorithm.g2rpo.granularities"
MARKS = 6
REWARDS = (("eval", "paddle-ocr"), ("eval", "dddd-ocr"), ("unseen", "paddle-ocr"))
TITLES = ("PP-OCR likelihood (trained)", "ddddocr exact (held out)", "PP-OCR likelihood, unseen numbers")


@dataclass(frozen=True)
class Method:
    """A sample job, with some keys below spec.training set otherwise."""

    sample: str
    changes: dict[str, Any] = field(default_factory=dict)


SPRINT = {"prompts.perIteration": 4, "algorithm.g2rpo.stochasticSteps": 2, "optimizer.learningRate": 2e-4}
"""What climbs fastest in the first minute; the sample's own settings climb longer."""
METHODS = {
    "G2RPO {1}": Method("miniature-g2rpo", SPRINT | {GRANULARITIES: [1]}),
    "G2RPO {1,2}": Method("miniature-g2rpo", SPRINT | {GRANULARITIES: [1, 2]}),
    "G2RPO {1,2,3}": Method("miniature-g2rpo", SPRINT | {GRANULARITIES: [1, 2, 3]}),
    "Flow-GRPO": Method("miniature-flow-grpo"),
    "DanceGRPO": Method("miniature-dance-grpo"),
    "MixGRPO": Method("miniature-mix-grpo"),
}


@dataclass
class CpuClock:
    """CPU seconds of this process that were spent on training."""

    spent: float = 0.0

    def measure(self, started: float) -> None:
        self.spent += time.process_time() - started


def work(method: Method, seed: int, cpu_seconds: float) -> dict[str, Any]:
    """Train for `cpu_seconds` and evaluate at equal marks on the way."""
    from common import in_process_run

    with tempfile.TemporaryDirectory() as runs:
        built = in_process_run(method.sample, Path(runs), {**method.changes, "seed": seed})
        return {"curve": list(marks(built, cpu_seconds))}


def marks(built: Any, cpu_seconds: float) -> Iterator[dict[str, Any]]:
    """Evaluations before training and at every sixth of the budget."""
    from g2rpo_trainer.loop import learn

    clock, state, calls, images = CpuClock(), built.state, 0, 0
    run = built.run
    for mark in range(MARKS + 1):
        while clock.spent < mark * cpu_seconds / MARKS:
            started = time.process_time()
            learnt = learn(run, state.iteration + 1, state)
            clock.measure(started)
            assert learnt is not None
            state = learnt.state
            calls, images = calls + run.model.counter.take(), images + run.scorer.counter.take()
        with run.model.counter.paused():
            scores = {entry.split: entry.rewards for entry in run.evaluator.scores()}
        yield {
            "cpu_seconds": clock.spent,
            "iterations": state.iteration,
            "model_calls": calls,
            "images": images,
            "scores": [scores[split][name].mean for split, name in REWARDS],
        }


def run_all(names: list[str], seeds: int, cpu_seconds: float, parallel: int) -> dict[str, list[dict[str, Any]]]:
    """All methods and seeds, `parallel` processes at a time, seed by seed so that drift hits all alike."""
    jobs = [(name, seed) for seed in range(seeds) for name in names]

    def one(job: tuple[str, int]) -> dict[str, Any]:
        name, seed = job
        command = [sys.executable, __file__, "--worker", name, str(seed), "--cpu-seconds", str(cpu_seconds)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        result = json.loads(answer.stdout.splitlines()[-1])
        last = result["curve"][-1]
        print(f"{name:14} seed {seed}: {last['iterations']:4} iterations, {last['scores']}", flush=True)
        return result

    with ThreadPoolExecutor(parallel) as pool:
        results = list(pool.map(one, jobs))
    return {name: [result for job, result in zip(jobs, results, strict=True) if job[0] == name] for name in names}


def table(results: dict[str, list[dict[str, Any]]], cpu_seconds: float, seeds: int) -> str:
    """Markdown: mean and standard deviation over seeds at the end of the budget."""
    lines = [
        f"After {cpu_seconds:g} CPU-seconds of training, mean ± standard deviation over {seeds} seeds.",
        "",
        f"| method | {' | '.join(TITLES)} | iterations | model calls |",
        "|---|---|---|---|---|---|",
    ]
    base = [run["curve"][0]["scores"] for runs in results.values() for run in runs]
    lines.append(f"| untrained | {' | '.join(spread([b[i] for b in base]) for i in range(len(REWARDS)))} | 0 | 0 |")
    for name, runs in results.items():
        last = [run["curve"][-1] for run in runs]
        cells = [spread([end["scores"][i] for end in last]) for i in range(len(REWARDS))]
        iterations = statistics.mean(end["iterations"] for end in last)
        calls = statistics.mean(end["model_calls"] for end in last)
        lines.append(f"| {name} | {' | '.join(cells)} | {iterations:.0f} | {calls:,.0f} |")
    return "\n".join(lines) + "\n"


def spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


def plot(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """One panel per reward: mean over seeds, the band from the worst to the best seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    for i, (axes, title) in enumerate(zip(figure.subplots(1, len(REWARDS)), TITLES, strict=True)):
        for name, runs in results.items():
            x = [statistics.mean(run["curve"][mark]["cpu_seconds"] for run in runs) for mark in range(MARKS + 1)]
            y = [[run["curve"][mark]["scores"][i] for run in runs] for mark in range(MARKS + 1)]
            (line,) = axes.plot(x, [statistics.mean(values) for values in y], label=name)
            axes.fill_between(x, [min(v) for v in y], [max(v) for v in y], alpha=0.12, color=line.get_color())
        axes.set(title=title, xlabel="CPU-seconds of training")
        axes.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-seconds", type=float, default=90)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--output", type=Path, default=Path("runs") / "methods")
    parser.add_argument("--worker", nargs=2, metavar=("METHOD", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, seed = arguments.worker
        print(json.dumps(work(METHODS[name], int(seed), arguments.cpu_seconds)))
        return
    results = run_all(arguments.methods, arguments.seeds, arguments.cpu_seconds, arguments.parallel)
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = table(results, arguments.cpu_seconds, arguments.seeds)
    (arguments.output / "methods.json").write_text(json.dumps(results, indent=1))
    (arguments.output / "methods.md").write_text(text)
    plot(results, arguments.output / "methods.svg")
    print(text)


if __name__ == "__main__":
    main()
