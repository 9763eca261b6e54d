"""Every draw is a function of its name alone, and the draws are noise."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from g2rpo_trainer import noise

Key = tuple[int, int, int, int, int]

words = st.integers(0, 2**63 - 1)
small = st.integers(0, 3)
keys = st.tuples(
    words,
    st.one_of(words, st.sampled_from([noise.EVALUATION, noise.PROMPT_ORDER])),
    words,
    st.integers(-1, 2**62),
    st.one_of(st.integers(-1, 2**62), st.just(noise.TRANSITION_CHOICE)),
)
near_keys = st.tuples(small, small, small, st.integers(-1, 3), st.integers(-1, 3))


def philox(key: tuple[int, int], counter: list[int]) -> list[int]:
    """Philox4x64-10 of Salmon et al. (SC 2011), one block."""
    mask, (k0, k1), x = 2**64 - 1, key, list(counter)
    for _ in range(10):
        a, b = x[0] * 0xD2E7470EE14C6C93, x[2] * 0xCA5A826395121157
        x = [(b >> 64) ^ x[1] ^ k0, b & mask, (a >> 64) ^ x[3] ^ k1, a & mask]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return x


def every_key() -> list[Key]:
    """Neighbours in all five words."""
    axes = [(0, 1), (1, 2), (0, 1), (noise.GROUP, 0, 1), (noise.START, 0, 1)]
    return [tuple(int(word) for word in key) for key in np.array(np.meshgrid(*axes)).reshape(5, -1).T]  # type: ignore[misc]


@given(keys)
def test_the_bits_are_philox_of_seed_and_iteration_at_prompt_member_and_step(key: Key) -> None:
    seed, iteration, prompt, member, step = key
    expected = [philox((seed, iteration), [block, prompt, member + 1, step + 1]) for block in (1, 2)]
    raw = noise.generator(*key).bit_generator.random_raw(8)
    assert raw.tolist() == [word for block in expected for word in block]


@given(near_keys, st.lists(near_keys, max_size=4))
def test_a_draw_does_not_feel_what_was_drawn_before(key: Key, others: list[Key]) -> None:
    first = noise.normal((7,), *key)
    for other in others:
        noise.normal((5,), *other)
    assert torch.equal(noise.normal((7,), *key), first)


def test_a_draw_does_not_feel_the_global_generators_nor_touch_them() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = noise.normal((9,), 3, 1, 0)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    torch.manual_seed(2)
    np.random.seed(2)
    assert torch.equal(noise.normal((9,), 3, 1, 0), first)


@given(near_keys, near_keys)
def test_different_names_draw_different_noise(one: Key, other: Key) -> None:
    assert torch.equal(noise.normal((8,), *one), noise.normal((8,), *other)) == (one == other)


def test_the_reserved_names_collide_with_nothing() -> None:
    iterations = [(0, noise.EVALUATION, 0, -1, -1), (0, noise.PROMPT_ORDER, 0, -1, -1)]
    reserved = [*iterations, (0, 1, 0, -1, noise.TRANSITION_CHOICE)]
    draws = [noise.normal((8,), *key) for key in [*every_key(), *reserved]]
    assert len({hashlib.sha256(d.numpy().tobytes()).digest() for d in draws}) == len(draws)


def test_draws_of_neighbouring_names_are_uncorrelated() -> None:
    """72 draws: the largest of their 2556 correlations stays within 5.5 / sqrt(n), as of independent ones."""
    n = 4096
    table = np.stack([noise.normal((n,), *key).numpy() for key in every_key()]).astype(np.float64)
    correlation = np.corrcoef(table)
    np.fill_diagonal(correlation, 0)
    assert len(table) == 72
    assert np.abs(correlation).max() < 5.5 / np.sqrt(n)


@pytest.mark.parametrize("key", [(0, 1, 0, -1, -1), (7, 250, 31, 11, 7), (1, noise.EVALUATION, 5, -1, -1)])
def test_one_draw_is_standard_normal(key: Key) -> None:
    values = noise.normal((20_000,), *key).double().numpy()
    assert stats.kstest(values, "norm").pvalue > 1e-3
    lags = [np.corrcoef(values[:-lag], values[lag:])[0, 1] for lag in (1, 2, 4, 8)]
    assert np.abs(lags).max() < 5 / np.sqrt(len(values))


def test_first_numbers_of_many_draws_are_standard_normal() -> None:
    """Across names, not within one: the names must not leave a pattern."""
    for axis in range(5):
        names = [[3, 3, 3, 3, 3] for _ in range(4000)]
        for value, name in enumerate(names):
            name[axis] = value
        first = np.array([float(noise.normal((1,), *name)) for name in names])
        assert stats.kstest(first, "norm").pvalue > 1e-3


@given(near_keys, st.lists(st.integers(1, 4), max_size=4))
def test_a_draw_has_the_shape_it_is_asked_for_and_the_same_numbers_in_any(key: Key, shape: list[int]) -> None:
    draw = noise.normal(shape, *key)
    assert list(draw.shape) == shape
    assert draw.dtype == torch.float32
    assert torch.equal(draw.flatten(), noise.normal((draw.numel(),), *key))


def test_a_draw_is_numpys_standard_normal_of_the_same_bits(kit: Any) -> None:
    assert (
        noise.normal((3, 2), 9, 4, 1, 2, 6).double().numpy().tolist() == kit.paper.draw((3, 2), 9, 4, 1, 2, 6).tolist()
    )


def test_left_out_the_member_is_the_group_and_the_step_is_the_start() -> None:
    assert torch.equal(noise.normal((4,), 1, 2, 3), noise.normal((4,), 1, 2, 3, noise.GROUP, noise.START))


def test_the_order_of_the_prompts_is_a_permutation_that_each_epoch_draws_anew() -> None:
    orders = [noise.generator(3, noise.PROMPT_ORDER, epoch).permutation(50) for epoch in range(4)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert orders[2].tolist() == noise.generator(3, noise.PROMPT_ORDER, 2).permutation(50).tolist()
