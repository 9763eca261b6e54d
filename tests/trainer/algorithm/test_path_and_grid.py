"""The straight path and the grid of noise levels."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_trainer.flow import path
from g2rpo_trainer.flow.schedule import Grid, shifted_grid
from g2rpo_trainer.flow.sde import stochastic_step

TABLE = [1, 0.9783, 0.9545, 0.9286, 0.9, 0.8684, 0.8333, 0.7941, 0.75, 0.7, 0.6429, 0.5769, 0.5, 0.4091, 0.3, 0.1667, 0]

finite = st.floats(-10, 10)
times = st.floats(0.001, 0.999)
shifts = st.floats(0.05, 20)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_the_grid_of_sixteen_steps_and_shift_three_has_the_published_levels() -> None:
    assert shifted_grid(16, 3.0).sigmas == pytest.approx(TABLE, abs=5.1e-5)


@given(st.integers(1, 60), shifts)
def test_the_levels_are_the_shifted_uniform_grid_in_exact_arithmetic(steps: int, shift: float) -> None:
    s = Fraction(shift)
    uniform = [1 - Fraction(i, steps) for i in range(steps + 1)]
    exact = [s * u / (1 + (s - 1) * u) for u in uniform]
    assert shifted_grid(steps, shift).sigmas == pytest.approx([float(e) for e in exact], rel=1e-13)


@given(st.integers(1, 60), shifts)
def test_the_grid_falls_from_exactly_one_to_exactly_zero(steps: int, shift: float) -> None:
    sigmas = shifted_grid(steps, shift).sigmas
    assert len(sigmas) == steps + 1
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    assert np.all(np.diff(sigmas) < 0)


@given(st.integers(2, 60), shifts, st.floats(0.1, 1))
def test_the_noisiest_step_has_the_level_as_its_deviation_at_any_shift(steps: int, shift: float, eta: float) -> None:
    step = stochastic_step("Flow", shifted_grid(steps, shift), 0, eta)
    assert step.std == pytest.approx(eta)
    assert step.x_coef == pytest.approx(1 - eta**2 / 2)


def test_shift_one_leaves_the_grid_uniform() -> None:
    assert shifted_grid(5, 1.0).sigmas == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0])


@pytest.mark.parametrize(("steps", "shift"), [(0, 3.0), (-1, 3.0), (4, 0.0), (4, -1.0)])
def test_a_grid_without_steps_or_with_a_shift_that_is_not_positive_is_refused(steps: int, shift: float) -> None:
    with pytest.raises(ValueError, match="steps >= 1 and shift > 0"):
        shifted_grid(steps, shift)


def test_the_grid_knows_its_steps_its_differences_and_its_levels_at_nodes() -> None:
    grid = Grid((1.0, 0.7, 0.3, 0.0))
    assert grid.steps == 3
    assert grid.delta(1, 3) == pytest.approx(-0.7)
    like = torch.zeros(1, dtype=torch.float32)
    assert grid.at([2, 0, 2], like).tolist() == [np.float32(0.3), 1, np.float32(0.3)]
    assert grid.at(torch.tensor([1]), like.double()).item() == 0.7


@given(finite, finite, times)
def test_state_and_velocity_recover_both_ends_of_the_path(data: float, noise: float, t: float) -> None:
    x = path.state_from_ends(scalar(data), scalar(noise), t)
    v = path.velocity_from_ends(scalar(data), scalar(noise))
    assert float(x) == pytest.approx((1 - t) * data + t * noise)
    assert float(path.data_from_velocity(x, v, t)) == pytest.approx(data, abs=1e-12)
    assert float(path.noise_from_velocity(x, v, t)) == pytest.approx(noise, abs=1e-12)


@given(finite, finite, st.floats(0.01, 0.99))
def test_the_velocity_is_the_time_derivative_of_the_state(data: float, noise: float, t: float) -> None:
    h = 1e-4
    later, earlier = (path.state_from_ends(scalar(data), scalar(noise), t + d) for d in (h, -h))
    velocity = path.velocity_from_ends(scalar(data), scalar(noise))
    assert float(velocity) == pytest.approx(float(later - earlier) / (2 * h), abs=1e-8)


@given(finite, st.floats(-3, 3), st.floats(0.2, 3), st.floats(0.05, 0.999))
def test_the_score_is_the_gradient_of_the_log_density_of_gaussian_data(x: float, m: float, s: float, t: float) -> None:
    """Data N(m, s^2): x_t ~ N((1 - t) m, (1 - t)^2 s^2 + t^2), and E[e - x_0 | x_t] by linear regression."""
    mean, variance = (1 - t) * m, (1 - t) ** 2 * s**2 + t**2
    v = -m + (t - (1 - t) * s**2) / variance * (x - mean)
    score = path.score_from_velocity(scalar(x), scalar(v), t)
    assert float(score) == pytest.approx(-(x - mean) / variance, abs=1e-9)


def test_times_broadcast_against_states() -> None:
    x, v, t = torch.ones(2, 3), 2 * torch.ones(2, 3), torch.tensor([[0.25], [0.5]])
    assert torch.equal(path.data_from_velocity(x, v, t), torch.tensor([[0.5] * 3, [0.0] * 3]))
