"""Decoding in tiles: only above a size, and then nearly the same picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from g2rpo_api.model import SamplingSpec
from g2rpo_trainer.models.loading import FAMILIES
from g2rpo_trainer.models.protocol import Usage


def big_latents(case: Any) -> Tensor:
    """Two latents of 256 x 192 pixels, a texture that repeats every 8 elements.

    So every tile has the same mean and variance: what the VAE's norms see of a tile is what they see of the
    whole, as nearly holds for the large tiles of real VAEs.
    """
    channels = case.load().latent_shape(8, 8)[0]
    return torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(1, 1, 16, 12)


def decoded(case: Any, latents: Tensor, above: int) -> Tensor:
    """Pictures by tiles of 128 pixels."""
    family = FAMILIES[case.family][0](case.source().load(), Usage(1.0, 8, above))
    family.pipeline.vae.tile_sample_min_size, family.pipeline.vae.tile_latent_min_size = 128, 64
    return family.decode(latents)


@pytest.mark.parametrize("name", ["SD3", "FLUX.1-schnell"])
def test_up_to_the_size_a_picture_is_decoded_whole_and_above_it_in_tiles(name: str, cases: Mapping[str, Any]) -> None:
    case = cases[name]
    latents = big_latents(case)
    whole = case.stock().vae.decode(latents / vae_config(case).scaling_factor + vae_config(case).shift_factor).sample
    whole = (whole / 2 + 0.5).clamp(0, 1)
    at_the_size, above_it = decoded(case, latents, 256 * 192), decoded(case, latents, 256 * 192 - 1)
    assert torch.allclose(at_the_size, whole, atol=1e-5)
    assert not torch.allclose(above_it, whole, atol=1e-5), "no tiles were made"
    assert above_it.shape == (2, 3, 256, 192)
    assert (above_it - whole).abs().mean() < 0.01


def vae_config(case: Any) -> Any:
    return case.load().pipeline.vae.config


def test_after_a_big_picture_a_small_one_is_whole_again(cases: Mapping[str, Any]) -> None:
    case = cases["SD3"]
    family = FAMILIES["SD3"][0](case.source().load(), replace(case.usage, tiling_above_pixels=100 * 100))
    small, big = big_latents(case)[:, :, :20, :20], big_latents(case)
    before = family.decode(small)
    family.decode(big)
    assert torch.equal(family.decode(small), before)
    assert not family.pipeline.vae.use_tiling


def test_sizes_that_models_are_trained_at_are_decoded_whole_by_default() -> None:
    default = SamplingSpec(height=16, width=16).vae_tiling_above_pixels
    assert default >= 1536 * 1536
    assert default >= 2048 * 1024
