"""What sharing and batching save: one group of the paper's size, by a plain loop and by the trainer.

    python benchmarks/rollout.py [--repeats 3]

The plain loop evaluates one row at a time and shares nothing: the anchor, then for every branch the
velocity at x_k again and a tail per granularity. Both draw the same noise, so their rewards must agree.
Then one iteration of the quickstart is taken apart: how much of it is spent outside model and rewards.
Exits with 1 when a promise is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

import torch
from common import in_process_run
from torch import Tensor

from g2rpo_trainer import noise
from g2rpo_trainer.algorithms.g2rpo import G2RPO
from g2rpo_trainer.flow.schedule import Grid, shifted_grid
from g2rpo_trainer.flow.sde import stochastic_step
from g2rpo_trainer.loop import learn
from g2rpo_trainer.policy import BoundPolicy
from g2rpo_trainer.records import PromptBatch, Scores
from g2rpo_trainer.run import Run

STEPS, GROUP, STOCHASTIC, GRANULARITIES = 16, 12, 8, (1, 2, 3)
PLAIN_CALLS, SHARED_CALLS = 2188, 1708
LEAST_RATIO = 3.0
MOST_OUTSIDE = 0.05
TOLERANCE = 2e-3
"""Of a likelihood in [0, 1]: float32 rounding of 16 steps, amplified by the reader."""


def plain_rollout(
    velocity: Callable[[Tensor, Tensor, Tensor], Tensor], grid: Grid, algorithm: G2RPO, shape: tuple[int, ...]
) -> Iterator[Tensor]:
    """Samples of one group, one row at a time: the anchor, then every (k, granularity, member)."""
    sigma, prompt = grid.sigmas, torch.zeros(1, dtype=torch.long)

    def v(x: Tensor, node: int) -> Tensor:
        return velocity(x, torch.tensor([sigma[node]], dtype=torch.float32), prompt)

    states = [noise.normal(shape, algorithm.seed, 1, 0).unsqueeze(0)]
    for i in range(grid.steps):
        states.append(states[i] + (sigma[i + 1] - sigma[i]) * v(states[i], i))
    yield states[-1]
    for k in algorithm.steps:
        step = stochastic_step(algorithm.law, grid, k, algorithm.eta)
        members = [
            step.sample(states[k], v(states[k], k), noise.normal(shape, algorithm.seed, 1, 0, i, k).unsqueeze(0))
            for i in range(algorithm.group_size)
        ]
        for stride in algorithm.granularities:
            for member in members:
                yield plain_tail(v, grid, member, k, stride)


def plain_tail(v: Callable[[Tensor, int], Tensor], grid: Grid, x: Tensor, k: int, stride: int) -> Tensor:
    """One deterministic tail, by the definition of its nodes."""
    count = ceil((grid.steps - 1 - k) / stride)
    nodes = [k + 1] + [k + 2 + j * stride for j in range(count - 1)]
    for node, following in zip(nodes, [*nodes[1:], grid.steps], strict=True):
        x = x + (grid.sigmas[following] - grid.sigmas[node]) * v(x, node)
    return x


@dataclass
class Timed:
    """Seconds and calls of what is wrapped."""

    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
        self.calls[name] = self.calls.get(name, 0) + 1

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return timed


def compare(run: Run, repeats: int) -> dict[str, float]:
    """Best times of both ways over interleaved repeats, and the largest difference of their rewards."""
    grid = shifted_grid(STEPS, 3.0)
    algorithm = replace(
        run.algorithm, grid=grid, group_size=GROUP, steps=tuple(range(STOCHASTIC)), granularities=GRANULARITIES
    )
    batch = replace(run.batch(1), slots=(0,), prompts=run.batch(1).prompts[:1])
    policy = run.model.on([batch.prompts[0].text])
    rows = Rows(policy)
    times: dict[str, list[float]] = {"plain": [], "plain sampling": [], "shared": [], "shared sampling": []}
    rewards: dict[str, Tensor] = {}
    for _ in range(repeats):
        started = time.perf_counter()
        with torch.no_grad():
            samples = list(plain_rollout(rows.velocity, grid, algorithm, policy.latent_shape))
        times["plain sampling"].append(time.perf_counter() - started)
        rewards["plain"] = torch.cat([score_one(run, sample, batch) for sample in samples])
        times["plain"].append(time.perf_counter() - started)
        scored = Scored(run)
        started = time.perf_counter()
        algorithm.collect(policy, batch, scored)
        times["shared"].append(time.perf_counter() - started)
        times["shared sampling"].append(times["shared"][-1] - scored.seconds)
        rewards["shared"] = scored.values
    assert rows.count == repeats * PLAIN_CALLS, rows.count
    assert run.model.counter.take() == repeats * (PLAIN_CALLS + SHARED_CALLS)
    best = {name: min(values) for name, values in times.items()}
    return best | {"difference": float((rewards["plain"] - rewards["shared"]).abs().max())}


@dataclass
class Rows:
    """Counts the rows of the plain loop."""

    policy: BoundPolicy
    count: int = 0

    def velocity(self, x: Tensor, sigma: Tensor, prompt: Tensor) -> Tensor:
        self.count += len(x)
        return self.policy.velocity(x, sigma, prompt)


def score_one(run: Run, sample: Tensor, batch: PromptBatch) -> Tensor:
    return run.scorer(sample, torch.zeros(1, dtype=torch.long), batch).values[0]


@dataclass
class Scored:
    """The trainer's scorer, timed, keeping what it answered."""

    run: Run
    seconds: float = 0.0
    values: Tensor = field(default_factory=lambda: torch.empty(0))

    def __call__(self, latents: Tensor, prompt: Tensor, batch: PromptBatch) -> Scores:
        started = time.perf_counter()
        scores = self.run.scorer(latents, prompt, batch)
        self.seconds += time.perf_counter() - started
        self.values = scores.values[0]
        return scores


def take_apart(run: Run, state: Any, iterations: int) -> dict[str, float]:
    """Share of quickstart iterations by part; what is left is outside model and rewards."""
    timed = Timed()
    family, scorer, engine = run.model.family, run.scorer, run.engine
    velocity = family.velocity
    family.velocity = timed.wrap("transformer", velocity)
    judged = tuple(replace(entry, reward=TimedReward(entry.reward, timed)) for entry in scorer.rewards)
    scorer = replace(scorer, decode=timed.wrap("decoder", scorer.decode), rewards=judged)
    engine.backward = timed.wrap("backward", engine.backward)
    engine.step = timed.wrap("optimizer", engine.step)
    run = replace(run, scorer=scorer)
    total = 0.0
    for iteration in range(1, iterations + 1):
        started = time.perf_counter()
        learnt = learn(run, iteration, state)
        total += time.perf_counter() - started
        assert learnt is not None
        state = learnt.state
    family.velocity = velocity
    shares = {name: seconds / total for name, seconds in timed.seconds.items()}
    return shares | {"outside": 1 - sum(shares.values())}


@dataclass
class TimedReward:
    """A reward whose calls are timed."""

    reward: Any
    timed: Timed

    def score(self, images: Tensor, prompts: Any) -> Tensor:
        with self.timed.part("reward"):
            return self.reward.score(images, prompts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as runs:
        built = in_process_run("miniature-g2rpo", Path(runs), {})
        found = compare(built.run, arguments.repeats)
        shares = take_apart(built.run, built.state, arguments.iterations)
    ratios = {name: found[f"plain{name}"] / found[f"shared{name}"] for name in ("", " sampling")}
    print(f"one group, T={STEPS}, |M|={STOCHASTIC}, G={GROUP}, granularities {list(GRANULARITIES)}, one thread")
    print(f"{'':24}{'plain loop':>12}{'trainer':>12}{'ratio':>8}")
    print(f"{'model calls (rows)':24}{PLAIN_CALLS:>12}{SHARED_CALLS:>12}{PLAIN_CALLS / SHARED_CALLS:>8.2f}")
    for name, label in ((" sampling", "seconds, sampling"), ("", "seconds, with scoring")):
        print(f"{label:24}{found['plain' + name]:>12.2f}{found['shared' + name]:>12.2f}{ratios[name]:>8.2f}")
    print(f"largest difference of a reward: {found['difference']:.1e}")
    print("an iteration of the quickstart: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
    kept = {
        f"ratio with scoring at least {LEAST_RATIO}": ratios[""] >= LEAST_RATIO,
        f"rewards agree to {TOLERANCE}": found["difference"] <= TOLERANCE,
        f"at most {MOST_OUTSIDE:.0%} outside model and rewards": shares["outside"] <= MOST_OUTSIDE,
    }
    for promise, holds in kept.items():
        print(f"{'kept' if holds else 'BROKEN':8}{promise}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"seconds": found, "ratios": ratios, "shares": shares}, indent=1))
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
