"""Sequences of numbers made ready for eyes: smoothed, thinned out, binned. Pure.

Who calls this: the progress line, the progress document, the charts. It knows nothing of records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, float]


def finite_mean(values: Sequence[float]) -> float:
    """Mean of the values that are finite; NaN where there is none."""
    known = [value for value in values if math.isfinite(value)]
    return math.fsum(known) / len(known) if known else math.nan


def smooth(points: Sequence[Point], width: int, limit: int) -> list[Point]:
    """At most `limit` of the points, each moved onto the least-squares line through the `width` around it.

    A line, unlike a mean, follows a trend up to the ends of the curve, where the points are all on one
    side. Points are finite and sorted by x; fewer than `width` of them share one line.

    Raises:
        ValueError: `width` or `limit` is below 2.
    """
    if width < 2:
        raise ValueError(f"a line needs 2 points or more, not {width}")
    result = []
    for i in evenly(len(points), limit):
        x = points[i][0]
        start = max(0, min(i - width // 2, len(points) - width))
        result.append((x, line_at(points[start : start + width], x)))
    return result


def line_at(points: Sequence[Point], x: float) -> float:
    """Height at x of the least-squares line through the points; their mean where they share one x."""
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    square = sum((at - mean_x) ** 2 for at, _ in points)
    slope = sum((at - mean_x) * (y - mean_y) for at, y in points) / square if square else 0.0
    return mean_y + slope * (x - mean_x)


def smoothing_width(count: int) -> int:
    """Window for a curve of `count` values: about a tenth of it, at least 7, at most 51, odd."""
    return min(51, max(7, count // 10 // 2 * 2 + 1))


def thin(points: Sequence[Point], limit: int) -> list[Point]:
    """At most `limit` of the points, chosen so that the curve looks the same.

    Largest triangle three buckets (Steinarsson 2013): the first and last point stay; the others fall
    into limit - 2 buckets, and each bucket keeps the point that spans the largest triangle with the
    point kept before it and the mean of the bucket after it. Points are finite and sorted by x.

    Raises:
        ValueError: `limit` is below 3.
    """
    if limit < 3:
        raise ValueError(f"a curve is thinned to 3 points or more, not {limit}")
    if len(points) <= limit:
        return list(points)
    edges = [1 + i * (len(points) - 2) // (limit - 2) for i in range(limit - 1)]
    kept = [points[0]]
    for i in range(limit - 2):
        after = points[edges[i + 1] : edges[i + 2]] if i < limit - 3 else points[-1:]
        target = (finite_mean([x for x, _ in after]), finite_mean([y for _, y in after]))
        bucket = points[edges[i] : edges[i + 1]]
        kept.append(max(bucket, key=lambda point: triangle_area(kept[-1], point, target)))
    return [*kept, points[-1]]


def triangle_area(a: Point, b: Point, c: Point) -> float:
    """Area of the triangle abc."""
    return abs((a[0] - c[0]) * (b[1] - a[1]) - (a[0] - b[0]) * (c[1] - a[1])) / 2


def bins(count: int, limit: int) -> list[range]:
    """At most `limit` runs of neighbouring indices that cover 0 .. count - 1, of equal length but the last."""
    length = max(1, math.ceil(count / limit))
    return [range(start, min(start + length, count)) for start in range(0, count, length)]


def evenly(count: int, limit: int) -> list[int]:
    """At most `limit` indices of 0 .. count - 1, evenly spaced, first and last among them.

    Raises:
        ValueError: `limit` is below 2.
    """
    if limit < 2:
        raise ValueError(f"first and last make at least 2, not {limit}")
    if count <= limit:
        return list(range(count))
    return [round(i * (count - 1) / (limit - 1)) for i in range(limit)]
