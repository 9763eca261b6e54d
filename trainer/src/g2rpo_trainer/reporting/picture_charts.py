"""Charts of what the pictures look like: of rollouts, and of evaluations on fixed prompts.

Who calls this: `report.py`, late, because of matplotlib. What the numbers are is `appearance.py`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from g2rpo_trainer.journal import AppearanceEntry, IterationRecord
from g2rpo_trainer.reporting.charts import Chart, LegendEntry
from g2rpo_trainer.reporting.history import Records, Split
from g2rpo_trainer.reporting.panels import canvas_of
from g2rpo_trainer.reporting.series import Point

CHARTS: tuple[tuple[str, str, str], ...] = (
    ("saturation", "Saturation", "0 is grey, 1 pure colour. A steady climb: the reward likes loud pictures."),
    ("brightness", "Brightness", "0 is black, 1 white."),
    ("contrast", "Contrast", "Standard deviation of the brightness within a picture; 0.5 is black and white only."),
    (
        "lattice",
        "Lattice",
        "Share of the contrast that repeats from patch to patch. A climb: a pattern that passes for detail.",
    ),
    (
        "diversity",
        "Diversity",
        "Mean distance of two pictures, in a rollout of the same prompt. Near 0: the policy draws one picture only.",
    ),
)
"""Statistic, title, and how to read it."""
EVALUATIONS: tuple[tuple[Split, LegendEntry], ...] = (
    ("eval", LegendEntry("evaluation, fixed prompts", "s2")),
    ("unseen", LegendEntry("evaluation, unseen prompts", "s3", "dashed")),
)


def appearance_charts(records: Records) -> list[Chart]:
    """One chart per statistic; none where no pictures were noted."""
    charts = [_chart(records, *named) for named in CHARTS]
    return [chart for chart in charts if chart.legend]


def _chart(records: Records, statistic: str, title: str, note: str) -> Chart:
    canvas = canvas_of(f"picture-{statistic}", records)
    rollout = [(float(r.iteration), _value(r.appearance, statistic)) for r in records if r.appearance]
    canvas.smooth(rollout, LegendEntry("rollout pictures, smoothed", "s1"), "rollout")
    for split, entry in EVALUATIONS:
        points = list(_evaluated(records, split, statistic))
        canvas.points(points, [math.nan] * len(points), entry, split)
    return canvas.chart(title, note)


def _evaluated(records: Records, split: Split, statistic: str) -> Iterator[Point]:
    for record in records:
        yield from _points(record, split, statistic)


def _points(record: IterationRecord, split: Split, statistic: str) -> Iterator[Point]:
    for entry in record.evaluation:
        if entry.split == split and entry.appearance:
            value = _value(entry.appearance, statistic)
            if math.isfinite(value):
                yield float(record.iteration), value


def _value(appearance: AppearanceEntry, statistic: str) -> float:
    return float(getattr(appearance, statistic))
