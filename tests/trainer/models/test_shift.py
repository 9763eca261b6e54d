"""The shift that a model's scheduler has of its own, against the grid that the scheduler makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from g2rpo_trainer.errors import DataError
from g2rpo_trainer.flow.schedule import shifted_grid
from g2rpo_trainer.models.shift import scheduler_shift

STEPS = 7
UNIFORM = [1 - i / STEPS for i in range(STEPS)]
DYNAMIC: Mapping[str, Any] = {"use_dynamic_shifting": True, "base_shift": 0.4, "max_shift": 1.2}


def nodes(scheduler: Any, **mu: float) -> list[float]:
    scheduler.set_timesteps(sigmas=UNIFORM, **mu)
    return scheduler.sigmas.tolist()


@given(shift=st.floats(0.5, 10), tokens=st.integers(1, 10_000))
def test_a_fixed_shift_is_that_at_every_size(shift: float, tokens: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    grid = shifted_grid(STEPS, scheduler_shift(scheduler.config, tokens))
    assert grid.sigmas == pytest.approx(nodes(scheduler), abs=1e-6)


@pytest.mark.parametrize("kind", ["exponential", "linear"])
@pytest.mark.parametrize(("tokens", "mu"), [(256, 0.4), (4096, 1.2), (2176, 0.8), (1024, 0.56)])
def test_a_shift_by_size_lies_on_the_line_through_two_sizes(kind: str, tokens: int, mu: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(**DYNAMIC, time_shift_type=kind)
    grid = shifted_grid(STEPS, scheduler_shift(scheduler.config, tokens))
    assert grid.sigmas == pytest.approx(nodes(scheduler, mu=mu), abs=1e-6)


def test_flux_1_dev_at_the_papers_size() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    assert scheduler_shift(scheduler.config, 45 * 45) == pytest.approx(math.exp(0.5 + 1769 / 3840 * 0.65))


@pytest.mark.parametrize("other", ["use_karras_sigmas", "shift_terminal", "stochastic_sampling"])
def test_another_grid_is_refused_by_name(other: str) -> None:
    config = FlowMatchEulerDiscreteScheduler().config | {other: 0.1}
    with pytest.raises(DataError, match=rf"^spec\.training\.sampling\.shiftRule: .* {other}.* set shiftRule: Fixed"):
        scheduler_shift(config, 100)


@pytest.mark.parametrize("size", [(16, 16), (16, 32), (32, 12)])
@pytest.mark.parametrize("name", ["SD3", "SD3 guided", "FLUX.1-dev", "FLUX.1-schnell"])
@pytest.mark.parametrize(
    "scheduler",
    [{"shift": 1.0}, {"shift": 3.0}, DYNAMIC, {**DYNAMIC, "time_shift_type": "linear"}],
    ids=["none", "fixed", "by size", "by size, linear"],
)
def test_with_the_models_own_shift_the_picture_is_that_of_the_untouched_pipeline(
    scheduler: Mapping[str, Any],
    name: str,
    size: tuple[int, int],
    cases: Mapping[str, Any],
    draw: Callable[..., Tensor],
) -> None:
    case = cases[name]
    stock, family = case.stock(), case.load()
    stock.scheduler = family.pipeline.scheduler = FlowMatchEulerDiscreteScheduler(**scheduler)
    z = case.latents(size)
    ours = draw(family, z, case.encoded(), family.own_shift(*size))
    theirs = case.theirs(stock, z, size)
    assert ours.shape == (2, 3, *size)
    assert (ours - theirs).abs().max() < 1e-5
    assert theirs.std(dim=(1, 2, 3)).min() > 0.01, "a picture, not a plain field"
