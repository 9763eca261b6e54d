"""The diary of a real run as a Prometheus would have seen it if every iteration had taken minutes.

Who calls this: the tests of alerts on real runs. Alerts look back on hours, tests run for seconds: what a run wrote of
itself is told again by the trainer's own telemetry, to a clock of one scrape a minute.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from g2rpo_trainer.journal import IterationRecord, Role
from g2rpo_trainer.monitoring.progress import RunInfo
from g2rpo_trainer.monitoring.telemetry import Telemetry, Vitals
from testmonitoring.alertcases import series

ITERATION, STARTING = 5, 3
"""Minutes that an iteration takes, and those from the end of an attempt to the evaluation or resumption of the next."""
MINUTE = 60.0
UNENDING = 1000
"""Iterations that the job asks for: alerts are about runs that go on."""
Scrape = Mapping[str, float]
"""Value of each series."""


class Attempt:
    """One attempt's process, and what it exposes."""

    def __init__(self, run: RunInfo, told: Sequence[IterationRecord], begun: int) -> None:
        """It begins at a minute and takes up what was told before."""
        self._labels = {
            "namespace": "a", "job_name": run.job_name, "attempt": str(run.attempt),
            "pod": f"{run.job_name}-a{run.attempt}-0",
        }  # fmt: skip
        self._vitals = Vitals(MINUTE, clock=lambda: begun * MINUTE)
        self._telemetry = Telemetry(run, self._vitals)
        self._telemetry.resume(told)

    def tell(self, record: IterationRecord) -> None:
        """An iteration is done, and saved."""
        self._telemetry.observe(record, None)
        self._telemetry.observe_checkpoint(record.iteration, record.time, 1.0)

    def scraped(self) -> Scrape:
        """What a scrape sees."""
        return {
            series(one.name, **self._labels, **one.labels): one.value
            for family in self._vitals.registry.collect()
            for one in family.samples
            if family.type != "info"
        }


def replayed(job: str, diary: Iterable[Mapping[str, Any]], roles: Mapping[str, Role]) -> dict[str, str]:
    """Every series of the run in promtool's notation, one value a minute."""
    scrapes: list[Scrape] = []
    told: list[IterationRecord] = []
    records = [IterationRecord.model_validate(record) for record in diary]
    for attempt, own in groupby(records, key=lambda record: record.attempt):
        running = Attempt(RunInfo(job, UNENDING, 1, roles, attempt), told, len(scrapes))
        scrapes += [running.scraped()] * STARTING
        for record in own:
            scrapes += [running.scraped()] * (ITERATION - 1)
            took = {"time": len(scrapes) * MINUTE, "step_seconds": ITERATION * MINUTE}
            told.append(record.model_copy(update=took))
            running.tell(told[-1])
            scrapes.append(running.scraped())
    return {name: notation(name, scrapes) for name in dict.fromkeys(name for scrape in scrapes for name in scrape)}


def notation(name: str, scrapes: Iterable[Scrape]) -> str:
    """A series; it ends with the scrapes that have it."""
    words = [repr(scrape[name]) if name in scrape else "_" for scrape in scrapes]
    text = " ".join(words).replace("nan", "NaN").replace("inf", "Inf")
    return re.sub(r"(?<=[^_] )_", "stale", text)
