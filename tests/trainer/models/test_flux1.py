"""What only FLUX.1 has: packed latents of any shape, guidance as an input, a grid that its pipeline shifts by size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from g2rpo_trainer.errors import DataError
from g2rpo_trainer.models.flux1 import Flux1
from g2rpo_trainer.models.protocol import Usage

Draw = Callable[..., Tensor]


@pytest.mark.parametrize("size", [(16, 16), (8, 32), (32, 12), (4, 4)])
@pytest.mark.parametrize("name", ["FLUX.1-dev", "FLUX.1-schnell"])
def test_any_shape_is_drawn_as_diffusers_draws_it(
    name: str, size: tuple[int, int], cases: Mapping[str, Any], draw: Draw
) -> None:
    case = cases[name]
    z = case.latents(size)
    assert torch.allclose(draw(case.load(), z, case.encoded(), 3.0), case.theirs(case.stock(), z, size), atol=1e-4)


def test_a_shift_by_size_is_a_fixed_shift_of_that_size(cases: Mapping[str, Any], draw: Draw) -> None:
    case = cases["FLUX.1-dev"]
    z, pipeline = case.latents(), case.stock()
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    tokens = case.size[0] * case.size[1] / case.multiple**2
    mu = 0.5 + (tokens - 256) / (4096 - 256) * (1.15 - 0.5)  # the line through the scheduler's two sizes
    assert torch.allclose(draw(case.load(), z, case.encoded(), math.exp(mu)), case.theirs(pipeline, z), atol=1e-4)


def test_guidance_is_what_the_transformer_is_told(cases: Mapping[str, Any]) -> None:
    case = cases["FLUX.1-dev"]
    x, t = case.latents(), torch.tensor([700.0, 300.0])
    told: list[Tensor] = []

    def listening(**inputs: Any) -> tuple[Tensor, ...]:
        told.append(inputs["guidance"])
        return pipeline.transformer(**inputs)

    pipeline, conditioning = case.stock(), case.encoded()
    family = Flux1(pipeline, Usage(3.5, 8))
    with torch.no_grad():
        v = family.velocity(listening, x, t, conditioning)
        other = Flux1(pipeline, Usage(1.0, 8)).velocity(pipeline.transformer, x, t, conditioning)
    assert told[0].tolist() == [3.5, 3.5]
    assert family.rows_per_call == 1
    assert not torch.allclose(v, other, atol=1e-4)


def test_guidance_is_refused_where_the_transformer_has_no_input_for_it(cases: Mapping[str, Any]) -> None:
    with pytest.raises(DataError, match=r"sampling.guidanceScale is 3.5, .* set it to 1"):
        Flux1(cases["FLUX.1-schnell"].stock(), Usage(3.5, 8))


def test_a_latent_has_a_quarter_of_a_tokens_channels(cases: Mapping[str, Any]) -> None:
    assert cases["FLUX.1-dev"].load().latent_shape(24, 16) == (4, 12, 8)
