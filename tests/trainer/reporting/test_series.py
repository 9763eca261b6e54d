"""Curves made ready for eyes: what thinning, smoothing and binning must keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_trainer.reporting.series import (
    Point,
    bins,
    evenly,
    finite_mean,
    line_at,
    smooth,
    smoothing_width,
    thin,
    triangle_area,
)

COORDINATES = st.integers(-(10**6), 10**6).map(lambda thousandths: thousandths / 1000)  # none so small that numpy warns
HEIGHTS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=120)


def indexed(heights: list[float]) -> list[Point]:
    return [(float(i), y) for i, y in enumerate(heights)]


def largest_triangle(points: list[Point], limit: int) -> list[Point]:
    """The published algorithm once more, with numpy: bucket bounds are those of equal shares, rounded down."""
    data = np.array(points)
    n = len(data)
    bounds = [1 + i * (n - 2) // (limit - 2) for i in range(limit - 1)] + [n]
    chosen = [0]
    for i in range(limit - 2):
        low, high = bounds[i], bounds[i + 1]
        c = data[high : bounds[i + 2]].mean(axis=0) if i < limit - 3 else data[-1]
        ab, ac = data[low:high] - data[chosen[-1]], c - data[chosen[-1]]
        areas = np.abs(ab[:, 0] * ac[1] - ab[:, 1] * ac[0]) / 2
        chosen.append(low + int(np.argmax(areas)))
    return [points[i] for i in [*chosen, n - 1]]


@given(HEIGHTS, st.integers(3, 40))
def test_thinning_keeps_ends_order_and_limit(heights: list[float], limit: int) -> None:
    points = indexed(heights)
    kept = thin(points, limit)
    assert len(kept) == min(limit, len(points))
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert kept == sorted(set(kept))
    assert set(kept) <= set(points)


@pytest.mark.parametrize(("count", "limit"), [(10, 5), (64, 64), (65, 64), (100, 7), (1000, 64), (301, 300)])
def test_thinning_is_largest_triangle_three_buckets(count: int, limit: int) -> None:
    rng = np.random.default_rng(count)
    points = indexed(list(np.cumsum(rng.normal(size=count)).astype(float)))
    expected = points if count <= limit else largest_triangle(points, limit)
    assert thin(points, limit) == expected


def test_thinning_keeps_a_single_spike() -> None:
    points = [(float(i), 1.0 if i == 617 else 0.0) for i in range(1000)]
    assert (617.0, 1.0) in thin(points, 20)


def test_thinning_needs_room_for_a_triangle() -> None:
    with pytest.raises(ValueError, match="3 points or more, not 2"):
        thin([(0.0, 0.0)], 2)


@given(*[st.tuples(COORDINATES, COORDINATES)] * 3)
def test_triangle_area_is_half_the_determinant(a: Point, b: Point, c: Point) -> None:
    matrix = np.array([[*a, 1], [*b, 1], [*c, 1]])
    assert triangle_area(a, b, c) == pytest.approx(abs(np.linalg.det(matrix)) / 2, abs=1e-4)


@given(st.floats(-10, 10), st.floats(-10, 10), st.integers(2, 60), st.integers(2, 25))
def test_smoothing_keeps_a_straight_line(slope: float, start: float, count: int, width: int) -> None:
    points = [(float(i), start + slope * i) for i in range(count)]
    for (_, y), (_, expected) in zip(smooth(points, width, count), points, strict=True):
        assert y == pytest.approx(expected, abs=1e-6)


def test_smoothing_fits_a_line_to_the_neighbourhood() -> None:
    rng = np.random.default_rng(3)
    x = np.arange(40.0)
    y = rng.normal(size=40)
    width = 9
    smoothed = dict(smooth(list(zip(x.tolist(), y.tolist(), strict=True)), width, 40))
    for i in (0, 1, 4, 20, 38, 39):
        start = min(max(i - width // 2, 0), 40 - width)
        fit = np.polyfit(x[start : start + width], y[start : start + width], 1)
        assert smoothed[float(i)] == pytest.approx(np.polyval(fit, i))


def test_smoothing_quietens_noise() -> None:
    rng = np.random.default_rng(5)
    noise = indexed(rng.normal(size=400).tolist())
    smoothed = [y for _, y in smooth(noise, 21, 400)]
    assert np.std(smoothed) < 0.5 * np.std([y for _, y in noise])


def test_smoothing_gives_a_few_points_of_a_long_curve() -> None:
    points = indexed([float(i % 7) for i in range(1000)])
    few = smooth(points, 11, 50)
    assert len(few) == 50
    assert (few[0][0], few[-1][0]) == (0.0, 999.0)
    assert dict(smooth(points, 11, 1000)).items() >= dict(few).items()


def test_smoothing_of_one_point_and_of_none() -> None:
    assert smooth([(4.0, 2.0)], 7, 10) == [(4.0, 2.0)]
    assert smooth([], 7, 10) == []


def test_a_line_needs_two_points() -> None:
    with pytest.raises(ValueError, match="not 1"):
        smooth([(0.0, 0.0)], 1, 10)


def test_points_above_each_other_have_their_mean_as_line() -> None:
    assert line_at([(3.0, 1.0), (3.0, 5.0)], 3.0) == 3.0


@pytest.mark.parametrize("count", [0, 1, 10, 80, 300, 5000])
def test_windows_are_odd_and_bounded(count: int) -> None:
    width = smoothing_width(count)
    assert width % 2 == 1
    assert 7 <= width <= 51


@given(st.integers(0, 500), st.integers(1, 60))
def test_bins_cover_everything_once(count: int, limit: int) -> None:
    spans = bins(count, limit)
    assert [i for span in spans for i in span] == list(range(count))
    assert len(spans) <= limit
    assert len({len(span) for span in spans[:-1]}) <= 1


@given(st.integers(0, 500), st.integers(2, 60))
def test_evenly_spaced_indices_hold_both_ends(count: int, limit: int) -> None:
    chosen = evenly(count, limit)
    assert len(chosen) == min(count, limit)
    assert chosen == sorted(set(chosen))
    if count:
        assert (chosen[0], chosen[-1]) == (0, count - 1)
        gaps = np.diff(chosen)
        assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


def test_one_index_cannot_be_both_ends() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        evenly(5, 1)


def test_mean_of_what_is_finite() -> None:
    assert finite_mean([1.0, math.nan, 3.0, math.inf]) == 2.0
    assert math.isnan(finite_mean([]))
    assert math.isnan(finite_mean([math.nan]))
