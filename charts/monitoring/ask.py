"""What a Prometheus answers to a dashboard: variables, panels and their queries, as Grafana would ask.

Who calls this: `pictures.py`, and the tests of the dashboards.
"""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TIMEOUT_SECONDS = 30
POINTS = 500
"""What a panel asks for: a point per pixel, more or less."""
LABEL_VALUES = re.compile(r"label_values\((?:(?P<series>.*), )?(?P<label>\w+)\)")
VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)\}|(?P<plain>\w+))")
Json = dict[str, Any]
Chosen = Mapping[str, str]


@dataclass(frozen=True)
class Span:
    """The time that a dashboard shows."""

    start: float
    end: float
    scrape_seconds: float
    """How often Prometheus scrapes: what the data source of a Grafana is told."""

    @property
    def step(self) -> float:
        """Seconds between points; a whole number of scrapes."""
        return self.scrape_seconds * max(1.0, round((self.end - self.start) / POINTS / self.scrape_seconds))

    def variables(self) -> dict[str, str]:
        """Variables that Grafana sets by itself."""
        rate = max(self.step + self.scrape_seconds, 4 * self.scrape_seconds)
        seconds = {"__rate_interval": rate, "__range": self.end - self.start, "__interval": self.step}
        return {name: f"{round(value * 1000)}ms" for name, value in seconds.items()}


@dataclass(frozen=True)
class Prometheus:
    """The HTTP API of one."""

    url: str

    def get(self, path: str, **parameters: str | float) -> Any:
        """The data of an answer.

        Raises:
            urllib.error.HTTPError: Prometheus refuses the question.
        """
        query = urllib.parse.urlencode({name.replace("match", "match[]"): value for name, value in parameters.items()})
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=TIMEOUT_SECONDS) as answer:
            return json.load(answer)["data"]

    def over(self, expr: str, span: Span) -> list[Json]:
        """Series with their values over a span."""
        data = self.get("query_range", query=expr, start=span.start, end=span.end, step=span.step)
        return list(data["result"])

    def at(self, expr: str, time: float) -> list[Json]:
        """Series with their value at a time, in the form of a span of one point."""
        result = self.get("query", query=expr, time=time)["result"]
        return [{"metric": each["metric"], "values": [each["value"]]} for each in result]

    def label_values(self, query: str, span: Span) -> list[str]:
        """What a variable's label_values(...) finds."""
        found = LABEL_VALUES.fullmatch(query)
        if found is None:
            raise ValueError(f"not label_values(...): {query}")
        limits: dict[str, str | float] = {"start": span.start, "end": span.end}
        if found["series"]:
            limits["match"] = found["series"]
        return sorted(self.get(f"label/{found['label']}/values", **limits))


def filled(text: str, chosen: Chosen) -> str:
    """The text with variables replaced; an unknown one stays."""

    def value(found: re.Match[str]) -> str:
        return chosen.get(found["braced"] or found["plain"], found[0])

    return VARIABLE.sub(value, text)


def any_of(values: Sequence[str]) -> str:
    """A regular expression for the chosen values of a variable."""
    return "|".join(re.escape(value).replace("\\-", "-") for value in values)


def choices(
    dashboard: Json, prometheus: Prometheus, span: Span, chosen: Mapping[str, list[str]] | None = None
) -> dict[str, list[str]]:
    """The chosen values of each variable of the dashboard, or all that it offers, which depends on earlier ones."""
    found: dict[str, list[str]] = {}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            before = {name: any_of(values) for name, values in found.items()}
            offered = prometheus.label_values(filled(variable["query"], before), span)
            found[variable["name"]] = (chosen or {}).get(variable["name"], offered)
    return found


def panels(dashboard: Json, values: Mapping[str, Sequence[str]]) -> Iterator[tuple[Json, dict[str, str]]]:
    """Every panel but rows, with the variables it sees; a repeated one once for each value."""
    everything = {name: any_of(chosen) for name, chosen in values.items()}
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        repeated = panel.get("repeat")
        if not repeated:
            yield panel, everything
            continue
        for number, value in enumerate(values[repeated]):
            columns = panel["maxPerRow"]
            width, height = 24 // columns, panel["gridPos"]["h"]
            place = panel["gridPos"] | {"w": width, "x": number % columns * width}
            place["y"] += number // columns * height
            yield panel | {"gridPos": place}, everything | {repeated: any_of([value])}


def answers(panel: Json, chosen: Chosen, prometheus: Prometheus, span: Span) -> dict[str, list[Json]]:
    """What Prometheus says to each query of a panel, by its letter."""
    seen = dict(chosen) | span.variables()
    found = {}
    for target in panel["targets"]:
        expr = filled(target["expr"], seen)
        instant = target.get("instant", False)
        found[target["refId"]] = prometheus.at(expr, span.end) if instant else prometheus.over(expr, span)
    return found
