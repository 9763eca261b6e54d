"""One stochastic step: its three numbers under each law, its density and its divergence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from g2rpo_trainer.flow import path
from g2rpo_trainer.flow.schedule import shifted_grid
from g2rpo_trainer.flow.sde import GaussianStep, stochastic_step

# k, t, |D|, sigma_t, std, coefficient of x, coefficient of v over D, weight of the step: T = 16, shift 3, eta 0.7.
TABLE = """
0 1.0000 .0217 4.748 .700 .755 1.000 .0311
1 .9783 .0237 4.696 .723 .733 1.245 .0408
2 .9545 .0260 3.208 .517 .860 1.245 .0626
3 .9286 .0286 2.524 .427 .902 1.245 .0834
4 .9000 .0316 2.100 .373 .923 1.245 .1054
5 .8684 .0351 1.798 .337 .935 1.245 .1297
6 .8333 .0392 1.565 .310 .942 1.245 .1575
7 .7941 .0441 1.375 .289 .948 1.245 .1902
"""
ROWS = [[float(cell) for cell in line.split()] for line in TABLE.split("\n") if line]
GRID = shifted_grid(16, 3.0)

laws = st.sampled_from(["Flow", "Dance", "CPS"])
sde_laws = st.sampled_from(["Flow", "Dance"])
steps = st.integers(0, 14)
etas = st.floats(0.01, 1.0)
states = st.lists(st.floats(-5, 5), min_size=3, max_size=3)


def tensor(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"k={row[0]:.0f}")
def test_the_flow_law_has_the_coefficients_of_the_table(row: list[float]) -> None:
    k = int(row[0])
    step = stochastic_step("Flow", GRID, k, 0.7)
    width = -GRID.delta(k, k + 1)
    measured = [GRID.sigmas[k], width, step.std / math.sqrt(width), step.std, step.x_coef, -step.v_coef / width]
    digits = [4, 4, 3, 3, 3, 3]
    for value, expected, places in zip(measured, row[1:7], digits, strict=True):
        assert value == pytest.approx(expected, abs=0.5001 * 10**-places)
    assert -step.v_coef / step.std == pytest.approx(row[7], abs=0.5001e-4)


@given(laws, steps, etas, states, states)
def test_a_step_has_the_mean_and_deviation_of_its_law(
    kit: Any, law: str, k: int, eta: float, x: list[float], v: list[float]
) -> None:
    step = stochastic_step(law, GRID, k, eta)
    mean, std = kit.paper.moments(law, kit.paper.levels(16, 3.0), k, eta, np.array(x), np.array(v))
    assert step.std == pytest.approx(std)
    assert step.mean(tensor(x), tensor(v)).numpy() == pytest.approx(mean, abs=1e-11)


@given(st.integers(1, 14), etas, states, states)
def test_the_flow_law_has_its_closed_form_inside_the_path(k: int, eta: float, x: list[float], v: list[float]) -> None:
    t, width = GRID.sigmas[k], -GRID.delta(k, k + 1)
    expected = np.array(x) * (1 - eta**2 * width / (2 * (1 - t))) - np.array(v) * (1 + eta**2 / 2) * width
    assert stochastic_step("Flow", GRID, k, eta).mean(tensor(x), tensor(v)).numpy() == pytest.approx(
        expected, abs=1e-11
    )


@given(etas, states, states)
def test_the_flow_law_at_pure_noise_has_its_closed_form(eta: float, x: list[float], v: list[float]) -> None:
    step = stochastic_step("Flow", GRID, 0, eta)
    expected = (1 - eta**2 / 2) * np.array(x) - (1 - GRID.sigmas[1]) * np.array(v)
    assert step.mean(tensor(x), tensor(v)).numpy() == pytest.approx(expected, abs=1e-11)
    assert step.std == pytest.approx(eta)


@given(laws, steps, states, states, states)
def test_without_noise_the_stochastic_step_is_the_euler_step(
    law: str, k: int, x: list[float], v: list[float], xi: list[float]
) -> None:
    step = stochastic_step(law, GRID, k, 1e-7)
    euler = np.array(x) + (GRID.sigmas[k + 1] - GRID.sigmas[k]) * np.array(v)
    assert step.sample(tensor(x), tensor(v), tensor(xi)).numpy() == pytest.approx(euler, abs=1e-5)


@given(sde_laws, steps, etas, states, states)
def test_the_drift_is_the_velocity_minus_half_the_diffusion_times_the_score(
    kit: Any, law: str, k: int, eta: float, x: list[float], v: list[float]
) -> None:
    step = stochastic_step(law, GRID, k, eta)
    drift = (step.mean(tensor(x), tensor(v)).numpy() - np.array(x)) / GRID.delta(k, k + 1)
    diffusion = kit.paper.diffusion(law, kit.paper.levels(16, 3.0), k, eta)
    score = path.score_from_velocity(tensor(x), tensor(v), GRID.sigmas[k]).numpy()
    assert drift == pytest.approx(np.array(v) - 0.5 * diffusion**2 * score, abs=1e-9)


@given(laws, steps, etas, st.floats(-5, 5), st.floats(-3, 3))
def test_of_point_mass_data_one_step_keeps_the_signal_at_one_minus_the_next_level(
    law: str, k: int, eta: float, point: float, noise: float
) -> None:
    """The mean is affine in the point, and its slope is the signal's coefficient."""
    t = GRID.sigmas[k]

    def mean(c: float) -> float:
        x = (1 - t) * c + t * noise
        return float(stochastic_step(law, GRID, k, eta).mean(tensor(x), tensor(noise - c)))

    assert mean(point + 1) - mean(point) == pytest.approx(1 - GRID.sigmas[k + 1], abs=1e-11)


@given(steps, etas)
def test_coefficients_preserving_sampling_keeps_the_noise_at_the_next_level(k: int, eta: float) -> None:
    """Of point-mass data: what is left of the old noise and the fresh noise are independent; their norm is t'."""
    t, step = GRID.sigmas[k], stochastic_step("CPS", GRID, k, eta)
    old = float(step.mean(tensor(t), tensor(1.0)))
    assert math.hypot(old, step.std) == pytest.approx(GRID.sigmas[k + 1])
    assert step.std == pytest.approx(GRID.sigmas[k + 1] * math.sin(eta * math.pi / 2))


@given(st.sampled_from(["Flow", "Dance"]), st.integers(1, 14))
def test_the_other_laws_add_noise_beyond_the_next_level(law: str, k: int) -> None:
    """Of point-mass data: with q = sigma_t^2 |D|, the noise's square is t'^2 + q |D| / t + (q / 2t)^2."""
    t, width = GRID.sigmas[k], -GRID.delta(k, k + 1)
    step = stochastic_step(law, GRID, k, 0.7)
    q = (0.49 * t / (1 - t) if law == "Flow" else 0.49) * width
    norm = float(step.mean(tensor(t), tensor(1.0))) ** 2 + step.std**2
    assert norm == pytest.approx(GRID.sigmas[k + 1] ** 2 + q * width / t + (q / (2 * t)) ** 2)


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.05, 3), st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3))
def test_a_sample_is_the_mean_plus_the_scaled_noise(
    a: float, b: float, s: float, x: float, v: float, xi: float
) -> None:
    sample = GaussianStep(a, b, s).sample(tensor(x), tensor(v), tensor(xi))
    assert float(sample) == pytest.approx(a * x + b * v + s * xi, abs=1e-12)


@given(laws, steps, etas)
def test_the_log_probability_is_the_mean_gaussian_log_density_over_the_elements(law: str, k: int, eta: float) -> None:
    rng = np.random.default_rng(k)
    x, v = rng.standard_normal((2, 3, 2, 4))
    y = rng.standard_normal((3, 5, 2, 4))
    step = stochastic_step(law, GRID, k, eta)
    answer = step.log_prob(tensor(y), tensor(x).unsqueeze(1), tensor(v).unsqueeze(1), event_dims=2)
    mean = step.x_coef * x + step.v_coef * v
    expected = stats.norm.logpdf(y, loc=mean[:, None], scale=step.std).reshape(3, 5, 8).mean(axis=2)
    assert answer.numpy() == pytest.approx(expected)


@given(sde_laws, steps, etas)
def test_the_divergence_has_its_closed_form_for_the_diffusions(kit: Any, law: str, k: int, eta: float) -> None:
    rng = np.random.default_rng(k)
    v, reference = rng.standard_normal((2, 2, 7))
    s, t, width = kit.paper.diffusion(law, kit.paper.levels(16, 3.0), k, eta), GRID.sigmas[k], -GRID.delta(k, k + 1)
    expected = width / 2 * (s * (1 - t) / (2 * t) + 1 / s) ** 2 * ((v - reference) ** 2).mean(axis=1)
    answer = stochastic_step(law, GRID, k, eta).kl(tensor(v), tensor(reference), event_dims=1)
    assert answer.numpy() == pytest.approx(expected)


@pytest.mark.parametrize("law", ["Flow", "Dance", "CPS"])
@pytest.mark.parametrize("k", [0, 1, 7, 14])
def test_the_divergence_is_the_integral_that_defines_it(kit: Any, law: str, k: int) -> None:
    x, v, reference = 0.3, 0.8, -0.4
    levels = kit.paper.levels(16, 3.0)
    (m1, std), (m2, _) = (kit.paper.moments(law, levels, k, 0.7, np.array(x), np.array(u)) for u in (v, reference))
    p, q = stats.norm(float(m1), std), stats.norm(float(m2), std)
    expected, _ = integrate.quad(lambda y: p.pdf(y) * (p.logpdf(y) - q.logpdf(y)), m1 - 9 * std, m1 + 9 * std)
    answer = stochastic_step(law, GRID, k, 0.7).kl(tensor([v]), tensor([reference]), event_dims=1)
    assert float(answer) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("k", [-1, 15, 16])
def test_a_step_without_noise_left_to_add_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=r"allowed are 0\.\.14"):
        stochastic_step("Flow", GRID, k, 0.7)
