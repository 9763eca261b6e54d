"""Services that show a run beside Prometheus: what they are told, and that they never end it.

Who calls this: publish, on the leading rank. Where its business ends: what each library wants is in
`tensorboard_sink.py` and `wandb_sink.py`, the only importers of theirs.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Protocol

from torch import Tensor

from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.journal import IterationRecord

logger = logging.getLogger(__name__)


class Sink(Protocol):
    """A service that shows a run. It may raise whatever its library raises."""

    def record(self, record: IterationRecord) -> None:
        """An iteration is done."""
        ...

    def amend(self, record: IterationRecord) -> None:
        """The last record got an evaluation that it had not."""
        ...

    def pictures(self, iteration: int, images: Tensor) -> None:
        """The probes as they are drawn now, float32 [n, 3, H, W] in [0, 1]; before the iteration's record."""
        ...

    def close(self) -> None:
        """The run is over: hand in what is left."""
        ...


class Tracking:
    """All sinks of a run; one that fails is warned of once and asked no more."""

    def __init__(self, opened: Mapping[str, Callable[[], Sink]]) -> None:
        """Open the sinks, by the key of the job that asks for each."""
        self._sinks: dict[str, Sink] = {}
        for key, opener in opened.items():
            self._guarded(key, partial(self._open, key, opener))

    def record(self, record: IterationRecord) -> None:
        """See `Sink.record`."""
        self._tell(lambda sink: sink.record(record))

    def amend(self, record: IterationRecord) -> None:
        """See `Sink.amend`."""
        self._tell(lambda sink: sink.amend(record))

    def pictures(self, iteration: int, images: Tensor) -> None:
        """See `Sink.pictures`."""
        self._tell(lambda sink: sink.pictures(iteration, images))

    def close(self) -> None:
        """See `Sink.close`."""
        self._tell(lambda sink: sink.close())

    def _open(self, key: str, opener: Callable[[], Sink]) -> None:
        self._sinks[key] = opener()

    def _tell(self, act: Callable[[Sink], None]) -> None:
        for key, sink in list(self._sinks.items()):
            self._guarded(key, partial(act, sink))

    def _guarded(self, key: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever a service's library raises, training is worth more
            self._sinks.pop(key, None)
            logger.warning("%s: %s: %s; the run goes on without it", key, type(error).__name__, error, exc_info=True)


def open_tracking(job: G2RPOJob, folder: Path, records: Sequence[IterationRecord]) -> Tracking:
    """The sinks that the job asks for.

    Args:
        job: what is trained.
        folder: the run folder.
        records: the diary that this attempt takes up.

    Raises:
        DataError: a sink's library is not installed; names the extra.
    """
    spec = job.spec.training.tracking
    following = records[-1].iteration + 1 if records else 0
    opened: dict[str, Callable[[], Sink]] = {}
    if spec.tensorboard:
        key = "spec.training.tracking.tensorboard"
        opened[key] = partial(_module("tensorboard", key).TensorBoardSink, folder, following)
    if spec.wandb is not None:
        key = "spec.training.tracking.wandb"
        opened[key] = partial(_module("wandb", key).WandbSink.open, spec.wandb, job, folder)
    return Tracking(opened)


def _module(extra: str, key: str) -> ModuleType:
    """The sink's module; its library is an extra, which few runs need."""
    try:
        return importlib.import_module(f"g2rpo_trainer.monitoring.{extra}_sink")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != extra:
            raise
        raise DataError(
            f"{key}: {extra} is not installed; install requirements/trainer-{extra}.txt, or for a cluster build the "
            f"image with --extras {extra}, or drop the key"
        ) from error
