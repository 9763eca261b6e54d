"""`python -m monitoring.pictures URL --start S --end S`: draws the dashboards from what a Prometheus answers.

Who calls this: the recording of the documentation's pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from monitoring.ask import Prometheus, Span, answers, choices, panels
from monitoring.drawing import draw
from monitoring.generate import DASHBOARDS, text_of

GRID = 38
"""Pixels of a unit of height, the gap included."""


def page(name: str, prometheus: Prometheus, span: Span, chosen: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """A dashboard with what its panels show; `chosen` are values of variables, in place of all."""
    dashboard = json.loads(text_of(DASHBOARDS[name]()))
    values = choices(dashboard, prometheus, span) | (chosen or {})
    shown = [
        {"panel": panel, "answers": answers(panel, seen, prometheus, span)} for panel, seen in panels(dashboard, values)
    ]
    for each, (_, seen) in zip(shown, panels(dashboard, values), strict=True):
        each["panel"]["title"] = each["panel"]["title"].replace("$reward", seen.get("reward", ""))
    limits = {"start": span.start, "end": span.end, "step": span.step}
    return {"dashboard": dashboard, "panels": shown, "span": limits, "values": values}


def height(page: dict[str, Any]) -> int:
    """Of the picture, in pixels."""
    places = [each["panel"]["gridPos"] for each in page["panels"]]
    return GRID * max(int(place["y"] + place["h"]) for place in places) + 8


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or an exception."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.pictures", description=__doc__.partition("\n")[0])
    parser.add_argument("url", help="of a Prometheus")
    parser.add_argument("--start", type=float, required=True, help="unix time at which the dashboards begin")
    parser.add_argument("--end", type=float, required=True, help="unix time at which they end")
    parser.add_argument("--scrape", type=float, default=30.0, help="seconds between scrapes (default: 30)")
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="folder for the PNGs")
    parser.add_argument("--dashboards", nargs="+", default=list(DASHBOARDS), help="which (default: all)")
    given = parser.parse_args(arguments)
    prometheus, span = Prometheus(given.url), Span(given.start, given.end, given.scrape)
    for name in given.dashboards:
        drawn = page(name, prometheus, span)
        draw(drawn, height(drawn), given.output / f"dashboard-{name}.png")
        print(given.output / f"dashboard-{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
