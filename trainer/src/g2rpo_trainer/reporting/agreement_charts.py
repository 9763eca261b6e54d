"""Charts of how much the rewards agree: within groups of the rollouts, and over the pictures of evaluations.

Who calls this: `report.py`, late, because of matplotlib. What the numbers are is `correlation.py`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from g2rpo_trainer.journal import CorrelationEntry, IterationRecord
from g2rpo_trainer.reporting.charts import SERIES, Chart, LegendEntry
from g2rpo_trainer.reporting.history import Records
from g2rpo_trainer.reporting.panels import canvas_of

Found = Callable[[IterationRecord], Sequence[CorrelationEntry]]


def agreement_charts(records: Records) -> list[Chart]:
    """Correlations of trained rewards in rollouts and of all in evaluations; none where there is one reward."""
    rollout = "Correlation of two rewards among a group's pictures. Below 0, training on both is a tug-of-war."
    evaluated = (
        "Correlation of two rewards over the fixed prompts. A trained reward and a held-out one that part are a sign "
        "of a trick."
    )
    charts = [
        _chart(records, "agreement-rollout", "Agreement while training", rollout, lambda record: record.correlations),
        _chart(records, "agreement-eval", "Agreement in evaluations", evaluated, _evaluated),
    ]
    return [chart for chart in charts if chart.legend]


def _evaluated(record: IterationRecord) -> Sequence[CorrelationEntry]:
    return [entry for group in record.evaluation if group.split == "eval" for entry in group.correlations]


def _chart(records: Records, name: str, title: str, note: str, found: Found) -> Chart:
    canvas = canvas_of(name, records)
    values = [(record.iteration, entry) for record in records for entry in found(record) if math.isfinite(entry.value)]
    pairs = list(dict.fromkeys(entry.pair for _, entry in values))
    for index, pair in enumerate(pairs[: len(SERIES)]):
        points = [(float(iteration), entry.value) for iteration, entry in values if entry.pair == pair]
        canvas.line(points, LegendEntry(pair, SERIES[index]), f"pair{index}")
    return canvas.chart(title, note)
