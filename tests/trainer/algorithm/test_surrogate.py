"""The clipped loss and its gradient, against closed forms and finite differences."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from g2rpo_trainer.algorithms.surrogate import UpdateSettings, clipped_surrogate, losses
from g2rpo_trainer.flow.schedule import shifted_grid

Array = NDArray[np.float64]
GRID = shifted_grid(16, 3.0)
LEVELS = np.array(GRID.sigmas)
EPS = 1e-4

advantages = st.one_of(st.floats(-5, -1e-3), st.floats(1e-3, 5))


def settings(**options: Any) -> UpdateSettings:
    defaults: dict[str, Any] = {"clip_range": EPS, "kl_beta": 0.0, "update": "PerStep", "max_batch": 64}
    return UpdateSettings(**(defaults | options))


def parameter(values: Array) -> torch.Tensor:
    return torch.from_numpy(values.copy()).requires_grad_()


def constant(v: torch.Tensor, toy: Any, reference: torch.Tensor | None = None) -> Any:
    """A policy whose velocity is a tensor [N, ...] of parameters, one row for each prompt."""

    def rows(table: torch.Tensor) -> Any:
        return lambda x, sigma, prompt: table[prompt.flatten()]

    return toy(function=rows(v), reference=rows(v if reference is None else reference))


def expected_loss(paper: Any, drawn: Any, v: Array, eps: float, law: str = "Flow") -> float:
    """Mean over members of PPO's loss, each density on its own."""
    k, terms = drawn.transitions.k, []
    for n in range(len(drawn.x)):
        old, std = paper.moments(law, LEVELS, k, 0.7, drawn.x[n], drawn.old[n])
        new, _ = paper.moments(law, LEVELS, k, 0.7, drawn.x[n], v[n])
        for i in range(drawn.xi.shape[1]):
            y = old + std * drawn.xi[n, i]
            ratio = math.exp(paper.log_density(y, new, std) - paper.log_density(y, old, std))
            terms.append(paper.surrogate(ratio, drawn.advantage[n, i], eps))
    return float(np.mean(terms))


def central_differences(function: Any, v: Array, h: float = 1e-6) -> Array:
    gradient = np.empty_like(v)
    for place in np.ndindex(*v.shape):
        up, down = v.copy(), v.copy()
        up[place] += h
        down[place] -= h
        gradient[place] = (function(up) - function(down)) / (2 * h)
    return gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_unchanged_weights_every_ratio_is_one_and_the_loss_is_the_mean_of_minus_the_advantage(
    kit: Any, dtype: torch.dtype
) -> None:
    """And yet there is something to learn. A clamp keeps the advantages from adding up to zero."""
    net = kit.small_net(6).to(dtype)
    policy = kit.toy(function=net, dtype=dtype)
    algorithm = kit.g2rpo(update="PerIteration", advantage_clip=0.8)
    experience = algorithm.collect(policy, kit.prompt_batch((4, 7)), kit.scorer())
    tolerance = 1e-6 if dtype == torch.float32 else 1e-13
    total = 0.0
    for loss in algorithm.losses(policy, experience):
        assert loss.stats.ratio.double().numpy() == pytest.approx(np.ones((2, 4)), abs=tolerance)
        loss.value.backward()
        total += loss.value.item()
    minus_mean = -float(experience.rollout.advantages.double().mean())
    assert abs(minus_mean) > 1e-3
    assert total == pytest.approx(minus_mean, abs=1e-6)
    assert max(float(p.grad.abs().max()) for p in net.parameters()) > 1e-3


@pytest.mark.parametrize("k", [0, 1, 7])
def test_at_ratio_one_the_gradient_of_the_velocity_is_the_weighted_noise(kit: Any, k: int) -> None:
    """dL/dv = w_k / (G D) sum_i A_i xi_i, divided by the rows that share the mean."""
    weight = {0: 0.0310559, 1: 0.0408, 7: 0.1902}[k]
    sample = kit.drawn(k)
    v = parameter(sample.old)
    (loss,) = losses(constant(v, kit.toy), GRID, (sample.transitions,), settings())
    loss.value.backward()
    n, g = sample.advantage.shape
    size = sample.x[0].size
    formula = np.einsum("ni,ni...->n...", sample.advantage, sample.xi) * weight / (g * size) / n
    assert v.grad is not None
    assert v.grad.numpy() == pytest.approx(formula, rel=2e-3)


@pytest.mark.parametrize("law", ["Flow", "Dance", "CPS"])
@pytest.mark.parametrize("k", [0, 1, 7])
def test_the_gradient_of_the_velocity_agrees_with_finite_differences(kit: Any, k: int, law: str) -> None:
    sample = kit.drawn(k, law=law)
    v = parameter(sample.old)
    (loss,) = losses(constant(v, kit.toy), GRID, (sample.transitions,), settings(clip_range=0.1))
    loss.value.backward()
    numeric = central_differences(lambda u: expected_loss(kit.paper, sample, u, 0.1, law), sample.old)
    assert v.grad is not None
    assert v.grad.numpy() == pytest.approx(numeric, abs=1e-8)


@pytest.mark.parametrize("k", [0, 1, 7])
@pytest.mark.parametrize("eps", [EPS, 0.05])
def test_off_policy_the_loss_and_its_gradient_agree_with_the_densities(kit: Any, k: int, eps: float) -> None:
    """Weights have moved: some ratios have left the trust region and some have not."""
    sample = kit.drawn(k)
    moved = sample.old + 0.3 * np.random.default_rng(9).standard_normal(sample.old.shape)
    v = parameter(moved)
    (loss,) = losses(constant(v, kit.toy), GRID, (sample.transitions,), settings(clip_range=eps))
    loss.value.backward()
    assert loss.value.item() == pytest.approx(expected_loss(kit.paper, sample, moved, eps), abs=1e-12)
    numeric = central_differences(lambda u: expected_loss(kit.paper, sample, u, eps), moved)
    assert v.grad is not None
    assert v.grad.numpy() == pytest.approx(numeric, abs=1e-7)


@pytest.mark.parametrize("k", [0, 1, 7])
def test_the_gradient_reaches_the_weights_of_a_network(kit: Any, k: int) -> None:
    """Finite differences of the densities, weight by weight; the network saw its level and prompt."""
    sample, net = kit.drawn(k), kit.small_net(6)
    (loss,) = losses(kit.toy(function=net), GRID, (sample.transitions,), settings(clip_range=10.0))
    loss.value.backward()
    level, prompts = torch.full((3, 1), GRID.sigmas[k]), torch.arange(3).view(3, 1)

    def at(weights: Array) -> float:
        with torch.no_grad():
            net.w1.copy_(torch.from_numpy(weights))
            v = net(torch.from_numpy(sample.x), level, prompts).numpy()
        return expected_loss(kit.paper, sample, v, 10.0)

    numeric = central_differences(at, net.w1.detach().numpy().copy())
    assert net.w1.grad.numpy() == pytest.approx(numeric, abs=1e-7)


@given(advantages, st.floats(-0.999, 0.999))
def test_the_clip_is_inert_inside_the_trust_region(advantage: float, position: float) -> None:
    ratio = torch.tensor(1 + position * 1e-2, dtype=torch.float64, requires_grad=True)
    loss = clipped_surrogate(ratio, torch.tensor(advantage, dtype=torch.float64), 1e-2)
    loss.backward()
    assert loss.item() == pytest.approx(-advantage * ratio.item())
    assert ratio.grad.item() == pytest.approx(-advantage)


@given(st.floats(1e-3, 5), st.floats(1.001, 50))
def test_outside_the_gradient_is_exactly_zero_where_the_advantage_is_used_up(size: float, beyond: float) -> None:
    for advantage, value in ((size, 1 + beyond * 1e-2), (-size, 1 - beyond * 1e-2)):
        ratio = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        loss = clipped_surrogate(ratio, torch.tensor(advantage, dtype=torch.float64), 1e-2)
        loss.backward()
        assert ratio.grad.item() == 0
        assert loss.item() == pytest.approx(-advantage * (1 + math.copysign(1e-2, advantage)))


@given(st.floats(1e-3, 5), st.floats(1.001, 50))
def test_outside_the_gradient_stays_whole_where_the_policy_went_astray(size: float, beyond: float) -> None:
    for advantage, value in ((-size, 1 + beyond * 1e-2), (size, 1 - beyond * 1e-2)):
        ratio = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        loss = clipped_surrogate(ratio, torch.tensor(advantage, dtype=torch.float64), 1e-2)
        loss.backward()
        assert ratio.grad.item() == pytest.approx(-advantage)
        assert loss.item() == pytest.approx(-advantage * value)


@given(advantages, st.floats(-3, 3), st.floats(1e-4, 0.5))
def test_the_surrogate_is_ppos_by_cases(kit: Any, advantage: float, log_ratio: float, eps: float) -> None:
    value = clipped_surrogate(torch.tensor(math.exp(log_ratio)).double(), torch.tensor(advantage).double(), eps)
    ratio, a = float(torch.tensor(math.exp(log_ratio)).double()), float(torch.tensor(advantage).double())
    assert float(value) == pytest.approx(kit.paper.surrogate(ratio, a, eps))


@pytest.mark.parametrize(("ln_r", "sign", "alive"), [(0.9, 1, True), (1.1, 1, False), (-1.1, -1, False)])
@pytest.mark.parametrize("k", [0, 7])
def test_a_used_up_transition_moves_no_weight(kit: Any, k: int, ln_r: float, sign: int, alive: bool) -> None:
    """The old densities are set so that every ratio is exp(ln_r eps), at the published clip range."""
    sample = kit.drawn(k)
    v = parameter(sample.old)
    lifted = sample.transitions.log_prob - ln_r * EPS
    rows = replace(sample.transitions, log_prob=lifted, advantage=sign * sample.transitions.advantage.abs())
    (loss,) = losses(constant(v, kit.toy), GRID, (rows,), settings())
    loss.value.backward()
    assert v.grad is not None
    assert bool((v.grad != 0).any()) is alive


@pytest.mark.parametrize("law", ["Flow", "CPS"])
@pytest.mark.parametrize("k", [0, 1, 7])
def test_the_divergence_adds_its_own_value_and_gradient(kit: Any, k: int, law: str) -> None:
    """beta |difference of means|^2 / (2 std^2), a mean over elements and rows; the reference stays fixed."""
    sample, beta = kit.drawn(k, law=law), 0.04
    other = sample.old + 0.2
    v, reference = parameter(sample.old), parameter(other)
    (plain,) = losses(constant(v, kit.toy), GRID, (sample.transitions,), settings())
    (gradient,) = torch.autograd.grad(plain.value, v)
    (loss,) = losses(constant(v, kit.toy, reference), GRID, (sample.transitions,), settings(kl_beta=beta))
    loss.value.backward()

    def divergence(u: Array) -> float:
        (a, std), (b, _) = (kit.paper.moments(law, LEVELS, k, 0.7, sample.x, w) for w in (u, other))
        return float(np.mean((a - b) ** 2 / (2 * std**2)))

    assert v.grad is not None
    assert loss.stats.kl == pytest.approx(divergence(sample.old))
    assert loss.value.item() == pytest.approx(plain.value.item() + beta * divergence(sample.old))
    assert (v.grad - gradient).numpy() == pytest.approx(beta * central_differences(divergence, sample.old), abs=1e-8)
    assert reference.grad is None


def test_without_its_weight_the_reference_is_never_asked(kit: Any) -> None:
    def refuse(x: Any, sigma: Any, prompt: Any) -> Any:
        raise AssertionError

    policy = kit.toy(reference=refuse)
    (loss,) = losses(policy, GRID, (kit.drawn(1).transitions,), settings())
    assert loss.stats.kl == 0


@pytest.mark.parametrize("max_batch", [1, 2, 3, 4, 5, 100])
@pytest.mark.parametrize("update", ["PerStep", "PerIteration"])
def test_the_chunk_size_changes_neither_loss_nor_gradient(kit: Any, update: Any, max_batch: int) -> None:
    """Five rows: whole chunks and a smaller last one."""
    samples = [kit.drawn(k, rows=5) for k in (0, 7)]
    results = []
    for size in (max_batch, 5):
        v, reference = parameter(samples[0].old), torch.from_numpy(samples[1].old)
        options = settings(update=update, max_batch=size, kl_beta=0.3)
        found = list(losses(constant(v, kit.toy, reference), GRID, tuple(s.transitions for s in samples), options))
        sum(loss.value for loss in found).backward()
        results.append((sum(loss.value.item() for loss in found), v.grad.numpy(), found))
    (value, gradient, found), (whole, whole_gradient, _) = results
    chunks = math.ceil(5 / max_batch)
    assert len(found) == 2 * chunks
    assert [len(loss.stats.ratio) for loss in found[:chunks]] == [
        min(max_batch, 5 - i * max_batch) for i in range(chunks)
    ]
    assert value == pytest.approx(whole, abs=1e-13)
    assert gradient == pytest.approx(whole_gradient, abs=1e-13)


def test_rows_with_gradient_are_bounded(kit: Any) -> None:
    policy = kit.toy()
    list(losses(policy, GRID, (kit.drawn(0, rows=5).transitions,), settings(max_batch=2)))
    assert policy.rounds == [2, 2, 1]


def test_per_step_each_transition_has_its_own_optimizer_step_and_its_own_mean(kit: Any) -> None:
    samples = [kit.drawn(k, rows=3) for k in (0, 1, 7)]
    v = sample_velocity(samples)
    found = list(losses(constant(parameter(v), kit.toy), GRID, transitions(samples), settings(max_batch=2)))
    assert [loss.boundary for loss in found] == [False, True] * 3
    assert [loss.stats.k for loss in found] == [0, 0, 1, 1, 7, 7]
    for i, sample in enumerate(samples):
        value = sum(loss.value.item() for loss in found[2 * i : 2 * i + 2])
        assert value == pytest.approx(expected_loss(kit.paper, sample, v, EPS), abs=1e-12)


def test_per_iteration_one_optimizer_step_takes_the_mean_over_transitions(kit: Any) -> None:
    samples = [kit.drawn(k, rows=3) for k in (0, 1, 7)]
    v = sample_velocity(samples)
    options = settings(update="PerIteration", max_batch=2)
    found = list(losses(constant(parameter(v), kit.toy), GRID, transitions(samples), options))
    assert [loss.boundary for loss in found] == [False] * 5 + [True]
    expected = np.mean([expected_loss(kit.paper, sample, v, EPS) for sample in samples])
    assert sum(loss.value.item() for loss in found) == pytest.approx(expected, abs=1e-12)


def sample_velocity(samples: list[Any]) -> Array:
    return samples[0].old + 0.1


def transitions(samples: list[Any]) -> tuple[Any, ...]:
    return tuple(sample.transitions for sample in samples)


def test_per_step_a_later_transition_sees_the_weights_that_the_earlier_one_changed(kit: Any) -> None:
    samples = [kit.drawn(k, rows=3) for k in (0, 1)]
    v = parameter(samples[1].old)
    moved = samples[1].old + 0.25
    found = losses(constant(v, kit.toy), GRID, transitions(samples), settings())
    next(found)
    with torch.no_grad():
        v.copy_(torch.from_numpy(moved))
    assert next(found).value.item() == pytest.approx(expected_loss(kit.paper, samples[1], moved, EPS), abs=1e-12)


def test_the_statistics_are_of_the_chunk_and_carry_no_graph(kit: Any) -> None:
    sample = kit.drawn(7)
    v = parameter(sample.old + 0.1)
    (loss,) = losses(constant(v, kit.toy), GRID, (sample.transitions,), settings())
    assert not loss.stats.ratio.requires_grad
    assert torch.equal(loss.stats.advantage, sample.transitions.advantage)
    assert loss.stats.surrogate == pytest.approx(expected_loss(kit.paper, sample, sample.old + 0.1, EPS), abs=1e-12)
    for n, i in np.ndindex(*sample.advantage.shape):
        old, std = kit.paper.moments("Flow", LEVELS, 7, 0.7, sample.x[n], sample.old[n])
        new, _ = kit.paper.moments("Flow", LEVELS, 7, 0.7, sample.x[n], sample.old[n] + 0.1)
        y = old + std * sample.xi[n, i]
        expected = math.exp(kit.paper.log_density(y, new, std) - kit.paper.log_density(y, old, std))
        assert float(loss.stats.ratio[n, i]) == pytest.approx(expected)


def test_float32_resolves_the_ratio_of_a_full_size_latent_far_below_the_clip_range(kit: Any) -> None:
    """2025 tokens of 64 channels; the clip range is 1e-4."""
    sample = kit.drawn(1, rows=1, members=2, shape=(2025, 64))
    moved = sample.old + 0.005 * sample.xi[:, 0]
    single = replace(
        sample.transitions,
        **{name: getattr(sample.transitions, name).float() for name in ("x", "x_next", "log_prob", "advantage")},
    )
    ratios = []
    for rows, v in ((sample.transitions, moved), (single, moved.astype(np.float32))):
        (loss,) = losses(constant(torch.from_numpy(v), kit.toy), GRID, (rows,), settings())
        ratios.append(loss.stats.ratio.double().numpy())
    assert np.abs(ratios[0] - 1).max() > EPS
    assert ratios[1] == pytest.approx(ratios[0], abs=EPS / 50)
