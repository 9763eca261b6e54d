"""Writes docs/metrics.md: every metric of trainer and operator, from the definitions that they are exposed by.

    python docs/metrics.py            write it
    python docs/metrics.py --check    exit with 1 if it is not what the code is

Who calls this: `make generate` and `make check-generated`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric

from g2rpo_api.contract import DEFAULT_PORT
from g2rpo_api.generate import run
from g2rpo_operator.metrics import Metrics
from g2rpo_operator.world import Summary
from g2rpo_trainer.monitoring.names import COUNTERS, GAUGES, HISTOGRAMS, INFO, POD_GAUGES, PREFIX
from g2rpo_trainer.monitoring.progress import RunInfo
from g2rpo_trainer.monitoring.telemetry import (
    MAX_GRANULARITIES,
    MAX_PAIRED,
    MAX_RANKS,
    MAX_STEPS,
    Telemetry,
    Vitals,
)
from g2rpo_trainer.planning.cards import SPEEDS

PAGE = "docs/metrics.md"
ENDINGS = {"counter": "_total", "info": "_info"}
"""What a type adds to a family's name."""
UNITS = {"_timestamp_seconds": "Unix time", "_seconds": "seconds", "_bytes": "bytes", "_ratio": "0 to 1"}
"""By the end of a name, without a counter's; the first that fits."""
TEXT = f"""# Metrics

Every pod that trains answers Prometheus at `/metrics` of port {DEFAULT_PORT}, and so does the operator at its own. How
to get them scraped, into dashboards and into alerts: [Prometheus and Grafana](monitor.md).

A histogram's series end in `_bucket`, `_sum` and `_count`. A trainer's counters and histograms begin at 0 with each
attempt, but for its restarts: what a job did in all attempts is the sum over the label `attempt`, which the scrape
adds, like `namespace`, `pod` and `job_name`.

No label's values grow with time: rewards, splits, granularities and ranks are those of the job. The page of the largest
job is smaller than 64 KiB, because of some only the first have series of their own: {MAX_STEPS} steps of the grid,
{MAX_GRANULARITIES} granularities, {MAX_RANKS} ranks of a pod, and correlations of {MAX_PAIRED} trained and
{MAX_PAIRED} held-out rewards. Trainers' gauges have seven digits, but for moments. The run folder's `metrics.jsonl` has
everything.
"""
TRAINER = f"""
## Trainer

{", ".join(f"`{name}`" for name in POD_GAUGES)} are in every pod, of its own ranks.
Everything else is about the whole run, and only the pod of rank 0 has it. NaN is what was not measured yet, or not in
the last iteration.

Calls of rewards in evaluations count, too. One that ends the run, since its reward's `onFailure` is `Fail`, does not:
the run's last word tells of it.

`mfu_ratio` is there where the model computes in bfloat16 on a whole card whose speed is known: {", ".join(SPEEDS)}.
What gradient checkpointing computes again counts; rewards do not.

"""
OPERATOR = """
## Operator

What begins with `g2rpo_job` is about one job and ends with it. Its labels say which: a scrape keeps them
(`honor_labels`).

"""
HEAD = "| Name | Type | Labels | Unit | Meaning |\n|---|---|---|---|---|\n"


@dataclass(frozen=True)
class Row:
    """One metric."""

    name: str
    kind: str
    labels: Sequence[str]
    meaning: str

    @property
    def unit(self) -> str:
        """Of its values; nothing where they are a count or have none."""
        name = self.name.removesuffix(ENDINGS.get(self.kind, ""))
        return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")

    def text(self) -> str:
        """In Markdown."""
        labels = ", ".join(f"`{label}`" for label in self.labels)
        meaning = self.meaning.replace("|", "\\|")
        return f"| `{self.name}` | {self.kind} | {labels} | {self.unit} | {meaning} |\n"


def rows(families: Iterable[Metric], labels: Mapping[str, Sequence[str]]) -> list[Row]:
    """All of them, by name."""
    named = [(family.name + ENDINGS.get(family.type, ""), family) for family in families]
    return sorted(
        (Row(name, family.type, labels[name], family.documentation) for name, family in named),
        key=lambda row: row.name,
    )


def trainers() -> list[Row]:
    """Of a run."""
    vitals = Vitals(stall_seconds=1.0)
    Telemetry(RunInfo("job", 1, 1, {}), vitals)
    described = {**POD_GAUGES, **GAUGES, **COUNTERS, **{name: of for name, (of, _) in HISTOGRAMS.items()}, "info": INFO}
    return rows(vitals.registry.collect(), {PREFIX + name: labels for name, (_, labels) in described.items()})


def operators() -> list[Row]:
    """Of an operator to which everything has happened once."""
    job = Summary("team", "job", "Running", 1, "image", 0.0, 1, (("reward", "Train", 0.0),))
    metrics = Metrics(lambda: [job])
    metrics.count_look(0.0, 0.0, ValueError())
    metrics.count_request("get", "pods", "200")
    metrics.count_poll("ok")
    metrics.watch_silent_seconds.labels("Pod").set(0.0)
    families = list(metrics.registry.collect())
    labels = {
        family.name + ENDINGS.get(family.type, ""): [name for name in family.samples[0].labels if name != "le"]
        for family in families
    }
    return rows(families, labels)


def page() -> str:
    """The whole of it."""
    tables = [HEAD + "".join(row.text() for row in made) for made in (trainers(), operators())]
    return f"{TEXT}{TRAINER}{tables[0]}{OPERATOR}{tables[1]}"


if __name__ == "__main__":
    sys.exit(run({PAGE: page}, "python docs/metrics.py", sys.argv[1:]))
