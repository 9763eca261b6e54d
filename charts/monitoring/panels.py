"""Panels as all dashboards have them: a title, a sentence, a unit, queries of the chosen data source.

Who calls this: the modules of the dashboards, which chain what is special about a panel to what these return.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries, trend
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from monitoring.queries import Query

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
BLUE, GREEN, ORANGE, RED, TEXT = "blue", "green", "orange", "red", "text"
ITERATION = "iteration"
Override = tuple[str, object]
PanelBuilder = Builder[models.Panel]


def target(query: Query, letter: str) -> prometheus.Dataquery:
    """A query over the time shown."""
    made = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter)
    return made.datasource(DATASOURCE).range()


def lettered(queries: Iterable[Query]) -> list[tuple[Query, str]]:
    """The queries, each with the letter that a panel knows it by."""
    return list(zip(queries, ascii_uppercase, strict=False))


def targets(queries: Iterable[Query]) -> list[Builder[Dataquery]]:
    """The queries A, B, C, ..."""
    return [target(query, letter) for query, letter in lettered(queries)]


def cells(queries: Iterable[Query], instant: bool) -> list[Builder[Dataquery]]:
    """The queries A, B, C, ... with tables for answers, for transformations that join them."""
    made = [target(query, letter).format(PromQueryFormat.TABLE) for query, letter in lettered(queries)]
    return [each.instant() if instant else each for each in made]


def properties(*pairs: Override) -> list[models.DynamicConfigValue]:
    """What an override sets."""
    return [models.DynamicConfigValue(id_val=name, value=value) for name, value in pairs]


def dashes(on: int, off: int) -> list[models.DynamicConfigValue]:
    """What an override sets to have a curve drawn in dashes."""
    return properties(("custom.lineStyle", {"fill": "dash", "dash": [on, off]}))


def steps(*limits: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Colours from values on; the first has none."""
    colours = [models.Threshold(value=value, color=colour) for value, colour in limits]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(colours)


def lines(title: str, text: str, unit: str, *queries: Query) -> timeseries.Panel:
    """Curves over time."""
    return (
        timeseries.Panel()
        .title(title)
        .description(text)
        .unit(unit)
        .datasource(DATASOURCE)
        .targets(targets(queries))
        .color_scheme(palette())
        .line_width(1)
        .fill_opacity(0)
        .show_points(kinds.VisibilityMode.NEVER)
        .span_nulls(False)
        .legend(bottom_legend())
        .tooltip(every_value())
        .span(8)
        .height(8)
    )


def shares(title: str, text: str, *queries: Query) -> timeseries.Panel:
    """Curves of shares, 0 to 1; what is nearly 0 all the time looks like it."""
    return lines(title, text, units.PercentUnit, *queries).min(0).axis_soft_max(0.1)


def stacked(title: str, text: str, unit: str, *queries: Query) -> timeseries.Panel:
    """Areas on top of each other."""
    pile = common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A")
    return lines(title, text, unit, *queries).fill_opacity(60).line_width(0).stacking(pile).min(0)


def numbers(title: str, text: str, unit: str, *queries: Query) -> stat.Panel:
    """The last value of each series, a line each."""
    return (
        stat.Panel()
        .title(title)
        .description(text)
        .unit(unit)
        .datasource(DATASOURCE)
        .targets(targets(queries))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .color_mode(kinds.BigValueColorMode.VALUE)
        .text_mode(kinds.BigValueTextMode.VALUE_AND_NAME)
        .justify_mode(kinds.BigValueJustifyMode.AUTO)
        .orientation(kinds.VizOrientation.HORIZONTAL)
        .text(common.VizTextDisplayOptions().title_size(14).value_size(20))
        .thresholds(steps((None, TEXT)))
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .span(6)
        .height(6)
    )


def facts(title: str, text: str, unit: str, *queries: Query) -> stat.Panel:
    """The values of now, a line each: what has ended is not there, whereas `numbers` shows its last value."""
    asked: list[Builder[Dataquery]] = [target(query, letter).instant() for query, letter in lettered(queries)]
    return numbers(title, text, unit).targets(asked)


def trends(title: str, text: str, unit: str, pair: tuple[Query, Query]) -> trend.Panel:
    """Curves over iterations; `pair` is what `queries.by_iteration` returns."""
    panel = trend.Panel().title(title).description(text).unit(unit).datasource(DATASOURCE).span(12).height(9)
    panel = (
        panel.targets(cells(pair, instant=False))
        .x_field(ITERATION)
        .color_scheme(palette())
        .line_width(1)
        .fill_opacity(0)
    )
    panel = panel.show_points(kinds.VisibilityMode.NEVER).span_nulls(True)
    panel = panel.legend(bottom_legend()).tooltip(every_value())
    for name, options in ITERATION_TABLE:
        panel = panel.with_transformation(models.DataTransformerConfig(id_val=name, options=options))
    return panel.override_by_name(ITERATION, properties(("unit", "none"), ("decimals", 0)))


ITERATION_TABLE: tuple[tuple[str, dict[str, object]], ...] = (
    ("merge", {}),
    (
        "groupingToMatrix",
        {"columnField": "run", "rowField": "Value #B", "valueField": "Value #A", "emptyValue": "null"},
    ),
    ("organize", {"excludeByName": {}, "indexByName": {}, "renameByName": {"Value #B\\run": ITERATION}}),
    ("sortBy", {"fields": {}, "sort": [{"field": ITERATION}]}),
)
"""From two tables (time, run, value A) and (time, run, iteration B) to a column per run and a row per iteration.

What is scraped twice within an iteration, and what is trained again after a restart, is overwritten by the latest."""


@dataclass(frozen=True)
class Column:
    """What a table shows of each row: the value of an expression, or only its labels."""

    expr: str
    title: str = ""
    hidden: bool = False


def rows(title: str, text: str, unit: str, columns: Sequence[Column], labels: dict[str, str]) -> table.Panel:
    """A table of what is now, with a row for each set of labels that all the columns share."""
    letters = list(zip(columns, ascii_uppercase, strict=False))
    shown = labels | {f"Value #{letter}": column.title for column, letter in letters if not column.hidden}
    hidden = {"Time": True} | {f"Value #{letter}": True for column, letter in letters if column.hidden}
    tidy = {
        "excludeByName": hidden,
        "indexByName": {name: place for place, name in enumerate(shown)},
        "renameByName": shown,
    }
    panel = table.Panel().title(title).description(text).unit(unit).datasource(DATASOURCE).span(24).height(8)
    panel = panel.targets(cells([Query(column.expr, "") for column in columns], instant=True))
    for name, options in (("merge", {}), ("organize", tidy)):
        panel = panel.with_transformation(models.DataTransformerConfig(id_val=name, options=options))
    return panel


def palette() -> dashboard.FieldColor:
    """A colour for each series."""
    return dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC)


def every_value() -> common.VizTooltipOptions:
    """All curves at the pointer, the highest first."""
    return common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING)


def bottom_legend() -> common.VizLegendOptions:
    """Names below the panel."""
    legend = common.VizLegendOptions().show_legend(True).placement(kinds.LegendPlacement.BOTTOM)
    return legend.display_mode(kinds.LegendDisplayMode.LIST).calcs([])
