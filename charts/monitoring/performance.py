"""Dashboard "Performance": where the time of an iteration goes, on ranks and in rewards, and what GPUs do meanwhile.

Who calls this: `generate.py`.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from monitoring.board import About, Row, board, run_choices
from monitoring.panels import PanelBuilder, lines, numbers, stacked
from monitoring.queries import RUN, SECONDS_PER_ITERATION, Query, grown, latest, over, per_second, quantile, trainer

ABOUT = About(
    "g2rpo-performance",
    "G2RPO / Performance",
    "Where the time of an iteration goes, on ranks and in rewards, and what GPUs do meanwhile.",
)
LEFT = latest("eta_seconds")


def dashboard() -> models.Dashboard:
    """All of it."""
    rows = [
        Row("Speed", _glance()),
        Row("Iterations", _iterations()),
        Row("Ranks", _ranks()),
        Row("Rewards", _rewards()),
        Row("GPUs, as DCGM sees them", _gpus()),
    ]
    return board(ABOUT, run_choices(), rows)


def _glance() -> list[PanelBuilder]:
    return [
        numbers(
            "Iteration",
            "Mean duration of an iteration, evaluations included.",
            units.Seconds,
            Query(SECONDS_PER_ITERATION, "{{job_name}}"),
        ),
        numbers(
            "Pictures",
            "Pictures per second that were decoded and scored, over all ranks.",
            units.NoUnit,
            Query(per_second("images_total"), "{{job_name}}"),
        ).decimals(1),
        numbers(
            "Model calls",
            "Rows per second through the transformer without gradient, over all ranks.",
            units.NoUnit,
            Query(per_second("nfe_total"), "{{job_name}}"),
        ).decimals(1),
        numbers("Left", "Until the last iteration, at this speed.", units.Seconds, Query(LEFT, "{{job_name}}")),
    ]


def _iterations() -> list[PanelBuilder]:
    phases = over("avg", ("phase",), latest("phase_duration_seconds", "phase"))
    slow = f"histogram_quantile(0.95, {grown('step_duration_seconds_bucket', 'le', window='1h')})"
    return [
        stacked(
            "Phases",
            "Seconds of the last iteration by phase, on the first rank; the mean where several jobs are chosen.",
            units.Seconds,
            Query(phases, "{{phase}}"),
        ).span(12),
        lines(
            "Duration",
            "Mean of the iterations that just ended, and the 95th percentile of the hour before, as exact as the "
            "histogram's buckets.",
            units.Seconds,
            Query(SECONDS_PER_ITERATION, "{{job_name}} mean"),
            Query(slow, "{{job_name}} 95 % of an hour"),
        )
        .span_nulls(True)
        .span(12),
        lines(
            "Pictures",
            "Pictures per second that were decoded and scored, over all ranks.",
            units.NoUnit,
            Query(per_second("images_total"), "{{job_name}}"),
        ).span_nulls(True),
        lines(
            "Model calls",
            "Rows per second through the transformer without gradient, over all ranks.",
            units.NoUnit,
            Query(per_second("nfe_total"), "{{job_name}}"),
        ).span_nulls(True),
        lines(
            "Checkpoints",
            "Seconds that the last one took, and how old it is: what a lost node costs.",
            units.Seconds,
            Query(latest("checkpoint_duration_seconds"), "{{job_name}} took"),
            Query(f"time() - {latest('checkpoint_last_success_timestamp_seconds')}", "{{job_name}} age"),
        ),
    ]


def _ranks() -> list[PanelBuilder]:
    def each(title: str, text: str, unit: str, name: str) -> timeseries.Panel:
        return lines(title, text, unit, Query(latest(name, "rank"), "{{job_name}} rank {{rank}}")).span(6)

    held = Query(latest("memory_bytes", "rank", "kind"), "{{job_name}} rank {{rank}}, {{kind}}")
    return [
        each(
            "Rollout",
            "Seconds of the last rollout, decoding and rewards included. A slow rank keeps all others waiting.",
            units.Seconds,
            "rank_compute_seconds",
        ),
        each(
            "Waiting",
            "Seconds of the last iteration that each rank waited for the slowest.",
            units.Seconds,
            "collective_wait_seconds",
        ),
        lines(
            "MFU",
            "Share of the card's speed in bfloat16 that the last iteration reached, where that speed is known.",
            units.PercentUnit,
            Query(latest("mfu_ratio"), "{{job_name}}"),
        )
        .min(0)
        .span(6),
        lines(
            "Memory",
            "After an iteration: resident of each process; of a GPU, what torch allocated and reserved, and the peak.",
            units.BytesIEC,
            held,
        )
        .min(0)
        .span(6),
    ]


def _rewards() -> list[PanelBuilder]:
    buckets = trainer("reward_latency_seconds_bucket")
    shares = ((0.5, "median"), (0.95, "95 %"))
    failed = grown("reward_calls_total", "reward", window="1h", result="~unscored|invalid|failed")
    return [
        lines(
            "Latency",
            "Of a call, which judges a batch of pictures: median and 95th percentile, as exact as the buckets.",
            units.Seconds,
            *(
                Query(quantile(share, buckets, *RUN, "reward"), f"{{{{job_name}}}} {{{{reward}}}}, {name}")
                for share, name in shares
            ),
        ).span_nulls(True),
        lines(
            "Calls",
            "Per second of an iteration, over all ranks.",
            units.OpsPerSecond,
            Query(per_second("reward_calls_total", "reward"), "{{job_name}} {{reward}}"),
        ).span_nulls(True),
        lines(
            "Failures",
            "Calls of the hour before that left pictures without a score. Their groups teach nothing.",
            units.NoUnit,
            Query(failed, "{{job_name}} {{reward}}"),
        )
        .min(0)
        .axis_soft_max(5),
    ]


def _dcgm(name: str) -> str:
    """A series of the DCGM exporter for each GPU of the chosen runs.

    The exporter names the pod that a GPU is given to `pod`, or `exported_pod` where the scrape keeps its own labels.
    """
    own = name
    for label in ("pod", "namespace"):
        own = f'label_replace({own}, "{label}", "$1", "exported_{label}", "(.+)")'
    pods = over("max", (*RUN, "pod"), f"1 + 0 * {trainer('beat_timestamp_seconds')}")
    joined = f"{own} * on (namespace, pod) group_left (job_name) {pods}"
    return over("max", (*RUN, "Hostname", "gpu"), joined)


def _gpus() -> list[PanelBuilder]:
    def each(title: str, text: str, unit: str, name: str) -> timeseries.Panel:
        return lines(title, text, unit, Query(_dcgm(name), "{{job_name}} {{Hostname}} GPU {{gpu}}"))

    return [
        each("Busy", "Share of the time in which any kernel ran.", units.Percent, "DCGM_FI_DEV_GPU_UTIL")
        .min(0)
        .max(100),
        each(
            "Tensor cores",
            "Share of the cycles in which they worked: what the price of the GPU pays for.",
            units.PercentUnit,
            "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        )
        .min(0)
        .max(1),
        each("GPU memory", "Used of the GPU's own memory.", units.Mebibytes, "DCGM_FI_DEV_FB_USED"),
        each("Power", "Drawn now.", units.Watt, "DCGM_FI_DEV_POWER_USAGE"),
        each("Temperature", "Of the GPU; near its limit it slows down.", units.Celsius, "DCGM_FI_DEV_GPU_TEMP"),
        each(
            "Xid",
            "Last error of the driver; 0 is none. The number says what is broken, see the alert's page.",
            units.NoUnit,
            "DCGM_FI_DEV_XID_ERRORS",
        ),
    ]
