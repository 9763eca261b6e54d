"""How far running jobs are: rank 0's /progress is fetched, so that trainer pods need no credential.

Who calls this: `__main__` runs the poller, `reconcile.py` says which pods to ask and reads the answers.
The whole reward curve is kept in a ConfigMap of the job, where it outlives the pods.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import ValidationError

from g2rpo_api import contract
from g2rpo_api.progress import ProgressReport
from g2rpo_operator import cluster, render
from g2rpo_operator.cluster import Cluster
from g2rpo_operator.errors import AlreadyExistsError, ClusterError
from g2rpo_operator.metrics import Metrics
from g2rpo_operator.world import Key, Owner

logger = logging.getLogger(__name__)

CURVE_INTERVAL = timedelta(seconds=60)
MAX_CURVE_BYTES = 384 * 1024
"""Largest curve file: both and their names fit into a ConfigMap of 1 MiB."""
SIMULTANEOUS = 64
CURVE_FILES = {
    contract.RUN_CURVE_CSV: contract.PATH_CURVE_CSV,
    contract.RUN_CURVE_SVG: contract.PATH_CURVE_SVG,
}

Fetch = Callable[["Source", str, int], Awaitable[bytes]]
"""From a source, a path and the most bytes allowed to the answer's body.

Raises FetchError.
"""


class FetchError(Exception):
    """A trainer did not answer, or not well."""


@dataclass(frozen=True)
class Source:
    """The first pod of a running attempt."""

    owner: Owner
    attempt: int
    pod: str
    ip: str


@dataclass(frozen=True)
class Reading:
    """What is known of a job's progress."""

    report: ProgressReport | None = None
    """The newest report."""
    error: str = ""
    """Why the newest attempt to get one failed."""


@dataclass
class Board:
    """Whom to ask, and what they said; by uid of the job."""

    sources: dict[str, Source] = field(default_factory=dict)
    blind: bool = False
    """Whether of several pods not one answered in the last round: then it is rather us who are cut off."""
    _readings: dict[str, Reading] = field(default_factory=dict)
    _since: dict[str, datetime] = field(default_factory=dict)

    def follow(self, source: Source, now: datetime) -> None:
        """Ask this pod from now on."""
        uid = source.owner.uid
        if self.sources.get(uid) != source:
            self.leave(uid)
            self.sources[uid] = source
            self._since[uid] = now

    def leave(self, uid: str) -> None:
        """Ask no pod of this job."""
        for known in (self.sources, self._readings, self._since):
            known.pop(uid, None)

    def judge(self, answered: Sequence[bool], now: datetime) -> None:
        """End a round: of each pod, whether it answered. Who can see again begins to listen anew."""
        blind = len(answered) > 1 and not any(answered)
        if self.blind and not blind:
            self._since = dict.fromkeys(self._since, now)
        self.blind = blind

    def listening_since(self, uid: str) -> datetime | None:
        """Since when the pod is asked that is asked now."""
        return self._since.get(uid)

    def reading(self, uid: str) -> Reading:
        """What is known of a job."""
        return self._readings.get(uid, Reading())

    def note(self, uid: str, reading: Reading) -> bool:
        """Write down what a pod said; whether that is worth a look at the job."""
        if uid not in self.sources:
            return False
        before = self.reading(uid)
        self._readings[uid] = reading
        return _news(before) != _news(reading)


def _news(reading: Reading) -> tuple[object, ...]:
    """What changes when a reading is worth telling; a beat alone is not."""
    report = reading.report
    if report is None:
        return ("", reading.error)
    return (report.attempt, report.iteration, report.phase, report.checkpoint, report.stopped)


@dataclass
class Poller:
    """Asks every followed pod, one round after another."""

    cluster: Cluster
    board: Board
    fetch: Fetch
    wake: Callable[[Key], None]
    metrics: Metrics
    clock: Callable[[], datetime]
    _curves: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    """By uid of the job: iteration of the curve that was kept last, and when."""

    async def round(self) -> None:
        """Ask all of them once, many at a time."""
        gate = asyncio.Semaphore(SIMULTANEOUS)

        async def ask(source: Source) -> bool:
            async with gate:
                return await self.ask(source)

        sources = list(self.board.sources.values())
        self._curves = {source.owner.uid: kept for source in sources if (kept := self._curves.get(source.owner.uid))}
        self.board.judge(await asyncio.gather(*(ask(source) for source in sources)), self.clock())

    async def ask(self, source: Source) -> bool:
        """Ask one pod, note what it says, and keep its curve from time to time; whether it answered."""
        owner = source.owner
        try:
            body = await self.fetch(source, contract.PATH_PROGRESS, contract.MAX_PROGRESS_BYTES)
            report = ProgressReport.model_validate_json(body)
        except (FetchError, ValidationError) as error:
            self.metrics.count_poll("failed" if isinstance(error, FetchError) else "invalid")
            reading = Reading(self.board.reading(owner.uid).report, _in_a_line(error))
        else:
            self.metrics.count_poll("ok")
            reading = Reading(report)
        if self.board.note(owner.uid, reading):
            self.wake((owner.namespace, owner.name))
        if reading.report is not None and not reading.error and self._curve_due(owner.uid, reading.report):
            await self._keep_curve(source, reading.report.iteration)
        return not reading.error

    def _curve_due(self, uid: str, report: ProgressReport) -> bool:
        if report.iteration == 0:
            return False
        if report.phase == "Finished" or uid not in self._curves:
            return True  # a finished trainer waits for this
        iteration, time = self._curves[uid]
        return report.iteration > iteration and self.clock() - time >= CURVE_INTERVAL

    async def _keep_curve(self, source: Source, iteration: int) -> None:
        owner = source.owner
        try:
            files = {name: await self.fetch(source, path, MAX_CURVE_BYTES) for name, path in CURVE_FILES.items()}
            data = {name: body.decode(errors="replace") for name, body in files.items()}
            await self._write_curve(owner, data)
        except (FetchError, ClusterError) as error:
            logger.warning("%s/%s: the curve was not kept: %s", owner.namespace, owner.name, _in_a_line(error))
        else:
            self._curves[owner.uid] = (iteration, self.clock())

    async def _write_curve(self, owner: Owner, data: dict[str, str]) -> None:
        try:
            manifest = render.curve_config_map(owner, data)
            await self.cluster.create(cluster.CONFIG_MAPS, owner.namespace, manifest)
        except AlreadyExistsError:
            name = render.curve_name(owner.name)
            await self.cluster.patch(cluster.CONFIG_MAPS, owner.namespace, name, {"data": data})


def _in_a_line(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text.splitlines()[0][:300]
