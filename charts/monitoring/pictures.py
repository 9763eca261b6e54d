"""A dashboard with what a Prometheus answers to it, and pictures of that.

Who calls this: the tests of the dashboards, and the making of the documentation's pictures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from monitoring.ask import Prometheus, Span, answers, choices, filled, panels
from monitoring.drawing import draw
from monitoring.generate import dashboard

Panel = dict[str, Any]
Page = dict[str, Any]
"""What the page in render/ draws: the dashboard, its panels with their answers, the time shown."""
COLOURS = 160
GRID = 38
"""Pixels of a unit of height, the gap included."""


def page(name: str, prometheus: Prometheus, span: Span, chosen: dict[str, list[str]] | None = None) -> Page:
    """A dashboard with what its panels show; `chosen` are values of variables, in place of all."""
    board = json.loads(dashboard(name))
    values = choices(board, prometheus, span, chosen)
    shown = [
        {
            "panel": panel | {"title": filled(panel["title"], seen)},
            "answers": answers(panel, seen, prometheus, span),
        }
        for panel, seen in panels(board, values)
    ]
    limits = {"start": span.start, "end": span.end, "step": span.step}
    return {"dashboard": board, "panels": shown, "span": limits, "values": values}


def only(page: Page, titles: Sequence[str]) -> Page:
    """The page without the other rows."""
    rows = [panel for panel in page["dashboard"]["panels"] if panel["type"] == "row"]
    ends = [row["gridPos"]["y"] for row in rows[1:]] + [sys.maxsize]
    kept = [(row["gridPos"]["y"], end) for row, end in zip(rows, ends, strict=True) if row["title"] in titles]

    def moved(panel: Panel) -> Panel | None:
        place, y = panel["gridPos"], 0
        for start, end in kept:
            if start <= place["y"] < end:
                return panel | {"gridPos": place | {"y": y + place["y"] - start}}
            y += end - start
        return None

    headings = [row for row in map(moved, rows) if row]
    shown = [each | {"panel": found} for each in page["panels"] if (found := moved(each["panel"]))]
    return page | {"dashboard": page["dashboard"] | {"panels": headings}, "panels": shown}


def picture(page: Page, output: Path) -> None:
    """The page as a PNG of few colours, which is a third of the size."""
    places = [each["panel"]["gridPos"] for each in page["panels"]]
    draw(page, GRID * max(int(place["y"] + place["h"]) for place in places) + 8, output)
    with Image.open(output) as drawn:
        drawn.convert("RGB").quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            output, optimize=True
        )
