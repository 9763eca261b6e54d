"""Pictures of letters: what each dot and block stands for, whatever the numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_operator.plugin.plot import BLOCKS, Range, curve, sparkline

FINITE = st.floats(-1e6, 1e6)
SPANS = st.tuples(FINITE, st.floats(1e-3, 1e6)).map(lambda pair: Range(pair[0], pair[0] + pair[1]))

# Unicode's numbering of the dots: 1 2 3 7 down the left column, 4 5 6 8 down the right one.
NUMBERS = {(0, 0): 1, (1, 0): 2, (2, 0): 3, (3, 0): 7, (0, 1): 4, (1, 1): 5, (2, 1): 6, (3, 1): 8}


def dots(lines: list[str]) -> set[tuple[int, int]]:
    """(row, column) of every dot of a picture, from its top left."""
    return {
        (4 * line + row, 2 * column + side)
        for line, text in enumerate(lines)
        for column, letter in enumerate(text)
        for (row, side), number in NUMBERS.items()
        if 0x2800 <= ord(letter) <= 0x28FF and (ord(letter) - 0x2800) >> (number - 1) & 1
    }


def picture(lines: list[str], height: int) -> list[str]:
    """The plot without its axes."""
    return [line.partition("│")[2] or line.partition("┤")[2] for line in lines[:height]]


def test_a_sparkline_goes_from_the_lowest_to_the_highest_block() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([7, 0], 10) == "█▁"


def test_more_values_than_columns_are_averaged() -> None:
    # pairs: 0, 10, 0 -> lowest, highest, lowest
    assert sparkline([-1, 1, 5, 15, 0, 0], 3) == "▁█▁"


def test_equal_values_are_a_level_line_and_none_are_nothing() -> None:
    assert len(set(sparkline([0.3] * 5, 20))) == 1
    assert len(sparkline([0.3] * 5, 20)) == 5
    assert sparkline([], 20) == ""


@given(st.lists(FINITE, min_size=1, max_size=200), st.integers(1, 60))
def test_a_sparkline_fits_and_keeps_the_order_of_its_ends(values: list[float], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) == min(width, len(values))
    assert set(line) <= set(BLOCKS)
    if len(values) <= width and min(values) < max(values):
        assert line[values.index(min(values))] == BLOCKS[0]
        assert line[values.index(max(values))] == BLOCKS[-1]


@given(SPANS, st.integers(2, 12))
def test_ticks_are_round_even_and_inside(span: Range, most: int) -> None:
    ticks = span.ticks(most)
    tolerance = 1e-6 * (abs(span.low) + abs(span.high) + 1)
    assert len(ticks) <= most
    assert all(span.low - tolerance <= tick <= span.high + tolerance for tick in ticks)
    steps = [b - a for a, b in pairwise(ticks)]
    for step in steps:
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(mantissa - round_number) for round_number in (1, 2, 5, 10)) < 1e-3


def test_a_rising_line_runs_from_the_bottom_left_to_the_top_right() -> None:
    height, width = 5, 30
    lines = curve([(0, 0.0), (10, 1.0)], width, height)
    found = dots(picture(lines, height))
    rows, columns = {row for row, _ in found}, {column for _, column in found}
    assert (max(rows), min(columns)) in found
    assert (min(rows), max(columns)) in found
    assert min(rows) == 0
    assert max(rows) == 4 * height - 1
    assert columns == set(range(max(columns) + 1)), "a line has no gaps"
    assert all(len(line) <= width for line in lines)


def test_the_numbers_stand_at_their_lines() -> None:
    lines = curve([(0, 0.0), (100, 1.0)], 60, 12)
    labelled = {line.split("┤")[0].strip(): number for number, line in enumerate(lines) if "┤" in line}
    assert labelled["0"] == 11
    assert labelled["1"] == 0
    assert labelled.keys() >= {"0.2", "0.4", "0.6", "0.8"}
    axis, names = lines[12], lines[13]
    assert axis.count("┬") == len(names.split())
    assert names.split()[0] == "0"
    assert names.split()[-1] == "100"


def test_a_single_point_and_a_level_curve_can_be_drawn() -> None:
    for points in ([(1.0, 0.5)], [(1.0, 0.5), (2.0, 0.5), (3.0, 0.5)], [(5.0, 0.0)]):
        lines = curve(points, 40, 6)
        assert dots(picture(lines, 6))
        assert len({row for row, _ in dots(picture(lines, 6))}) == 1


@given(
    st.lists(st.tuples(st.integers(1, 10_000), FINITE), min_size=1, max_size=50),
    st.integers(20, 120),
    st.integers(2, 20),
)
def test_every_point_has_a_dot_in_its_column_and_nothing_is_wider_than_asked(
    points: list[tuple[int, float]], width: int, height: int
) -> None:
    curve_points = [(float(x), y) for x, y in sorted(points)]
    lines = curve(curve_points, width, height)
    assert len(lines) == height + 2
    assert all(len(line) <= max(width, 24) for line in lines)
    rows = {row for row, _ in dots(picture(lines, height))}
    values = [y for _, y in curve_points]
    if min(values) < max(values):
        assert (min(rows), max(rows)) == (0, 4 * height - 1)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_picture_does_not_depend_on_the_unit(scale: float) -> None:
    shape = [(1.0, 0.1), (2.0, 0.7), (3.0, 0.4)]
    plain, scaled = (curve([(x, y * factor) for x, y in shape], 60, 8) for factor in (1.0, scale))
    margins = [next(line.index(mark) for line in lines for mark in "┤│" if mark in line) for lines in (plain, scaled)]
    if margins[0] == margins[1]:
        assert dots(picture(plain, 8)) == dots(picture(scaled, 8))
