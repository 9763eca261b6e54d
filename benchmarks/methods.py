"""The methods against each other: same weights, same rewards, equal CPU-seconds, several seeds.

    python benchmarks/methods.py                                            # an hour
    python benchmarks/methods.py --prices benchmarks/results/methods.json   # the same runs again
    python benchmarks/methods.py --search                                   # how the settings were chosen

First the CPU time of an iteration of each method is measured, all methods taking turns in one process, so
that whatever else the machine does hits all alike. An iteration of a method is always the same work;
equal CPU-seconds are therefore a number of iterations, and the runs, one after the other on one thread,
are the same on a busy machine. Writes raw results, a table (.md) and a plot (.svg).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Curve = list[dict[str, Any]]
"""One entry per mark."""

MARKS = 6
REWARDS = (("eval", "paddle-ocr"), ("eval", "dddd-ocr"), ("unseen", "paddle-ocr"))
TITLES = ("PP-OCR likelihood (trained)", "ddddocr exact (held out)", "PP-OCR likelihood, unseen numbers")
FREE = ("optimizer.learningRate", "algorithm.g2rpo.clipRange", "algorithm.flowGrpo.clipRange")
"""Keys that change no work: settings that differ in them only have one price."""


@dataclass(frozen=True)
class Method:
    """A sample job, with some keys below spec.training set otherwise."""

    sample: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def work(self) -> Method:
        """The same without what costs nothing."""
        return Method(self.sample, {key: value for key, value in self.changes.items() if key not in FREE})


def g2rpo(prompts: int, steps: int, rate: float, clip: float, granularities: tuple[int, ...] = (1,)) -> Method:
    """Granular-GRPO with the settings that were searched."""
    changes = {"stochasticSteps": steps, "clipRange": clip, "granularities": list(granularities)}
    return Method(
        "miniature-g2rpo",
        {f"algorithm.g2rpo.{key}": value for key, value in changes.items()} | _common(prompts, rate),
    )


def baseline(name: str, prompts: int, rate: float, clip: float) -> Method:
    """A method of whole stochastic trajectories with the settings that were searched."""
    return Method(SAMPLES[name], {"algorithm.flowGrpo.clipRange": clip} | _common(prompts, rate))


def _common(prompts: int, rate: float) -> dict[str, Any]:
    return {"prompts.perIteration": prompts, "optimizer.learningRate": rate}


SAMPLES = {
    "Flow-GRPO": "miniature-flow-grpo",
    "DanceGRPO": "miniature-dance-grpo",
    "MixGRPO": "miniature-mix-grpo",
}
METHODS = {
    "G2RPO {1}": g2rpo(8, 4, 3e-4, 1e-3),
    "G2RPO {1,2}": g2rpo(8, 4, 3e-4, 1e-3, (1, 2)),
    "G2RPO {1,2,3}": g2rpo(8, 4, 3e-4, 1e-3, (1, 2, 3)),
    "Flow-GRPO": baseline("Flow-GRPO", 16, 3e-4, 4e-3),
    "DanceGRPO": baseline("DanceGRPO", 16, 2e-4, 1e-3),
    "MixGRPO": baseline("MixGRPO", 8, 2e-4, 1e-3),
}
SEARCHED = {
    "Flow-GRPO": ((8, 3e-4, 1e-3), (4, 3e-4, 1e-3), (8, 3e-4, 4e-3), (8, 2e-4, 4e-3), (16, 3e-4, 4e-3)),
    "DanceGRPO": ((8, 1e-4, 1e-3), (8, 1e-4, 4e-3), (16, 2e-4, 1e-3), (8, 2e-4, 1e-3), (16, 3e-4, 4e-3)),
    "MixGRPO": ((8, 3e-4, 1e-3), (4, 2e-4, 1e-3), (8, 3e-4, 4e-3), (8, 2e-4, 1e-3), (16, 3e-4, 1e-3)),
}
"""Prompts an iteration, learning rate, clip range."""
SEARCHED_G2RPO = ((8, 4, 1e-4, 1e-3), (4, 2, 2e-4, 1e-3), (4, 4, 2e-4, 1e-3), (8, 4, 3e-4, 1e-3), (4, 6, 2e-4, 1e-3))
"""Prompts an iteration, stochastic steps, learning rate, clip range."""
SEARCH = {
    f"G2RPO {{1}}: {prompts} prompts, {steps} steps, rate {rate * 1e4:g}e-4, clip {clip * 1e3:g}e-3": g2rpo(
        prompts, steps, rate, clip
    )
    for prompts, steps, rate, clip in SEARCHED_G2RPO
} | {
    f"{name}: {prompts} prompts, rate {rate * 1e4:g}e-4, clip {clip * 1e3:g}e-3": baseline(name, prompts, rate, clip)
    for name, settings in SEARCHED.items()
    for prompts, rate, clip in settings
}


@dataclass(frozen=True)
class Results:
    """What is kept of a comparison."""

    cpu_seconds: float
    seeds: list[int]
    prices: Mapping[str, Mapping[str, float]]
    runs: Mapping[str, list[Curve]]
    """By method, a curve for each seed."""


def price(methods: Mapping[str, Method], rounds: int) -> dict[str, dict[str, float]]:
    """CPU-seconds of an iteration, and the share of it that decoding and scoring take: medians over rounds."""
    from common import in_process_run

    works: list[Method] = []
    for method in methods.values():
        if method.work not in works:
            works.append(method.work)
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in works]
        built = [in_process_run(m.sample, folder, m.changes) for m, folder in zip(works, folders, strict=True)]
        turns = [[timed_iteration(one, turn) for one in built] for turn in range(1, rounds + 2)]
    medians = [
        {key: statistics.median(cost[key] for cost in costs[1:]) for key in costs[0]}  # the first turn warms up
        for costs in zip(*turns, strict=True)
    ]
    return {name: medians[works.index(method.work)] for name, method in methods.items()}


def timed_iteration(built: Any, iteration: int) -> dict[str, float]:
    from g2rpo_trainer.loop import learn

    started = time.process_time()
    learn(built.run, iteration, built.state.model_copy(update={"iteration": iteration - 1}))
    seconds, phases = time.process_time() - started, built.run.stopwatch.take()
    return {"cpu_seconds": seconds, "scoring": (phases["reward"] + phases["decode"]) / sum(phases.values())}


def work(method: Method, seed: int, iterations: int) -> Curve:
    """Train, and evaluate at equal marks on the way."""
    from common import in_process_run

    with tempfile.TemporaryDirectory() as runs:
        built = in_process_run(method.sample, Path(runs), {**method.changes, "seed": seed})
        return list(marks(built, iterations))


def marks(built: Any, iterations: int) -> Iterator[dict[str, Any]]:
    """Evaluations before training and at every sixth of the iterations."""
    from g2rpo_trainer.loop import learn

    run, state, calls, images = built.run, built.state, 0, 0
    for mark in range(MARKS + 1):
        clipped: list[float] = []
        while state.iteration < round(mark * iterations / MARKS):
            learnt = learn(run, state.iteration + 1, state)
            assert learnt is not None
            state = learnt.state
            clipped.append(clip_fraction(learnt.update.losses, run.constants.clip_range))
            calls, images = calls + run.model.counter.take(), images + run.scorer.counter.take()
        with run.model.counter.paused():
            scores = {entry.split: entry.rewards for entry in run.evaluator.scores()}
        yield {
            "iterations": state.iteration,
            "model_calls": calls,
            "images": images,
            "clip_fraction": statistics.mean(clipped) if clipped else 0.0,
            "scores": [scores[split][name].mean for split, name in REWARDS],
        }


def clip_fraction(losses: Any, clip_range: float) -> float:
    """Share of the trained members that had no gradient because their ratio had already moved out of the clip range."""
    out = [((s.ratio - 1) * s.advantage.sign() > clip_range).double().mean().item() for s in losses]
    return statistics.mean(out)


def run_all(seeds: list[int], iterations: Mapping[str, int]) -> dict[str, list[Curve]]:
    """So many iterations of each method with each seed, one process at a time."""
    runs: dict[str, list[Curve]] = {name: [] for name in iterations}
    for seed in seeds:
        for name, count in iterations.items():
            command = [sys.executable, __file__, "--worker", name, str(seed), str(count)]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            runs[name].append(json.loads(answer.stdout.splitlines()[-1]))
            scores = " ".join(f"{score:.3f}" for score in runs[name][-1][-1]["scores"])
            print(f"{name:50} seed {seed}: {count:4} iterations, {scores}", flush=True)
    return runs


def write(results: Results, folder: Path, stem: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = table(results)
    (folder / f"{stem}.json").write_text(json.dumps(asdict(results), indent=1))
    (folder / f"{stem}.md").write_text(text)
    plot(results, folder / f"{stem}.svg")
    print(text)


def table(results: Results) -> str:
    """Markdown: mean and standard deviation over seeds at the end of the budget."""
    lines = [
        f"After {results.cpu_seconds:g} CPU-seconds of training, mean ± standard deviation over seeds {results.seeds}.",
        "",
        f"| method | {' | '.join(TITLES)} | CPU-s an iteration | of it scoring | iterations | clipped |",
        "|---|---|---|---|---|---|---|---|",
        f"| untrained | {cells([curve[0] for curve in next(iter(results.runs.values()))])} | | | | |",
    ]
    for name, curves in results.runs.items():
        price, last = results.prices[name], [curve[-1] for curve in curves]
        clipped = statistics.mean(mark["clip_fraction"] for curve in curves for mark in curve[1:])
        work = f"{price['cpu_seconds']:.2f} | {price['scoring']:.0%} | {last[0]['iterations']} | {clipped:.1%}"
        lines.append(f"| {name} | {cells(last)} | {work} |")
    return "\n".join(lines) + "\n"


def cells(marks: list[dict[str, Any]]) -> str:
    return " | ".join(spread([mark["scores"][i] for mark in marks]) for i in range(len(REWARDS)))


def spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


def plot(results: Results, path: Path) -> None:
    """One panel per reward: mean over seeds, the band from the worst to the best seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    for i, (axes, title) in enumerate(zip(figure.subplots(1, len(REWARDS)), TITLES, strict=True)):
        for name, curves in results.runs.items():
            x = [mark["iterations"] * results.prices[name]["cpu_seconds"] for mark in curves[0]]
            y = [[mark["scores"][i] for mark in marks] for marks in zip(*curves, strict=True)]
            (line,) = axes.plot(x, [statistics.mean(values) for values in y], label=name)
            axes.fill_between(x, [min(v) for v in y], [max(v) for v in y], alpha=0.12, color=line.get_color())
        axes.set(title=title, xlabel="CPU-seconds of training")
        axes.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", action="store_true", help="settings of each method, instead of the methods")
    parser.add_argument("--cpu-seconds", type=float, help="of training in each run (150; with --search 80)")
    parser.add_argument("--seeds", type=int, nargs="+", help="(0 1 2; with --search 100)")
    parser.add_argument("--rounds", type=int, default=5, help="iterations of each method that are priced")
    parser.add_argument("--prices", type=Path, help="results of this program, whose prices are taken over")
    parser.add_argument("--output", type=Path, default=Path("runs") / "methods")
    parser.add_argument("--worker", nargs=3, metavar=("METHOD", "SEED", "ITERATIONS"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.worker:
        name, seed, iterations = given.worker
        print(json.dumps(work((METHODS | SEARCH)[name], int(seed), int(iterations))))
        return
    chosen, stem, cpu_seconds, seeds = (
        (SEARCH, "search", given.cpu_seconds or 80, given.seeds or [100])
        if given.search
        else (METHODS, "methods", given.cpu_seconds or 150, given.seeds or [0, 1, 2])
    )
    prices = json.loads(given.prices.read_text())["prices"] if given.prices else price(chosen, given.rounds)
    runs = run_all(seeds, {name: round(cpu_seconds / prices[name]["cpu_seconds"]) for name in chosen})
    write(Results(cpu_seconds, seeds, prices, runs), given.output, stem)


if __name__ == "__main__":
    main()
