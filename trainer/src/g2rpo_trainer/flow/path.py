"""The straight path between data and noise, and what a velocity says about its ends.

Convention of the whole trainer: t in [0, 1], t = 0 is data, t = 1 is noise, x_t = (1 - t) x_0 + t e
with e ~ N(0, I), and the velocity is v = e - x_0 (arXiv 2510.01982, section 3.1). All functions are
pure and device-free; t is a float or broadcasts against x.
"""

from __future__ import annotations

from torch import Tensor

Time = float | Tensor


def state_from_ends(data: Tensor, noise: Tensor, t: Time) -> Tensor:
    """x_t = (1 - t) x_0 + t e."""
    return (1 - t) * data + t * noise


def velocity_from_ends(data: Tensor, noise: Tensor) -> Tensor:
    """v = dx_t/dt = e - x_0."""
    return noise - data


def data_from_velocity(x: Tensor, v: Tensor, t: Time) -> Tensor:
    """Prediction of the data end, x_t - t v."""
    return x - t * v


def noise_from_velocity(x: Tensor, v: Tensor, t: Time) -> Tensor:
    """Prediction of the noise end, x_t + (1 - t) v."""
    return x + (1 - t) * v


def score_from_velocity(x: Tensor, v: Tensor, t: Time) -> Tensor:
    """Score of the marginal at t, grad log p_t(x) = -(x_t + (1 - t) v) / t, for t > 0."""
    return -noise_from_velocity(x, v, t) / t
