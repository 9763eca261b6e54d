"""Everything that is told of a run while it runs: diary, curves, pictures, terminal and port.

Who calls this: the session opens it, the loop tells it what happened, on every rank; only the leading
one says anything. What each of them looks like is decided in the modules that it calls.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from g2rpo_api import contract
from g2rpo_api.algorithm import G2RPOSettings
from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.errors import PortError
from g2rpo_trainer.journal import IterationRecord, Role
from g2rpo_trainer.monitoring.console import Progress
from g2rpo_trainer.monitoring.endpoint import Endpoint
from g2rpo_trainer.monitoring.progress import RunInfo
from g2rpo_trainer.monitoring.telemetry import Telemetry
from g2rpo_trainer.reporting.curves import write_curve_csv, write_curve_svg
from g2rpo_trainer.reporting.grids import probe_grid
from g2rpo_trainer.reporting.history import eta_seconds
from g2rpo_trainer.reporting.report import write_report
from g2rpo_trainer.runfolder import RunFolder
from g2rpo_trainer.storage import storage_errors

logger = logging.getLogger(__name__)

STALL_SECONDS = 1800.0
"""Silence of the loop after which /healthz fails; as long as a collective may take."""
ROLES: dict[str, Role] = {"Train": "train", "HeldOut": "heldout"}


class Silent:
    """What ranks that do not lead tell: nothing."""

    def resume(self, records: Sequence[IterationRecord], captions: Sequence[str]) -> None:
        """See `Publisher.resume`."""

    def publish(self, record: IterationRecord) -> None:
        """See `Publisher.publish`."""

    def evaluating(self) -> None:
        """See `Publisher.evaluating`."""

    def pictures(self, iteration: int, images: Tensor) -> None:
        """See `Publisher.pictures`."""

    def checkpointed(self, iteration: int, seconds: float) -> None:
        """See `Publisher.checkpointed`."""


@dataclass
class Publisher:
    """Tells the diary, the terminal, the port and the pictures of a run what happened."""

    job: G2RPOJob
    folder: RunFolder
    world_size: int
    attempt: int
    """From 1."""
    _records: list[IterationRecord] = field(default_factory=list)
    _captions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._console = Progress(sys.stdout, self.job.spec.training.iterations)
        self._telemetry = Telemetry(run_info(self.job, self.world_size, self.attempt), STALL_SECONDS)

    def resume(self, records: Sequence[IterationRecord], captions: Sequence[str]) -> None:
        """Take up what earlier attempts told; `captions` name the probe pictures."""
        self._records, self._captions = list(records), list(captions)
        self._console.resume(self._records)
        self._telemetry.resume(self._records)
        done = self._records[-1].iteration if self._records else 0
        logger.info("attempt %d on %d ranks goes on after iteration %d", self.attempt, self.world_size, done)

    @contextmanager
    def serving(self, port: int | None) -> Iterator[None]:
        """Answer on the port while inside; None is the default port, or a free one where that is taken.

        Raises:
            PortError: the port that was asked for is taken.
        """
        endpoint = self._listen(port)
        where = f"http://localhost:{endpoint.port}"
        print(f"{self.job.metadata.name}: {self.folder.path}, metrics at {where}/metrics", flush=True)
        try:
            yield
        finally:
            self._console.clear()
            endpoint.close()

    def publish(self, record: IterationRecord) -> None:
        """An iteration is done; its record is on the disk when this returns."""
        self.folder.append(record)
        self._records.append(record)
        self._telemetry.enter("training")
        self._telemetry.observe(record, eta_seconds(self._records, self.job.spec.training.iterations))
        self._console.show(record)
        for entry in record.evaluation:
            means = {name: round(spread.mean, 4) for name, spread in entry.rewards.items()}
            logger.info("iteration %d, %s on %d prompts: %s", record.iteration, entry.split, entry.prompts, means)
        if record.evaluation:
            write_curve_csv(self._records, self.folder.path / contract.RUN_CURVE_CSV)

    def evaluating(self) -> None:
        """An evaluation begins."""
        self._telemetry.enter("evaluating")

    def pictures(self, iteration: int, images: Tensor) -> None:
        """The probes as the model draws them now, float32 [n, 3, H, W] in [0, 1]."""
        path = self.folder.path / contract.RUN_SAMPLES / f"iter-{iteration:06d}.png"
        with storage_errors(path):
            probe_grid(images, self._captions, path)

    def checkpointed(self, iteration: int, seconds: float) -> None:
        """A checkpoint was saved and took this long."""
        self._telemetry.observe_checkpoint(iteration, time.time(), seconds)
        logger.info("checkpoint of iteration %d saved in %.1f s", iteration, seconds)

    def finish(self, done: bool) -> Path:
        """Write the curves and the report, and say where they are."""
        self._telemetry.enter("finished")
        logger.info("finished" if done else "stopped with a checkpoint")
        self._console.finish()
        write_curve_csv(self._records, self.folder.path / contract.RUN_CURVE_CSV)
        write_curve_svg(self._records, self.folder.path / contract.RUN_CURVE_SVG)
        report = write_report(self.folder.path)
        if not done:
            print("stopped with a checkpoint; the same command goes on from there")
        print(f"report: {report}")
        return report

    def _listen(self, port: int | None) -> Endpoint:
        try:
            return self._telemetry.serve(contract.DEFAULT_PORT if port is None else port, "")
        except OSError as error:
            if port is None:
                return self._telemetry.serve(0, "")
            raise PortError(f"--port: {error.strerror}") from error


def run_info(job: G2RPOJob, world_size: int, attempt: int) -> RunInfo:
    """What does not change while this attempt runs."""
    training = job.spec.training
    settings = training.algorithm.settings
    trained = sum(reward.role == "Train" for reward in training.rewards)
    cells = len(settings.granularities) * settings.stochastic_steps if isinstance(settings, G2RPOSettings) else 1
    return RunInfo(
        job_name=job.metadata.name,
        total_iterations=training.iterations,
        world_size=world_size,
        roles={reward.name: ROLES[reward.role] for reward in training.rewards},
        cells_per_group=cells * trained,
        attempt=attempt,
    )
