"""The running mean against its definition, in float64 by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from g2rpo_trainer.averaging import WeightMean


def walk(weights: list[nn.Parameter], random: torch.Generator) -> None:
    """Something like a training step."""
    with torch.no_grad():
        for weight in weights:
            weight += 0.1 * torch.randn(weight.shape, generator=random)


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor([1.0, -2.0])), nn.Parameter(torch.tensor([[0.5]]))]


def flat(weights: list[nn.Parameter]) -> np.ndarray:
    return torch.cat([weight.detach().flatten() for weight in weights]).double().numpy().copy()


def mean_of(mean: WeightMean, weights: list[nn.Parameter]) -> np.ndarray:
    with mean.in_place():
        return flat(weights)


@settings(max_examples=30)
@given(decay=st.floats(0, 0.999), every=st.integers(1, 4), iterations=st.integers(0, 40), seed=st.integers(0, 999))
def test_it_is_the_exponential_mean_of_the_weights_at_its_updates(
    decay: float, every: int, iterations: int, seed: int
) -> None:
    weights, random = parameters(), torch.Generator().manual_seed(seed)
    mean = WeightMean(weights, decay, every)
    expected, updates = flat(weights), 0
    for iteration in range(1, iterations + 1):
        walk(weights, random)
        mean.update(iteration)
        if iteration % every == 0:
            updates += 1
            kept = 0.0 if updates == 1 else min(decay, updates / (9 + updates))
            expected = kept * expected + (1 - kept) * flat(weights)
    assert mean_of(mean, weights) == pytest.approx(expected, abs=1e-5)


def test_afterwards_the_weights_are_bit_by_bit_what_they_were() -> None:
    weights, random = parameters(), torch.Generator().manual_seed(1)
    mean = WeightMean(weights, 0.9, 1)
    for iteration in range(1, 6):
        walk(weights, random)
        mean.update(iteration)
    before = flat(weights)
    assert not np.array_equal(mean_of(mean, weights), before)
    assert np.array_equal(flat(weights), before)
    with pytest.raises(KeyError), mean.in_place():
        raise KeyError
    assert np.array_equal(flat(weights), before)


def test_a_mean_that_is_taken_up_again_goes_on_bit_by_bit() -> None:
    weights, random = parameters(), torch.Generator().manual_seed(2)
    mean = WeightMean(weights, 0.9, 2)
    for iteration in range(1, 6):
        walk(weights, random)
        mean.update(iteration)
    saved, later = json.loads(json.dumps(mean.state())), parameters()
    again, random_again = WeightMean(later, 0.9, 2), torch.Generator()
    with torch.no_grad():
        for new, old in zip(later, weights, strict=True):
            new.copy_(old)
            again.of(new).copy_(mean.of(old))
    again.load(saved)
    random_again.set_state(random.get_state())
    for iteration in range(6, 12):
        walk(weights, random)
        mean.update(iteration)
        walk(later, random_again)
        again.update(iteration)
    assert np.array_equal(mean_of(mean, weights), mean_of(again, later))


def test_a_rank_without_weights_has_a_mean_of_nothing() -> None:
    mean, again = WeightMean([], 0.9, 1), WeightMean([], 0.9, 1)
    mean.update(1)
    again.load(mean.state())
    assert again.state()["optimization_step"] == 1
    with again.in_place():
        assert again.state() == mean.state()
