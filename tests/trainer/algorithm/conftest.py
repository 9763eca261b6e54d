"""Toy models, toy rewards and the formulas of the paper in float64, for the tests of the mathematics.

`Paper` restates arXiv 2510.01982 and the works it builds on in plain NumPy, one state at a time, and
shares no code with the package: the tests hold the package against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.random import Generator, Philox
from numpy.typing import NDArray
from torch import Tensor, nn

from g2rpo_trainer.algorithms.flow_grpo import FlowGRPO
from g2rpo_trainer.algorithms.g2rpo import G2RPO
from g2rpo_trainer.algorithms.surrogate import UpdateSettings
from g2rpo_trainer.flow.schedule import shifted_grid
from g2rpo_trainer.flow.sde import stochastic_step
from g2rpo_trainer.records import Prompt, PromptBatch, Scores, Transitions

# Examples are the same everywhere, and no clock of a busy machine decides a test.
settings.register_profile("algorithm", deadline=None, derandomize=True)
settings.load_profile("algorithm")

Array = NDArray[np.float64]
Reward = Callable[[Array, int], float]


class Paper:
    """The formulas, in float64; k counts from the noise."""

    @staticmethod
    def levels(steps: int, shift: float) -> Array:
        """Noise levels of all nodes."""
        u = 1 - np.arange(steps + 1) / steps
        return shift * u / (1 + (shift - 1) * u)

    @staticmethod
    def diffusion(law: str, levels: Array, k: int, eta: float) -> float:
        """sigma_t at node k."""
        t = levels[k]
        if law == "Dance":
            return eta
        return eta * math.sqrt(t / (1 - (levels[1] if k == 0 else t)))

    @staticmethod
    def moments(law: str, levels: Array, k: int, eta: float, x: Array, v: Array) -> tuple[Array, float]:
        """Mean and standard deviation of the state after step k."""
        t, t_next = levels[k], levels[k + 1]
        if law == "CPS":
            data, noise = x - t * v, x + (1 - t) * v
            angle = eta * math.pi / 2
            return (1 - t_next) * data + t_next * math.cos(angle) * noise, t_next * math.sin(angle)
        s, step = Paper.diffusion(law, levels, k, eta), t_next - t
        drift = v + s**2 / (2 * t) * (x + (1 - t) * v)
        return x + drift * step, s * math.sqrt(t - t_next)

    @staticmethod
    def log_density(y: Array, mean: Array, std: float) -> float:
        """Nats per element."""
        return float(np.mean(-((y - mean) ** 2) / (2 * std**2) - 0.5 * np.log(2 * np.pi * std**2)))

    @staticmethod
    def tail(steps: int, k: int, stride: int) -> list[int]:
        """Evaluated nodes: every stride-th from k + 2 up to T is listed, and the last one is landed on T instead."""
        return [k + 1, *range(k + 2, steps + 1, stride)][:-1]

    @staticmethod
    def standardized(rewards: Array) -> Array:
        """(R - mean) / (std + 1e-8) with ddof = 1, of one group."""
        g = len(rewards)
        mean = sum(rewards) / g
        return (rewards - mean) / (math.sqrt(sum((rewards - mean) ** 2) / (g - 1)) + 1e-8)

    @staticmethod
    def draw(shape: Sequence[int], seed: int, iteration: int, slot: int, member: int = -1, step: int = -1) -> Array:
        """The named noise, from NumPy's Philox."""
        words = np.array([0, slot, member + 1, step + 1], dtype=np.uint64)
        bits = Philox(key=np.array([seed, iteration], dtype=np.uint64), counter=words)
        return Generator(bits).standard_normal(tuple(shape), dtype=np.float32).astype(np.float64)

    @staticmethod
    def surrogate(ratio: float, advantage: float, eps: float) -> float:
        """PPO's loss by cases: the better of the two bounds is never taken."""
        if advantage >= 0:
            return -advantage * min(ratio, 1 + eps)
        return -advantage * max(ratio, 1 - eps)


def bumpy(x: Any, sigma: Any, prompt: Any) -> Any:
    """A velocity that is linear in nothing, for NumPy and for torch."""
    return x * (0.6 + 0.5 * sigma) / (1 + 0.3 * x * x) + 0.4 * sigma * sigma * (prompt + 1) - 0.2 * x * x * sigma


@dataclass
class Toy:
    """A policy whose velocity is a function of arrays; counts and keeps the rows that it is asked for."""

    function: Callable[[Any, Any, Any], Any] = bumpy
    reference: Callable[[Any, Any, Any], Any] = bumpy
    latent_shape: tuple[int, ...] = (2, 3)
    dtype: torch.dtype = torch.float64
    rows: list[tuple[bytes, float, int]] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    def velocity(self, x: Tensor, sigma: Tensor, prompt: Tensor) -> Tensor:
        """v, and a note of every row."""
        self.rounds.append(len(x))
        named = zip(x.detach().numpy(), sigma.tolist(), prompt.tolist(), strict=True)
        self.rows.extend((row.tobytes(), s, p) for row, s, p in named)
        return self._broadcast(self.function, x, sigma, prompt)

    def reference_velocity(self, x: Tensor, sigma: Tensor, prompt: Tensor) -> Tensor:
        """v of the model before training."""
        return self._broadcast(self.reference, x, sigma, prompt).detach()

    def to_device(self, x: Tensor) -> Tensor:
        """Everything downstream takes its dtype from here."""
        return x.to(self.dtype)

    @staticmethod
    def _broadcast(function: Callable[[Any, Any, Any], Any], x: Tensor, sigma: Tensor, prompt: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.dim() - 1))
        return function(x, sigma.view(shape), prompt.view(shape))


class SmallNet(nn.Module):
    """A velocity with parameters: one hidden layer over the latent, the level and the prompt. float64."""

    def __init__(self, size: int, hidden: int = 5, seed: int = 0) -> None:
        super().__init__()
        shapes = {"w1": (size + 2, hidden), "b1": (hidden,), "w2": (hidden, size)}
        generator = torch.Generator().manual_seed(seed)
        for name, shape in shapes.items():
            value = 0.6 * torch.randn(shape, generator=generator, dtype=torch.float64)
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, x: Tensor, sigma: Tensor, prompt: Tensor) -> Tensor:
        """x [N, ...], sigma and prompt [N, 1, ...]."""
        rows = torch.cat([x.flatten(1), sigma.flatten(1).to(x), prompt.flatten(1).to(x)], dim=1)
        return (torch.tanh(rows @ self.w1 + self.b1) @ self.w2).view_as(x)


def wavy(x: Array, prompt: int) -> float:
    """A toy reward."""
    return float(np.sin(2 * x).mean() + 0.3 * prompt * np.tanh(x).sum())


def pointed(x: Array, prompt: int) -> float:
    """Another toy reward, on another scale."""
    return float(40 * (x**2).mean() - 15 * x.max() + prompt)


@dataclass
class Scorer:
    """Toy rewards of latents; rows in `missing` are answered with NaN by that reward."""

    rewards: tuple[Reward, ...] = (wavy,)
    missing: tuple[tuple[int, int], ...] = ()
    latents: Tensor | None = None
    prompts: list[int] = field(default_factory=list)
    calls: int = 0

    def __call__(self, latents: Tensor, prompt: Tensor, batch: PromptBatch) -> Scores:
        """Scores [M, N]."""
        self.calls, self.latents, self.prompts = self.calls + 1, latents.clone(), prompt.tolist()
        pictures = latents.double().numpy()
        values = [[reward(x, p) for x, p in zip(pictures, self.prompts, strict=True)] for reward in self.rewards]
        scores = torch.tensor(values, dtype=torch.float32)
        for reward, row in self.missing:
            scores[reward, row] = math.nan
        return Scores(scores)


def _update(options: dict[str, Any]) -> UpdateSettings:
    defaults = {"clip_range": 1e-4, "kl_beta": 0.0, "update": "PerStep", "max_batch": 64}
    return UpdateSettings(**{name: options.pop(name, value) for name, value in defaults.items()})


def make_g2rpo(grid_steps: int = 8, shift: float = 3.0, **options: Any) -> G2RPO:
    """G2RPO on a small grid unless told otherwise; fields of the update are options too."""
    update = _update(options)
    defaults: dict[str, Any] = {
        "seed": 5,
        "group_size": 4,
        "steps": (0, 1, 3),
        "granularities": (1, 2, 3),
        "law": "Flow",
        "eta": 0.7,
        "weights": torch.ones(1),
        "aggregate": "Sum",
        "advantage_clip": 5.0,
        "zero_variance_tolerance": 1e-6,
    }
    return G2RPO(grid=shifted_grid(grid_steps, shift), update=update, **(defaults | options))


def make_flow_grpo(grid_steps: int = 8, shift: float = 3.0, **options: Any) -> FlowGRPO:
    """Flow-GRPO on a small grid unless told otherwise."""
    update = _update(options)
    defaults: dict[str, Any] = {
        "seed": 5,
        "group_size": 4,
        "shared_start": True,
        "window": None,
        "train_fraction": 1.0,
        "law": "Flow",
        "eta": 0.7,
        "weights": torch.ones(1),
        "advantage_clip": 5.0,
        "zero_variance_tolerance": 1e-6,
    }
    return FlowGRPO(grid=shifted_grid(grid_steps, shift), update=update, **(defaults | options))


def make_batch(slots: Sequence[int] = (0,), iteration: int = 1) -> PromptBatch:
    """Prompts whose text is their slot."""
    return PromptBatch(iteration, tuple(slots), tuple(Prompt(i, f"prompt {i}", {}) for i in slots))


@dataclass(frozen=True)
class Drawn:
    """Transitions of one step that start at random states, and the numbers that they were made of."""

    transitions: Transitions
    x: Array
    xi: Array
    old: Array
    """Velocities that drew them."""
    advantage: Array


def make_drawn(k: int, rows: int = 3, members: int = 4, *, shape: tuple[int, ...] = (2, 3), law: str = "Flow") -> Drawn:
    """Step k of the 16-step grid: random states, velocities, noise and advantages, float64."""
    rng = np.random.default_rng(100 * k + rows)
    x, old = rng.standard_normal((2, rows, *shape))
    xi, advantage = rng.standard_normal((rows, members, *shape)), rng.standard_normal((rows, members))
    levels = Paper.levels(16, 3.0)
    mean, std = Paper.moments(law, levels, k, 0.7, x, old)
    x_next = mean[:, None] + std * xi
    log_prob = [[Paper.log_density(x_next[n, i], mean[n], std) for i in range(members)] for n in range(rows)]
    transitions = Transitions(
        k=k,
        step=stochastic_step(law, shifted_grid(16, 3.0), k, 0.7),
        x=torch.from_numpy(x),
        x_next=torch.from_numpy(x_next),
        prompt=torch.arange(rows),
        log_prob=torch.tensor(log_prob, dtype=torch.float64),
        advantage=torch.from_numpy(advantage),
    )
    return Drawn(transitions, x, xi, old, advantage)


@dataclass(frozen=True)
class Kit:
    """What the tests build with."""

    paper: type[Paper] = Paper
    toy: type[Toy] = Toy
    small_net: type[SmallNet] = SmallNet
    scorer: type[Scorer] = Scorer
    two_rewards: tuple[Reward, Reward] = (wavy, pointed)

    g2rpo = staticmethod(make_g2rpo)
    flow_grpo = staticmethod(make_flow_grpo)
    prompt_batch = staticmethod(make_batch)
    drawn = staticmethod(make_drawn)


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()
