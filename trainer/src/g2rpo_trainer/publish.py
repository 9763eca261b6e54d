"""Everything that is told of a run while it runs: diary, curves, pictures, terminal and port.

Who calls this: the session opens it, the loop tells it what happened, on every rank; only the leading
one says anything. What each of them looks like is decided in the modules that it calls.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from g2rpo_api import contract
from g2rpo_api.job import G2RPOJob
from g2rpo_api.progress import CheckpointReport, ProgressReport, StoppedReport
from g2rpo_trainer.checkpoint import saved_at
from g2rpo_trainer.errors import DataError, PortError
from g2rpo_trainer.journal import EvaluationEntry, IterationRecord, Role
from g2rpo_trainer.monitoring.console import Progress
from g2rpo_trainer.monitoring.endpoint import PLAIN, Answer, Endpoint
from g2rpo_trainer.monitoring.progress import RunInfo
from g2rpo_trainer.monitoring.telemetry import Telemetry, Vitals
from g2rpo_trainer.monitoring.tracking import Tracking, open_tracking
from g2rpo_trainer.reporting.curves import write_curve_csv, write_curve_svg
from g2rpo_trainer.reporting.grids import probe_grid
from g2rpo_trainer.reporting.history import eta_seconds
from g2rpo_trainer.reporting.report import render, write_report
from g2rpo_trainer.runfolder import RunFolder
from g2rpo_trainer.storage import storage_errors
from g2rpo_trainer.timing import RankState, RewardCall

logger = logging.getLogger(__name__)

STALL_SECONDS = 1800.0
"""Silence of the loop after which /healthz fails; as long as a collective may take."""
ROLES: dict[str, Role] = {"Train": "train", "HeldOut": "heldout"}


@dataclass(frozen=True)
class Silent:
    """What ranks that do not lead tell: at most that they are alive."""

    beat: Callable[[], object] = lambda: None
    """Called whenever something happened."""
    show: Callable[[Sequence[RankState]], object] = lambda states: None
    """Called with what the ranks took."""
    attempt: int = 1
    """Of no account: nobody reads the records of these ranks."""

    def resume(self, records: Sequence[IterationRecord], captions: Sequence[str], iteration: int) -> None:
        """See `Publisher.resume`."""
        self.beat()

    def publish(self, record: IterationRecord) -> None:
        """See `Publisher.publish`."""
        self.beat()

    def ranked(self, states: Sequence[RankState]) -> None:
        """See `Publisher.ranked`."""
        self.beat()
        self.show(states)

    def asked(self, calls: Sequence[RewardCall]) -> None:
        """See `Publisher.asked`."""
        self.beat()

    def ending(self, stopped: StoppedReport) -> None:
        """See `Publisher.ending`."""
        self.beat()

    def amend(self, evaluation: list[EvaluationEntry], stopped: StoppedReport) -> None:
        """See `Publisher.amend`."""
        self.beat()

    def evaluating(self) -> None:
        """See `Publisher.evaluating`."""
        self.beat()

    def pictures(self, iteration: int, images: Tensor) -> None:
        """See `Publisher.pictures`."""
        self.beat()

    def saving(self) -> None:
        """See `Publisher.saving`."""
        self.beat()

    def checkpointed(self, iteration: int, seconds: float) -> None:
        """See `Publisher.checkpointed`."""
        self.beat()


@dataclass
class Publisher:
    """Tells the diary, the terminal, the port and the pictures of a run what happened."""

    job: G2RPOJob
    folder: RunFolder
    world_size: int
    attempt: int
    """From 1."""
    check_owner: Callable[[], None] = lambda: None
    """Called before each write; raises StorageError when the run folder is another process's by now."""
    _records: list[IterationRecord] = field(default_factory=list)
    _captions: list[str] = field(default_factory=list)
    _tracking: Tracking = field(default_factory=lambda: Tracking({}))

    def __post_init__(self) -> None:
        self._console = Progress(sys.stdout, self.job.spec.training.iterations)
        self._telemetry = Telemetry(run_info(self.job, self.world_size, self.attempt), Vitals(STALL_SECONDS))

    def resume(self, records: Sequence[IterationRecord], captions: Sequence[str], iteration: int) -> None:
        """Take up what earlier attempts told and the checkpoint that they left; `captions` name the probe pictures.

        Args:
            iteration: of the checkpoint; 0 where there is none.
        """
        self._records, self._captions = list(records), list(captions)
        self._tracking = open_tracking(self.job, self.folder.path, self._records)
        self._console.resume(self._records)
        time = saved_at(self.folder.checkpoints, iteration) if iteration else 0.0
        self._telemetry.resume(self._records, CheckpointReport(iteration=iteration, time=time) if iteration else None)
        if iteration:
            print(f"going on after iteration {iteration}, from its checkpoint in {self.folder.checkpoints}", flush=True)
        logger.info("attempt %d on %d ranks goes on after iteration %d", self.attempt, self.world_size, iteration)

    @contextmanager
    def serving(self, port: int | None) -> Iterator[None]:
        """Answer on the port while inside; None is the default port, or a free one where that is taken.

        Raises:
            PortError: the port that was asked for is taken.
        """
        endpoint = listen(self._serve, port)
        where = f"http://localhost:{endpoint.port}"
        print(f"{self.job.metadata.name}: {self.folder.path}, metrics at {where}/metrics", flush=True)
        try:
            yield
        finally:
            self._console.clear()
            endpoint.close()

    def progress(self) -> ProgressReport:
        """Where the run stands."""
        return self._telemetry.progress()

    def publish(self, record: IterationRecord) -> None:
        """An iteration is done; its record is on the disk when this returns."""
        self.check_owner()
        self.folder.append(record)
        self._records.append(record)
        self._telemetry.enter("Training")
        self._telemetry.observe(record, eta_seconds(self._records, self.job.spec.training.iterations))
        self._console.show(record)
        self._tracking.record(record)
        self._evaluated(record)

    def ranked(self, states: Sequence[RankState]) -> None:
        """What each rank took in an iteration."""
        self._telemetry.show_ranks(states)

    def asked(self, calls: Sequence[RewardCall]) -> None:
        """How rewards answered, on all ranks."""
        self._telemetry.observe_calls(calls)

    def expect(self, card: str, seconds: float) -> None:
        """What an iteration computes takes so many seconds at the full speed of this card; from any thread."""
        self._telemetry.expect(card, seconds)

    def ending(self, stopped: StoppedReport) -> None:
        """It is decided that the run ends early."""
        self._telemetry.end_early(stopped)
        logger.info("ending early (%s): %s", stopped.reason, stopped.message)

    def amend(self, evaluation: list[EvaluationEntry], stopped: StoppedReport) -> None:
        """The run ends where an earlier attempt left it: its last record gets the final evaluation and the reason."""
        last = self._records[-1]
        record = last.model_copy(update={"evaluation": evaluation or last.evaluation, "stopped": stopped})
        self.check_owner()
        self.folder.amend(record)
        self._records[-1] = record
        self._telemetry.amend(record)
        if evaluation:
            self._tracking.amend(record)
        self._evaluated(record)

    def evaluating(self) -> None:
        """An evaluation begins."""
        self._telemetry.enter("Evaluating")

    def pictures(self, iteration: int, images: Tensor) -> None:
        """The probes as the model draws them now, float32 [n, 3, H, W] in [0, 1]."""
        path = self.folder.path / contract.RUN_SAMPLES / f"iter-{iteration:06d}.png"
        with storage_errors(path):
            probe_grid(images, self._captions, path)
        self._tracking.pictures(iteration, images)

    def saving(self) -> None:
        """A checkpoint is about to be written."""
        self.check_owner()

    def checkpointed(self, iteration: int, seconds: float) -> None:
        """A checkpoint was saved and took this long."""
        self._telemetry.observe_checkpoint(iteration, time.time(), seconds)
        logger.info("checkpoint of iteration %d saved in %.1f s", iteration, seconds)

    def finish(self, done: bool) -> Path:
        """Write the curves and the report, and say where they are."""
        logger.info("finished" if done else "stopped with a checkpoint")
        self._console.finish()
        self._tracking.close()
        self._write_curves()
        report = write_report(self.folder.path)
        stopped = self._records[-1].stopped
        if not done:
            print("stopped with a checkpoint; the same command goes on from there")
        elif stopped:
            print(f"ended early: {stopped.message}")
        print(f"report: {report}", flush=True)
        if done:
            self._telemetry.enter("Finished")
        return report

    def linger(self, seconds: float, stop: Callable[[], bool]) -> None:
        """Keep answering until the last numbers were fetched, `seconds` are over, or somebody asks to stop."""
        self._telemetry.farewell.wait(seconds, stop)

    def _evaluated(self, record: IterationRecord) -> None:
        for entry in record.evaluation:
            means = {name: round(spread.mean, 4) for name, spread in entry.rewards.items()}
            logger.info("iteration %d, %s on %d prompts: %s", record.iteration, entry.split, entry.prompts, means)
        if record.evaluation:
            self._write_curves()

    def _write_curves(self) -> None:
        write_curve_csv(self._records, self.folder.path / contract.RUN_CURVE_CSV)
        write_curve_svg(self._records, self.folder.path / contract.RUN_CURVE_SVG)

    def _serve(self, port: int) -> Endpoint:
        files = {contract.PATH_CURVE_CSV: contract.RUN_CURVE_CSV, contract.PATH_CURVE_SVG: contract.RUN_CURVE_SVG}
        curves = {path: self.folder.path / name for path, name in files.items()}
        return self._telemetry.serve(port, "", curves, {contract.PATH_REPORT: self._report})

    def _report(self, accept: str) -> Answer:
        """The page as it would be written now.

        It is called HTML only where HTML is asked for: an API server that hands it on rewrites the links of what is.
        """
        try:
            page = render(self.folder.path).encode()
        except DataError:
            return Answer(b"no iteration to report on yet\n", PLAIN, HTTPStatus.NOT_FOUND)
        return Answer(page, "text/html; charset=utf-8" if "text/html" in accept else "application/octet-stream")


@contextmanager
def alive(port: int | None, machine: int) -> Iterator[Silent]:
    """Answer for a machine that does not lead while inside: whether its first rank lives, and what its ranks take.

    Args:
        port: see `listen`.
        machine: its first rank.

    Raises:
        PortError: the port that was asked for is taken.
    """
    vitals = Vitals(STALL_SECONDS)
    endpoint = listen(lambda port: vitals.serve(port, ""), port)
    try:
        yield Silent(vitals.beat, partial(vitals.show_ranks, machine))
    finally:
        endpoint.close()


def listen(serve: Callable[[int], Endpoint], port: int | None) -> Endpoint:
    """Serve on the port; None is the default port, or a free one where that is taken.

    Raises:
        PortError: the port that was asked for is taken.
    """
    try:
        return serve(contract.DEFAULT_PORT if port is None else port)
    except OSError as error:
        if port is None:
            return serve(0)
        raise PortError(f"--port: {error.strerror}") from error


def run_info(job: G2RPOJob, world_size: int, attempt: int) -> RunInfo:
    """What does not change while this attempt runs."""
    training = job.spec.training
    return RunInfo(
        job_name=job.metadata.name,
        total_iterations=training.iterations,
        world_size=world_size,
        roles={reward.name: ROLES[reward.role] for reward in training.rewards},
        attempt=attempt,
        method=training.algorithm.type,
        model=training.model.path,
        version=version("g2rpo-trainer"),
    )
