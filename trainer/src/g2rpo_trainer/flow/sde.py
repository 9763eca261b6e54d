"""One stochastic step of the sampler, as the Gaussian that it is.

The reverse SDE dx = [v + sigma_t^2/(2t) (x + (1 - t) v)] dt + sigma_t dw has the marginals of the
ODE for every sigma_t >= 0 (Flow-GRPO, arXiv 2505.05470, eq. 8). Its Euler-Maruyama step from t to t' = t + D is
linear in the state and the velocity, so a step is three numbers: mean = x_coef x + v_coef v, and a
standard deviation. Who calls this: the algorithms; it knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from g2rpo_trainer.flow.schedule import Grid

LawName = Literal["Flow", "Dance", "CPS"]


@dataclass(frozen=True)
class GaussianStep:
    """Transition x' ~ N(x_coef x + v_coef v, std^2 I) from one noise level to the next."""

    x_coef: float
    v_coef: float
    std: float

    def mean(self, x: Tensor, v: Tensor) -> Tensor:
        """Mean of x', shape of x."""
        return self.x_coef * x + self.v_coef * v

    def sample(self, x: Tensor, v: Tensor, xi: Tensor) -> Tensor:
        """x' = mean + std xi for standard normal xi."""
        return self.mean(x, v) + self.std * xi

    def log_prob(self, x_next: Tensor, x: Tensor, v: Tensor, event_dims: int) -> Tensor:
        """Log density of x', averaged over the last `event_dims` dimensions (nats per element).

        The average, not the sum, keeps the ratio near 1 for latents of any size; hence a clip range
        is a different trust region at another latent size.
        """
        z = (x_next - self.mean(x, v)) / self.std
        density = -0.5 * z.square() - math.log(self.std) - 0.5 * math.log(2 * math.pi)
        return density.mean(dim=tuple(range(-event_dims, 0)))

    def kl(self, v: Tensor, v_reference: Tensor, event_dims: int) -> Tensor:
        """KL between the steps that two velocities take from one state, per element (nats).

        Equal variances leave |difference of means|^2 / (2 std^2); for the SDE laws this is
        (|D|/2) (sigma_t (1 - t)/(2t) + 1/sigma_t)^2 |v - v_ref|^2.
        """
        gap = self.v_coef * (v - v_reference) / self.std
        return 0.5 * gap.square().mean(dim=tuple(range(-event_dims, 0)))


def sde_step(t: float, t_next: float, sigma_t: float) -> GaussianStep:
    """Euler-Maruyama step of the reverse SDE with diffusion sigma_t, from t to t_next < t."""
    delta = t_next - t
    pull = sigma_t**2 / (2 * t)
    return GaussianStep(
        x_coef=1 + pull * delta,
        v_coef=(1 + pull * (1 - t)) * delta,
        std=sigma_t * math.sqrt(-delta),
    )


def flow_step(grid: Grid, k: int, eta: float) -> GaussianStep:
    """Flow-GRPO's law sigma_t = eta sqrt(t / (1 - t)); at t = 1 the denominator is 1 - sigma_1."""
    t = grid.sigmas[k]
    room = 1 - t if t < 1 else 1 - grid.sigmas[1]
    return sde_step(t, grid.sigmas[k + 1], eta * math.sqrt(t / room))


def dance_step(grid: Grid, k: int, eta: float) -> GaussianStep:
    """DanceGRPO's law (arXiv 2505.07818): a constant sigma_t = eta."""
    return sde_step(grid.sigmas[k], grid.sigmas[k + 1], eta)


def cps_step(grid: Grid, k: int, eta: float) -> GaussianStep:
    """Coefficients-preserving sampling (Flow-CPS, arXiv 2509.05952).

    x' = (1 - t') x0_hat + t' cos(eta pi/2) e_hat + t' sin(eta pi/2) xi: the noise that is added is
    taken away from the predicted noise, so the state's noise level is exactly t'.
    """
    t, t_next = grid.sigmas[k], grid.sigmas[k + 1]
    kept, fresh = math.cos(eta * math.pi / 2) * t_next, math.sin(eta * math.pi / 2) * t_next
    return GaussianStep(x_coef=(1 - t_next) + kept, v_coef=-(1 - t_next) * t + kept * (1 - t), std=fresh)


LAWS: dict[LawName, Callable[[Grid, int, float], GaussianStep]] = {
    "Flow": flow_step,
    "Dance": dance_step,
    "CPS": cps_step,
}


def stochastic_step(law: LawName, grid: Grid, k: int, eta: float) -> GaussianStep:
    """The Gaussian of step k (0 = noisiest) under a named law with noise level eta > 0.

    Raises:
        ValueError: k is not a step with noise left to add (0 <= k <= T - 2).
    """
    if not 0 <= k <= grid.steps - 2:
        raise ValueError(
            f"step {k} cannot be stochastic on a grid of {grid.steps} steps: allowed are 0..{grid.steps - 2}"
        )
    return LAWS[law](grid, k, eta)
