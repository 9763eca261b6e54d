"""A dashboard: its variables, its links to the others, and rows of panels.

Who calls this: the modules of the dashboards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from monitoring.panels import DATASOURCE, PanelBuilder
from monitoring.queries import RUN, TRAINER, Query

TAG = "g2rpo"
ALL = ".+"
Variable = Builder[models.VariableModel]


@dataclass(frozen=True)
class Row:
    """Panels below a heading."""

    title: str
    panels: Sequence[PanelBuilder]


@dataclass(frozen=True)
class About:
    """What a dashboard is called, and what for."""

    uid: str
    title: str
    text: str
    time_from: str = "now-6h"


def board(
    about: About, variables: Iterable[Variable], rows: Iterable[Row], mark: Query | None = None
) -> models.Dashboard:
    """The dashboard; `mark` are moments that all its curves show."""
    made = (
        dashboard.Dashboard(about.title)
        .uid(about.uid)
        .description(about.text)
        .tags([TAG])
        .readonly()
        .refresh("30s")
        .time(about.time_from, "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(links())
        .variables([datasource(), *variables])
    )
    if mark is not None:
        made = made.annotation(annotation(mark))
    for row in rows:
        made = made.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            made = made.with_panel(panel)
    whole = made.build()
    for number, part in enumerate(whole.panels or (), start=1):
        part.id_val = number
    return whole


def links() -> dashboard.DashboardLink:
    """To the other dashboards, for the same runs and time."""
    link = dashboard.DashboardLink("G2RPO").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(False).include_vars(True).keep_time(True)


def annotation(mark: Query) -> dashboard.AnnotationQuery:
    """Lines over all curves."""
    made = dashboard.AnnotationQuery().name("Attempts").datasource(DATASOURCE).enable(True).icon_color("orange")
    return made.expr(mark.expr)


def datasource() -> dashboard.DatasourceVariable:
    """Which Prometheus."""
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def choice(name: str, label: str, values: str, everything: bool = True) -> dashboard.QueryVariable:
    """What label_values finds in the time shown; several may be chosen."""
    made = dashboard.QueryVariable(name).label(label).datasource(DATASOURCE).query(f"label_values({values})")
    made = made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    made = made.multi(True).include_all(everything)
    return made.all_value(ALL) if everything else made


def run_choices() -> list[Variable]:
    """The run, or the runs, that a dashboard is about."""
    namespace, name = RUN
    seen = f"{TRAINER}iteration"
    return [
        choice(namespace, "Namespace", f"{seen}, {namespace}"),
        choice(name, "Job", f'{seen}{{{namespace}=~"$namespace"}}, {name}', everything=False),
    ]
