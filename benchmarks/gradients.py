"""Do more granularities say more? How the sets agree, and how much of a method's gradient is signal.

    python benchmarks/gradients.py [--batches 16]

At the shipped weights, without ever stepping, each method estimates its gradient from many batches of prompts.
Two estimates have nothing in common but their expectation g, so the mean of their inner products is |g|², and
signal = |g|² / E|estimate|². Sets of granularities are judged on the same pictures: only the advantages differ.
Writes gradients.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from common import in_process_run
from methods import METHODS
from torch import Tensor

from g2rpo_trainer.advantage import group_zscore, integrate
from g2rpo_trainer.algorithms.g2rpo import G2RPO
from g2rpo_trainer.policy import BoundPolicy
from g2rpo_trainer.records import Experience
from g2rpo_trainer.run import Run

WIDEST = "G2RPO {1,2,3}"
STRIDES = (1, 2, 3)
SETS = {"G2RPO {1}": (1,), "G2RPO {1,2}": (1, 2), WIDEST: STRIDES, "G2RPO {2}": (2,), "G2RPO {3}": (3,)}
Variants = Callable[[Experience], Mapping[str, Experience]]


@dataclass
class Estimates:
    """Independent estimates of one gradient, each flat."""

    gradients: list[Tensor] = field(default_factory=list)
    cosines: list[float] = field(default_factory=list)
    """With the first variant's estimate from the same pictures."""

    def add(self, gradient: Tensor, first: Tensor) -> None:
        self.gradients.append(gradient)
        self.cosines.append(torch.cosine_similarity(gradient, first, dim=0).item())

    def signal(self) -> tuple[float, float]:
        """s and its standard error (jackknife over the estimates)."""
        rows = torch.stack(self.gradients)
        products = (rows @ rows.T).double()
        n = len(products)
        without = torch.tensor([signal(drop(products, i)) for i in range(n)], dtype=torch.float64)
        return signal(products), ((n - 1) * without.var(correction=0)).sqrt().item()


def signal(products: Tensor) -> float:
    """|g|² / E|estimate|² from inner products [n, n]: different estimates give the one, equal ones the other."""
    n, squares = len(products), products.trace()
    return ((products.sum() - squares) / (n - 1) / squares).item()


def drop(products: Tensor, i: int) -> Tensor:
    kept = [j for j in range(len(products)) if j != i]
    return products[kept][:, kept]


def estimate(run: Run, batches: int, variants: Variants) -> tuple[dict[str, Estimates], list[Experience]]:
    """Estimates of each variant's gradient, and the experience they are from."""
    found: dict[str, Estimates] = {}
    seen: list[Experience] = []
    model = replace(run.model, forward=run.model.family.transformer)  # DeepSpeed's wrapper wants to step
    for iteration in range(1, batches + 1):
        batch = run.batch(iteration)
        policy = model.on([prompt.text for prompt in batch.prompts])
        seen.append(run.algorithm.collect(policy, batch, run.scorer))
        gradients = {name: gradient(run, policy, one) for name, one in variants(seen[-1]).items()}
        for name, value in gradients.items():
            found.setdefault(name, Estimates()).add(value, next(iter(gradients.values())))
    return found, seen


def gradient(run: Run, policy: BoundPolicy, experience: Experience) -> Tensor:
    """Of the sum of an iteration's losses at unchanged weights, flat."""
    parameters = [p for p in run.model.family.transformer.parameters() if p.requires_grad]
    total = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    for loss in run.algorithm.losses(policy, experience):
        parts = torch.autograd.grad(loss.value, parameters, allow_unused=True, materialize_grads=True)
        total += torch.cat([part.flatten() for part in parts])
    return total


def judged_at(algorithm: G2RPO, experience: Experience, strides: tuple[int, ...]) -> Experience:
    """The experience as if its branches had been finished at these granularities only."""
    rewards = experience.rollout.branch_rewards[:, [STRIDES.index(stride) for stride in strides]]
    tolerance = algorithm.zero_variance_tolerance
    a = integrate(rewards, algorithm.weights, algorithm.aggregate, algorithm.advantage_clip, tolerance).values
    return replace(experience, transitions=tuple(t.with_advantage(a[i]) for i, t in enumerate(experience.transitions)))


def agreement(seen: list[Experience]) -> dict[str, Any]:
    """What the granularities say about the same branches, step by step."""
    rewards = torch.cat([one.rollout.branch_rewards[0] for one in seen], dim=2).double()  # [L, K, P, G]
    a, _ = group_zscore(rewards, 1e-6)
    norm = a.square().sum((2, 3)).sqrt()
    return {
        "mean reward, by granularity and step": rewards.mean((2, 3)).tolist(),
        "std within a group, by granularity and step": rewards.std(dim=-1).mean(dim=2).tolist(),
        "correlation of advantages, by step": {
            f"{STRIDES[i]} with {STRIDES[j]}": ((a[i] * a[j]).sum((1, 2)) / norm[i] / norm[j]).tolist()
            for i, j in combinations(range(len(STRIDES)), 2)
        },
    }


def examine(name: str, batches: int) -> tuple[dict[str, Estimates], list[Experience]]:
    """Estimates of one method; of all sets of granularities for G2RPO."""
    method = METHODS[name]
    with tempfile.TemporaryDirectory() as folder:
        run = in_process_run(method.sample, Path(folder), method.changes).run
    algorithm = run.algorithm
    if not isinstance(algorithm, G2RPO):
        return estimate(run, batches, lambda experience: {name: experience})
    return estimate(run, batches, lambda one: {label: judged_at(algorithm, one, set_) for label, set_ in SETS.items()})


def row(estimates: Estimates) -> dict[str, float]:
    s, error = estimates.signal()
    return {
        "signal": s,
        "standard error": error,
        "cosine with {1} of the same pictures": statistics.mean(estimates.cosines),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--output", type=Path, default=Path("runs") / "methods")
    given = parser.parse_args()
    rows: dict[str, Any] = {}
    said: dict[str, Any] = {}
    for name in (WIDEST, *(name for name in METHODS if name not in SETS)):
        found, seen = examine(name, given.batches)
        rows |= {label: row(one) for label, one in found.items()}
        said |= agreement(seen) if name == WIDEST else {}
    text = json.dumps({"batches": given.batches, "methods": rows, "granularities": said}, indent=1)
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "gradients.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
