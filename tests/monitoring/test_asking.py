"""Questions to Prometheus are put as Grafana puts them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from monitoring.ask import Span, any_of, filled, panels
from monitoring.pictures import only

PLACE = {"x": 0, "y": 10, "w": 24, "h": 8}


def panel(title: str, y: int, **more: Any) -> dict[str, Any]:
    return {"type": "timeseries", "title": title, "gridPos": PLACE | {"y": y}, **more}


def row(title: str, y: int) -> dict[str, Any]:
    return {"type": "row", "title": title, "gridPos": PLACE | {"y": y, "h": 1}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('x{job=~"$job"}', 'x{job=~"a"}'),
        ('x{job=~"${job}"}', 'x{job=~"a"}'),
        ('x{job=~"$job_name"}', 'x{job=~"b"}'),
        ('label_replace(x, "pod", "$1", "old", "(.+)")', 'label_replace(x, "pod", "$1", "old", "(.+)")'),
        ("x[$unknown]", "x[$unknown]"),
    ],
)
def test_variables_are_replaced_and_nothing_else_is(text: str, expected: str) -> None:
    assert filled(text, {"job": "a", "job_name": "b"}) == expected


def test_several_values_are_a_regular_expression_for_just_these() -> None:
    pattern = re.compile(any_of(["flux-1.dev", "b"]))
    assert all(pattern.fullmatch(value) for value in ("flux-1.dev", "b"))
    assert not any(pattern.fullmatch(value) for value in ("flux-1xdev", "bb", ""))


@pytest.mark.parametrize(("seconds", "step"), [(60, 5.0), (3600, 5.0), (6 * 3600, 45.0), (24 * 3600, 175.0)])
def test_points_are_whole_scrapes_apart_and_some_five_hundred(seconds: int, step: float) -> None:
    assert Span(1000, 1000 + seconds, 5).step == step


def test_a_rate_spans_four_scrapes_at_least_and_no_gap_between_points() -> None:
    """As Grafana's documentation of $__rate_interval says: the larger of step + scrape interval, and four of these."""
    assert Span(0, 60, 5).variables()["__rate_interval"] == "20000ms"
    assert Span(0, 24 * 3600, 5).variables()["__rate_interval"] == "180000ms"


def test_a_repeated_panel_is_there_for_each_value_side_by_side() -> None:
    dashboard = {"panels": [row("r", 9), panel("$reward", 10, repeat="reward", maxPerRow=3), panel("other", 18)]}
    values = {"job": ["x", "y"], "reward": ["a", "b", "c", "d"]}
    found = list(panels(dashboard, values))
    assert [seen["reward"] for _, seen in found] == ["a", "b", "c", "d", "a|b|c|d"]
    assert {seen["job"] for _, seen in found} == {"x|y"}
    places = [(each["gridPos"]["x"], each["gridPos"]["y"], each["gridPos"]["w"]) for each, _ in found[:4]]
    assert places == [(0, 10, 8), (8, 10, 8), (16, 10, 8), (0, 18, 8)]


def test_a_picture_of_some_rows_has_no_gaps() -> None:
    whole = [row("first", 0), panel("a", 1), row("second", 9), panel("b", 10), row("third", 18), panel("c", 19)]
    shown = [{"panel": each, "answers": {}} for each in whole if each["type"] != "row"]
    page = only({"dashboard": {"panels": whole}, "panels": shown}, ["first", "third"])
    assert [(each["title"], each["gridPos"]["y"]) for each in page["dashboard"]["panels"]] == [
        ("first", 0),
        ("third", 9),
    ]
    places = [(each["panel"]["title"], each["panel"]["gridPos"]["y"]) for each in page["panels"]]
    assert places == [("a", 1), ("c", 10)]
