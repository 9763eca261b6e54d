"""Pictures whose statistics are known without computing them, and the spectrum by numpy as a second way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from g2rpo_trainer.appearance import (
    THUMBNAIL,
    brightness,
    contrast,
    diversity,
    group_diversities,
    joined,
    lattice,
    notes,
    saturation,
    thumbnails,
)

H, W, PATCH = 16, 32, 4
RED, GREEN, BLUE, WHITE, BLACK, GREY = (
    torch.tensor(rgb, dtype=torch.float32)
    for rgb in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0, 0, 0), (0.5, 0.5, 0.5))
)


def plain(*colours: Tensor) -> Tensor:
    """Pictures of one colour each."""
    return torch.stack(colours)[:, :, None, None].expand(-1, -1, H, W)


def grey(luma: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] of brightness [N, H, W]."""
    return luma.unsqueeze(1).expand(-1, 3, -1, -1)


def noise(count: int, seed: int = 0, height: int = H, width: int = W) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def by_spectrum(luma: np.ndarray, patch: int) -> float:
    """Energy at the multiples of 1 / patch in both directions, over all energy but the mean's, by an FFT."""
    energy = np.abs(np.fft.fft2(luma)) ** 2
    energy[0, 0] = 0
    height, width = luma.shape
    lines = energy[np.ix_(range(0, height, height // patch), range(0, width, width // patch))]
    return float(lines.sum() / energy.sum())


def test_saturation_is_the_distance_from_grey() -> None:
    assert saturation(plain(RED, WHITE, BLACK, GREY, (RED + GREY) / 2)).tolist() == [1, 0, 0, 0, 0.5]


def test_half_a_picture_of_colour_is_half_as_saturated() -> None:
    picture = plain(GREY).clone()
    picture[:, :, :, : W // 2] = BLUE[:, None, None]
    assert saturation(picture).item() == 0.5


def test_brightness_is_luma() -> None:
    found = brightness(plain(WHITE, BLACK, GREY, RED, GREEN, BLUE))
    assert found.tolist() == pytest.approx([1, 0, 0.5, 0.2126, 0.7152, 0.0722])


def test_contrast_is_the_spread_of_the_luma() -> None:
    stripes = grey((torch.arange(W) % 2).float().expand(1, H, W))
    assert contrast(stripes).item() == pytest.approx(0.5), "half black, half white"
    assert contrast(0.25 + stripes / 2).item() == pytest.approx(0.25)
    assert contrast(plain(RED, GREY)).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_contrast_of_a_ramp_is_that_of_a_uniform_law() -> None:
    ramp = grey(torch.linspace(0, 1, 4096).expand(1, 4, 4096))
    assert contrast(ramp).item() == pytest.approx(1 / math.sqrt(12), rel=1e-3)


@pytest.mark.parametrize("period", [2, 4])
def test_what_repeats_from_patch_to_patch_is_all_lattice(period: int) -> None:
    tile = noise(1, seed=3, height=period, width=period)
    assert lattice(tile.repeat(1, 1, H // period, W // period), PATCH).item() == pytest.approx(1, abs=1e-5)


def test_seams_between_patches_are_lattice() -> None:
    seams = torch.full((1, H, W), 0.5)
    seams[:, ::PATCH, :] = 1
    seams[:, :, ::PATCH] = 1
    assert lattice(grey(seams), PATCH).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("period", [8, 16, 32])
def test_waves_longer_than_a_patch_are_no_lattice(period: int) -> None:
    wave = 0.5 + 0.4 * torch.sin(2 * math.pi * torch.arange(W) / period).expand(1, H, W)
    assert lattice(grey(wave), PATCH).item() == pytest.approx(0, abs=1e-5)


def test_a_flat_picture_has_no_lattice() -> None:
    assert lattice(plain(GREY, BLACK, RED), PATCH).tolist() == [0, 0, 0]


def test_noise_has_as_much_lattice_as_there_are_lines_in_its_spectrum() -> None:
    lines, all_frequencies = PATCH**2 - 1, H * W - 1
    found = lattice(noise(4000, seed=1), PATCH)
    assert found.mean().item() == pytest.approx(lines / all_frequencies, rel=0.03)


@given(seed=st.integers(0, 10**6), patch=st.sampled_from([2, 4, 8]), strength=st.floats(0, 1))
def test_lattice_is_energy_at_the_patch_frequency_of_the_spectrum(seed: int, patch: int, strength: float) -> None:
    tile = noise(1, seed, patch, patch).repeat(1, 1, H // patch, W // patch)
    picture = strength * tile + (1 - strength) * noise(1, seed + 1)
    luma = np.einsum("chw,c->hw", picture[0].double().numpy(), [0.2126, 0.7152, 0.0722])
    assert lattice(picture, patch).item() == pytest.approx(by_spectrum(luma, patch), abs=1e-4)


@given(seed=st.integers(0, 10**6))
def test_every_statistic_is_a_share(seed: int) -> None:
    found = notes(noise(3, seed).round(), PATCH, (0, 0, 0)).values
    assert found.shape == (3, 4)
    assert bool(((found >= 0) & (found <= 1 + 1e-6)).all())


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    assert diversity(plain(BLACK, WHITE)) == pytest.approx(1)
    assert diversity(plain(GREY, GREY, GREY)) == 0
    assert diversity(plain(BLACK, GREY, WHITE)) == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert diversity(plain(BLACK, RED)) == pytest.approx(math.sqrt(1 / 3))
    assert math.isnan(diversity(plain(RED)))


@given(seed=st.integers(0, 10**6), shift=st.floats(-0.5, 0.5))
def test_diversity_does_not_depend_on_order_nor_on_what_all_share(seed: int, shift: float) -> None:
    pictures = noise(5, seed)
    expected = pytest.approx(diversity(pictures), rel=1e-4)
    assert diversity(pictures.flip(0)) == expected
    assert diversity(pictures + shift) == expected


def test_thumbnails_keep_small_pictures_and_average_large_ones() -> None:
    small = noise(2, seed=4)
    assert torch.equal(thumbnails(small), small)
    large = noise(1, height=4 * THUMBNAIL, width=8 * THUMBNAIL)
    found = thumbnails(large)
    assert found.shape == (1, 3, THUMBNAIL, THUMBNAIL)
    assert found[0, :, 2, 5].tolist() == pytest.approx(large[0, :, 8:12, 40:48].mean(dim=(1, 2)).tolist())


def test_notes_of_parts_are_those_of_the_whole() -> None:
    pictures = noise(6, seed=5)
    whole = notes(pictures, PATCH, (7, 7, 3, 3, 3, 9))
    parts = joined([notes(pictures[:4], PATCH, (7, 7, 3, 3)), notes(pictures[4:], PATCH, (3, 9))])
    assert torch.equal(parts.values, whole.values)
    assert torch.equal(parts.thumbnails, whole.thumbnails)
    assert parts.groups == whole.groups


def test_pictures_are_compared_within_their_group() -> None:
    taken = notes(plain(BLACK, GREY, WHITE, GREY, RED), PATCH, (4, 1, 4, 1, 8))
    first, second, alone = group_diversities(taken)
    assert (first, second) == (pytest.approx(1), 0)
    assert math.isnan(alone)
