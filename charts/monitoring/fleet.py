"""Dashboard "Fleet": all jobs, what they wait for, why they began again, and whether the operator is well.

Who calls this: `generate.py`.
"""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from monitoring.board import About, Row, board, choice
from monitoring.panels import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    Column,
    PanelBuilder,
    facts,
    lines,
    properties,
    rows,
    stacked,
    steps,
)
from monitoring.queries import OPERATOR, Query, job, over, quantile

ABOUT = About(
    "g2rpo-fleet",
    "G2RPO / Fleet",
    "All jobs: what they do and wait for, why they began again, and whether the operator is well.",
    time_from="now-24h",
)
JOB = ("namespace", "name")
PHASE = over("max", (*JOB, "phase"), job("phase"))
GPU_SECONDS = job("gpu_seconds_total")
BUSY = over("max", JOB, f"rate({GPU_SECONDS}[1h])")
"""It grows with each status that the operator writes, which may be minutes apart: over less it would leap."""
COLOURED = {"type": "color-text"}
PHASE_COLOURS = {
    "Pending": "light-yellow",
    "Queued": "yellow",
    "Starting": "light-green",
    "Running": GREEN,
    "Restarting": ORANGE,
    "Suspending": "light-purple",
    "Suspended": "purple",
    "Succeeded": BLUE,
    "Failed": RED,
}
PHASE_TEXTS = {
    "type": "value",
    "options": {name: {"color": colour, "index": index} for index, (name, colour) in enumerate(PHASE_COLOURS.items())},
}


def dashboard() -> models.Dashboard:
    """All of it."""
    variables = [
        choice("namespace", "Namespace", "g2rpo_job_phase, namespace"),
        choice("job_name", "Job", 'g2rpo_job_phase{namespace=~"$namespace"}, name'),
    ]
    parts = [
        Row("Now", _glance()),
        Row("Over time", _history()),
        Row("Beginning", _beginning()),
        Row("Operator", _operator()),
    ]
    return board(ABOUT, variables, parts)


def _growth(name: str, *by: str, window: str = "$__rate_interval") -> str:
    """By how much one of the operator's counters grew."""
    return over("sum", by, f"increase({OPERATOR}{name}[{window}])")


def _speed(name: str, *by: str) -> str:
    """How fast one of the operator's counters grows."""
    return over("sum", by, f"rate({OPERATOR}{name}[$__rate_interval])")


def _shown(share: float, name: str) -> str:
    """A quantile over all that a histogram of the operator got in the time shown."""
    return f"histogram_quantile({share}, {_growth(f'{name}_bucket', 'le', window='$__range')})"


def _glance() -> list[PanelBuilder]:
    waiting = over("max", JOB, job("phase", phase="~Pending|Queued"))
    return [
        facts("Jobs", "By phase.", units.NoUnit, Query(over("sum", ("phase",), PHASE), "{{phase}}")).span(12),
        facts(
            "Busy GPUs",
            "GPUs that the jobs held, on average over the last hour.",
            units.NoUnit,
            Query(f"sum({BUSY})", "GPUs"),
        ).decimals(1),
        facts(
            "Waiting jobs",
            "Jobs without pods: created a moment ago, or waiting for Kueue.",
            units.NoUnit,
            Query(f"count({waiting}) or vector(0)", "jobs"),
        ).thresholds(steps((None, GREEN), (1, ORANGE))),
        _rows_of_jobs(),
    ]


def _rows_of_jobs() -> PanelBuilder:
    """A row per job."""
    columns = (
        Column(PHASE, hidden=True),
        Column(over("max", (*JOB, "attempt"), f"0 * {job('info')}"), hidden=True),
        Column(over("max", JOB, job("iteration")), "Iteration"),
        Column(over("avg", JOB, job("reward", role="Train")), "Trained reward"),
        Column(over("max", JOB, f"increase({GPU_SECONDS}[$__range])") + " / 3600", "GPU-hours"),
    )
    panel = rows(
        "Jobs by name",
        "Where each of them stands; GPU-hours are those of the time shown, the reward is the mean of the trained ones.",
        units.NoUnit,
        columns,
        {"namespace": "Namespace", "name": "Job", "phase": "Phase", "attempt": "Attempt"},
    )
    for name, decimals in (("Iteration", 0), ("Trained reward", 3), ("GPU-hours", 2)):
        panel = panel.override_by_name(name, properties(("decimals", decimals)))
    return panel.override_by_name("Phase", properties(("mappings", [PHASE_TEXTS]), ("custom.cellOptions", COLOURED)))


def _history() -> list[PanelBuilder]:
    phases = stacked("Jobs by phase", "How many.", units.NoUnit, Query(over("sum", ("phase",), PHASE), "{{phase}}"))
    for name, colour in PHASE_COLOURS.items():
        phases = phases.override_by_name(name, properties(("color", {"mode": "fixed", "fixedColor": colour})))
    return [
        phases,
        stacked(
            "Busy GPUs",
            "GPUs that the jobs held, on average over the hour before, by namespace.",
            units.NoUnit,
            Query(over("sum", ("namespace",), BUSY), "{{namespace}}"),
        ),
        stacked(
            "Restarts by reason",
            "Attempts that were followed by another, in each hour before; docs/reference.md explains the reasons.",
            units.NoUnit,
            Query(_growth("restarts_total", "reason", window="1h") + " > 0", "{{reason}}"),
        ),
    ]


def _beginning() -> list[PanelBuilder]:
    def each(title: str, text: str, name: str) -> PanelBuilder:
        panel = facts(
            title,
            f"{text} Median and 95th percentile in the time shown, as exact as the histogram's buckets.",
            units.Seconds,
            Query(_shown(0.5, name), "median"),
            Query(_shown(0.95, name), "95 %"),
        )
        return panel.span(12).height(5)

    return [
        each(
            "From creation to running",
            "Time from a job's first attempt to all its pods running: scheduling, volumes, images.",
            "job_start_seconds",
        ),
        each(
            "From the end of an attempt to running again",
            "What a restart costs before anything is loaded.",
            "restart_recovery_seconds",
        ),
    ]


def _operator() -> list[PanelBuilder]:
    looks, waits = f"{OPERATOR}reconcile_duration_seconds_bucket", f"{OPERATOR}queue_wait_seconds_bucket"
    return [
        lines(
            "Leader",
            "Replicas that act. 1, but for a moment when they change; 0 means that nothing happens to any job.",
            units.NoUnit,
            Query(f"sum({OPERATOR}leader)", "leaders"),
        ).min(0),
        lines(
            "Looks",
            "Looks at a job, per second, and those that failed by kind of error.",
            units.OpsPerSecond,
            Query(_speed("reconcile_total", "result"), "{{result}}"),
            Query(_speed("reconcile_errors_total", "reason"), "{{reason}}"),
        ),
        lines(
            "Time of a look",
            "95th percentile of the look itself, and of the wait for it.",
            units.Seconds,
            Query(quantile(0.95, looks), "look"),
            Query(quantile(0.95, waits), "wait"),
        ),
        lines(
            "Queue",
            "Jobs that wait to be looked at.",
            units.NoUnit,
            Query(f"sum({OPERATOR}queue_depth)", "jobs"),
        ),
        lines(
            "Silence",
            "Age of the oldest look under way, and for how long a watch has owed what a list has shown.",
            units.Seconds,
            Query(f"max({OPERATOR}queue_longest_look_seconds)", "look"),
            Query(over("max", ("resource",), f"{OPERATOR}watch_silent_seconds"), "watch of {{resource}}"),
        ),
        lines(
            "Requests",
            "To the API server, per second, by answer; and questions to trainers about their progress.",
            units.RequestsPerSecond,
            Query(_speed("api_requests_total", "code"), "API {{code}}"),
            Query(_speed("progress_polls_total", "result"), "progress {{result}}"),
        ),
    ]
