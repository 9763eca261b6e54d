"""The stochastic laws sample the distribution that the deterministic walk samples."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import optimize, stats
from torch import Tensor

from g2rpo_trainer.flow.schedule import shifted_grid
from g2rpo_trainer.flow.sde import stochastic_step
from g2rpo_trainer.flow.solver import trajectory

WEIGHTS, MEANS, DEVIATIONS = (0.35, 0.65), (-1.5, 1.0), (0.3, 0.6)
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
ROWS = 8_000


def velocity(x: Tensor, sigma: Tensor, prompt: Tensor) -> Tensor:
    """E[e - x_0 | x_t] of a mixture of two Gaussians, exactly."""
    t = sigma.unsqueeze(1)
    m, s = (torch.tensor(values, dtype=x.dtype) for values in (MEANS, DEVIATIONS))
    variance = (1 - t) ** 2 * s**2 + t**2
    offset = x.unsqueeze(1) - (1 - t) * m
    logits = torch.tensor(WEIGHTS, dtype=x.dtype).log() - 0.5 * variance.log() - 0.5 * offset**2 / variance
    noise, data = t / variance * offset, m + (1 - t) * s**2 / variance * offset
    return (logits.softmax(dim=1) * (noise - data)).sum(dim=1)


def start() -> Tensor:
    """Noise at evenly spaced probabilities, which spares half of the sampling error."""
    return torch.from_numpy(stats.norm.ppf((np.arange(ROWS) + 0.5) / ROWS))


def walk(law: str, eta: float, steps: int) -> NDArray[np.float64]:
    """Quantiles after a walk whose every step but the last is stochastic."""
    grid, x, generator = shifted_grid(steps, 3.0), start(), torch.Generator().manual_seed(steps)
    prompt = torch.zeros(ROWS, dtype=torch.long)
    for k in range(steps):
        v = velocity(x, grid.at([k] * ROWS, x), prompt)
        if k == steps - 1:
            x = x + grid.delta(k, steps) * v
        else:
            x = stochastic_step(law, grid, k, eta).sample(x, v, torch.randn(ROWS, generator=generator, dtype=x.dtype))
    return np.quantile(x.numpy(), LEVELS)


@cache
def walk_deterministically(steps: int) -> NDArray[np.float64]:
    prompt = torch.zeros(ROWS, dtype=torch.long)
    return np.quantile(trajectory(velocity, shifted_grid(steps, 3.0), start(), prompt).end.numpy(), LEVELS)


@cache
def exact() -> NDArray[np.float64]:
    """Quantiles of the mixture, by solving its distribution function."""

    def below(x: float) -> float:
        parts = zip(WEIGHTS, MEANS, DEVIATIONS, strict=True)
        return sum(w * stats.norm.cdf(x, m, s) for w, m, s in parts)

    return np.array([optimize.brentq(lambda x, p=p: below(x) - p, -5, 5) for p in LEVELS])


def test_the_deterministic_walk_reaches_the_data_distribution() -> None:
    assert walk_deterministically(200) == pytest.approx(exact(), abs=0.03)


@pytest.mark.parametrize(("law", "eta"), [("Flow", 0.7), ("Dance", 0.3), ("Dance", 1.0)])
def test_the_quantiles_of_both_diffusions_and_the_deterministic_walk_agree_as_steps_grow(law: str, eta: float) -> None:
    reached = walk(law, eta, 200)
    assert reached == pytest.approx(exact(), abs=0.05)
    assert reached == pytest.approx(walk_deterministically(200), abs=0.05)


@pytest.mark.parametrize(("law", "eta"), [("Flow", 0.7), ("Dance", 1.0)])
def test_more_steps_bring_a_diffusion_closer_to_the_data(law: str, eta: float) -> None:
    coarse, fine = (np.abs(walk(law, eta, steps) - exact()).max() for steps in (8, 128))
    assert fine < 0.5 * coarse
