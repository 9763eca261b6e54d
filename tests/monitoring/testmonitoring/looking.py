"""What panels show, for tests that look at them.

Who calls this: the tests of the dashboards.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def unanswered(page: Json) -> list[tuple[str, str]]:
    """Panel and letter of every query that has no number to show."""
    return [
        (each["panel"]["title"], letter)
        for each in page["panels"]
        for letter, series in each["answers"].items()
        if not any(value != "NaN" for one in series for _, value in one["values"])
    ]


def series_of(page: Json, title: str, letter: str = "A") -> list[Json]:
    """What Prometheus answered to a query of the panel of this title."""
    (found,) = (each for each in page["panels"] if each["panel"]["title"] == title)
    return list(found["answers"][letter])


def numbers(page: Json, title: str, letter: str = "A") -> dict[tuple[str, ...], float]:
    """What a panel of numbers shows: the last value of each series, of what has ended, too; labels as in `last`."""
    found = series_of(page, title, letter)
    return {tuple(value for _, value in sorted(one["metric"].items())): float(one["values"][-1][1]) for one in found}


def last(page: Json, title: str, letter: str = "A") -> dict[tuple[str, ...], float]:
    """The values at the end, by the values of the series' labels in the order of their names."""
    found = series_of(page, title, letter)
    end = max(time for one in found for time, _ in one["values"])
    return {
        tuple(value for _, value in sorted(one["metric"].items())): float(one["values"][-1][1])
        for one in found
        if one["values"][-1][0] == end
    }
