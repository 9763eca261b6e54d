"""Numbers as pictures of letters: a sparkline on one line, a curve of Braille dots with axes. Pure.

Who calls this: the page of a job, and the curve. What the numbers are is their business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

BLOCKS = "▁▂▃▄▅▆▇█"
BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of each dot of a Braille character, by row from the top and column."""
ROWS, COLUMNS = len(DOTS), len(DOTS[0])

Point = tuple[float, float]


def sparkline(values: Sequence[float], width: int) -> str:
    """One block per value from the lowest to the highest; more than `width` values are averaged into so many."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(index * len(values) / count) for index in range(count + 1)]
    means = [math.fsum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    if low == high:
        return BLOCKS[len(BLOCKS) // 2] * count
    return "".join(BLOCKS[min(7, int(8 * (mean - low) / (high - low)))] for mean in means)


@dataclass(frozen=True)
class Range:
    """Part of an axis."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        """From the lowest to the highest; a little more where they are equal."""
        low, high = min(values), max(values)
        margin = 0.0 if low < high else abs(low) / 10 or 1.0
        return cls(low - margin, high + margin)

    def share(self, value: float) -> float:
        """Where a value is, 0 at the low end and 1 at the high one."""
        return (value - self.low) / (self.high - self.low)

    def place(self, value: float, cells: int) -> int:
        """The cell of so many that a value falls into."""
        return round(self.share(value) * (cells - 1))

    def ticks(self, most: int) -> list[float]:
        """At most so many round numbers in it, evenly spaced."""
        rough = (self.high - self.low) / max(1, most - 1)
        power = 10.0 ** math.floor(math.log10(rough))
        steps = [power * factor for factor in (1, 2, 5, 10, 20)]
        for step in steps:
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if step >= rough * (1 - 1e-9) and last - first < most:
                break
        else:
            raise AssertionError("a step of twenty times the power leaves room")
        return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def curve(points: Sequence[Point], width: int, height: int) -> list[str]:
    """Lines of a plot: points joined in order, round numbers at the left and below.

    Args:
        points: at least one (x, y), finite.
        width: columns in all.
        height: lines of the plot itself; the axis below takes two more.
    """
    x, y = Range.of([point[0] for point in points]), Range.of([point[1] for point in points])
    marks = {height - 1 - y.place(tick, height): f"{tick:g}" for tick in y.ticks(max(2, height // 2))}
    margin = max(map(len, marks.values()), default=0)
    columns = max(1, width - margin - 2)
    rows = _canvas(points, x, y, columns, height)
    lines = [f"{marks.get(row, ''):>{margin}} {'┤' if row in marks else '│'}{dots}" for row, dots in enumerate(rows)]
    return [*lines, *(" " * margin + " " + line for line in _axis(x, columns))]


def _canvas(points: Sequence[Point], x: Range, y: Range, columns: int, rows: int) -> list[str]:
    """The plot as Braille characters, from the top."""
    wide, high = columns * COLUMNS, rows * ROWS
    bits = [[0] * columns for _ in range(rows)]
    places = [(x.place(a, wide), high - 1 - y.place(b, high)) for a, b in points]
    for start, end in zip(places, places[1:] or places, strict=False):
        for column, row in _segment(start, end):
            bits[row // ROWS][column // COLUMNS] |= DOTS[row % ROWS][column % COLUMNS]
    return ["".join(chr(BRAILLE + bit) for bit in row).rstrip(chr(BRAILLE)) for row in bits]


def _segment(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """Cells from one to the other."""
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [
        (round(start[0] + (end[0] - start[0]) * step / steps), round(start[1] + (end[1] - start[1]) * step / steps))
        for step in range(steps + 1)
    ]


def _axis(x: Range, columns: int) -> list[str]:
    """The line below the plot and the numbers at its ticks, as many as fit side by side."""
    line, labels, free = ["─"] * columns, "", 0
    for tick in x.ticks(max(2, columns // 12)):
        column, text = x.place(tick, columns), f"{tick:g}"
        begin = max(free, min(column - len(text) // 2, columns - len(text)))
        line[column] = "┬"
        labels = f"{labels:<{begin + 1}}{text}"
        free = begin + len(text) + 1
    return ["└" + "".join(line), labels]
