"""Dashboards keep the rules of grafana/dashboard-linter, and ask for metrics that exist.

Two of its rules are kept in another way: it wants every query to choose by the labels `job` and `instance`, ours choose
by the run's namespace and name.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import promql_parser
import pytest
from grafana_foundation_sdk.models import units

from g2rpo_api.generate import outdated
from g2rpo_api.status import Phase
from monitoring.fleet import PHASE_COLOURS
from monitoring.generate import DASHBOARDS, FILES, dashboard
from testmonitoring.exposed import exposed

ROOT = Path(__file__).resolve().parents[2]
BOARDS: dict[str, dict[str, Any]] = {name: json.loads(dashboard(name)) for name in DASHBOARDS}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
TARGETS = [
    pytest.param(target["expr"], id=f"{param.id}, {target['refId']}")
    for param in PANELS
    for target in param.values[0]["targets"]
]
MARKS = [
    pytest.param(mark["expr"], id=name)
    for name, board in BOARDS.items()
    for mark in board["annotations"].get("list", ())
]
GROWING = {"rate", "increase"}
INTERVALS = {"__rate_interval": "61s", "__range": "62s", "__interval": "63s"}
UNITS = {value for name, value in vars(units).items() if not name.startswith("_") and isinstance(value, str)}


def parsed(expr: str) -> Any:
    """The expression as Prometheus gets it."""
    for name, value in INTERVALS.items():
        expr = expr.replace(f"${name}", value)
    return promql_parser.parse(expr)


def nodes(node: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Every part of an expression, and the functions around it."""
    yield node, above
    inside = (*above, node.func.name) if isinstance(node, promql_parser.Call) else above
    parts = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "vector_selector")]
    for part in [*parts, *getattr(node, "args", ())]:
        if part is not None:
            yield from nodes(part, inside)


def selectors(expr: str) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Every selector of series, and the functions around it."""
    return ((node, above) for node, above in nodes(parsed(expr)) if isinstance(node, promql_parser.VectorSelector))


def matched(selector: Any) -> set[tuple[str, str]]:
    """Labels that a selector chooses by, and their values."""
    return {(matcher.name, matcher.value) for matcher in selector.matchers.matchers}


@pytest.fixture(scope="module")
def known() -> dict[str, str]:
    return exposed()


def test_the_charts_files_are_what_the_modules_say() -> None:
    assert outdated(ROOT, FILES) == []


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_read_only_and_begins_with_its_data_source(name: str) -> None:
    board = BOARDS[name]
    first = board["templating"]["list"][0]
    assert (first["type"], first["name"], first["query"]) == ("datasource", "datasource", "prometheus")
    assert board["editable"] is False
    assert board["title"].startswith("G2RPO / ")
    assert board["description"]


def test_dashboards_have_different_names() -> None:
    assert len({board["uid"] for board in BOARDS.values()}) == len({board["title"] for board in BOARDS.values()}) == 4


@pytest.mark.parametrize("name", BOARDS)
def test_choices_follow_the_time_shown_and_each_other(name: str) -> None:
    variables = [each for each in BOARDS[name]["templating"]["list"] if each["type"] == "query"]
    assert [each["name"] for each in variables][:2] == ["namespace", "job_name"]
    assert all(each["refresh"] == 2 and each["multi"] for each in variables)
    assert all(each["datasource"]["uid"] == "${datasource}" for each in variables)
    for earlier, later in itertools.pairwise(variables):
        assert f"${earlier['name']}" in later["query"] or f"${variables[1]['name']}" in later["query"]
    for each in variables:
        inner = re.fullmatch(r"label_values\((.*), \w+\)", each["query"])
        assert inner
        assert list(selectors(inner[1]))


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_places_and_numbers_of_their_own(name: str) -> None:
    panels = BOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not taken & cells
        taken |= cells


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["targets"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


@pytest.mark.parametrize("panel", PANELS)
def test_units_of_overrides_are_known(panel: dict[str, Any]) -> None:
    pairs = [each for override in panel["fieldConfig"]["overrides"] for each in override["properties"]]
    assert all(each["value"] in UNITS for each in pairs if each["id"] == "unit")


@pytest.mark.parametrize("expr", [*TARGETS, *MARKS])
def test_a_query_asks_for_metrics_that_exist(expr: str, known: dict[str, str]) -> None:
    asked = {selector.name for selector, _ in selectors(expr)}
    assert asked
    assert not {name for name in asked if name not in known and not name.startswith("DCGM_FI_")}


@pytest.mark.parametrize("expr", [*TARGETS, *MARKS])
def test_counters_are_only_asked_how_fast_they_grow(expr: str, known: dict[str, str]) -> None:
    for selector, above in selectors(expr):
        counts = selector.name.endswith("_total") or known.get(selector.name) in ("counter", "histogram")
        assert counts is bool(GROWING & set(above)), selector.name


@pytest.mark.parametrize("expr", TARGETS)
def test_windows_follow_the_time_shown(expr: str) -> None:
    """Fixed ones are an hour, of which a description speaks."""
    windows = set(re.findall(r"\[([^\]]*)\]", expr))
    assert windows <= {"$__rate_interval", "$__range", "$__range:", "1h"}


@pytest.mark.parametrize("expr", [*TARGETS, *MARKS])
def test_a_query_of_runs_and_jobs_keeps_to_the_chosen_ones(expr: str) -> None:
    for selector, _ in selectors(expr):
        kind = "_".join(selector.name.split("_")[:2])
        if name := {"g2rpo_trainer": "job_name", "g2rpo_job": "name"}.get(kind):
            assert {("namespace", "$namespace"), (name, "$job_name")} <= matched(selector)


def test_every_phase_has_its_colour() -> None:
    """Else what is well may be red, and what failed green."""
    assert PHASE_COLOURS.keys() == set(get_args(Phase))
    assert len(set(PHASE_COLOURS.values())) == len(PHASE_COLOURS)
