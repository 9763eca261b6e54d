"""TensorBoard's event files, in the run folder; the only importer of its writer.

Who calls this: `tracking.py`, where a job asks for it and its extra is installed.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from g2rpo_api import contract
from g2rpo_trainer.journal import IterationRecord
from g2rpo_trainer.monitoring.scalars import Scalars, evaluation_scalars, scalars


class TensorBoardSink:
    """One more event file in the folder for each attempt; readers take them together."""

    def __init__(self, folder: Path, following: int) -> None:
        """Write below the run folder.

        Args:
            folder: the run folder.
            following: iteration that comes next; what an earlier attempt wrote of it and later ones is void.
        """
        self._writer = SummaryWriter(str(folder / contract.RUN_TENSORBOARD), purge_step=following)

    def record(self, record: IterationRecord) -> None:
        """See `tracking.Sink`."""
        self._write(scalars(record), record)

    def amend(self, record: IterationRecord) -> None:
        """See `tracking.Sink`."""
        self._write(evaluation_scalars(record), record)

    def pictures(self, iteration: int, images: Tensor) -> None:
        """See `tracking.Sink`."""
        self._writer.add_images("probes", images, iteration)

    def close(self) -> None:
        """See `tracking.Sink`."""
        self._writer.close()

    def _write(self, values: Scalars, record: IterationRecord) -> None:
        for path, value in values.items():
            self._writer.add_scalar(path, value, record.iteration, walltime=record.time)
        self._writer.flush()  # a killed run takes up the iteration after its checkpoint: what is before must be here
