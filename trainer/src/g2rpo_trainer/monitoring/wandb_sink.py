"""Weights & Biases; the only importer of its library.

Who calls this: `tracking.py`, where a job asks for it and its extra is installed. All attempts of a run folder are
one run there: its id, and the last iteration that was told, are kept in the folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import wandb
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from g2rpo_api import contract
from g2rpo_api.job import G2RPOJob
from g2rpo_api.tracking import WandbSpec
from g2rpo_trainer.journal import IterationRecord
from g2rpo_trainer.monitoring.scalars import evaluation_scalars, scalars
from g2rpo_trainer.storage import replace_file

KEY = "WANDB_API_KEY"
FINISH_SECONDS = 120.0
"""How long the end of a run may wait for what is still to be sent."""
MEMORY = "g2rpo.json"
"""In wandb/ of the run folder."""


class Told(BaseModel):
    """What the run folder remembers of the run over there."""

    model_config = ConfigDict(frozen=True)

    id: str
    """Its id."""
    iteration: int = -1
    """The last one that was told."""


class WandbSink:
    """A run over there."""

    def __init__(self, run: Any, memory: Path, told: Told) -> None:
        """Tell `run`, and write to `memory` how far."""
        self._run, self._memory, self._told = run, memory, told
        self._pictures: dict[str, Any] = {}

    @classmethod
    def open(cls, spec: WandbSpec, job: G2RPOJob, folder: Path) -> WandbSink:
        """Begin a run there, or go on with that of the folder's earlier attempts.

        Raises:
            PermissionError: no key in the environment, and the run shall be sent.
            OSError, wandb.errors.Error: the service cannot be reached or refuses.
        """
        if spec.mode == "Online" and not os.environ.get(KEY):
            raise PermissionError(f"{KEY} is not set; set it to your key, or use mode: Offline")
        memory = folder / contract.RUN_WANDB / MEMORY
        told = Told.model_validate_json(memory.read_text()) if memory.is_file() else None
        run = wandb.init(
            project=spec.project,
            entity=spec.entity,
            dir=str(folder),
            id=told.id if told else None,
            name=job.metadata.name,
            tags=list(spec.tags),
            config=job.spec.training.model_dump(mode="json", by_alias=True),
            mode="online" if spec.mode == "Online" else "offline",
            resume="allow",
            settings=wandb.Settings(console="off", silent=True, finish_timeout=FINISH_SECONDS),
        )
        return cls(run, memory, told or Told(id=run.id))

    def record(self, record: IterationRecord) -> None:
        """See `tracking.Sink`. An iteration that an earlier attempt told is not told again: it is the same."""
        pictures, self._pictures = self._pictures, {}
        if record.iteration <= self._told.iteration:
            return
        self._told = self._told.model_copy(update={"iteration": record.iteration})
        replace_file(self._memory, self._told.model_dump_json().encode())  # first: better a gap than a doubled point
        self._run.log({**scalars(record), **pictures}, step=record.iteration)

    def amend(self, record: IterationRecord) -> None:
        """See `tracking.Sink`. A step that was told is closed there, so this becomes part of the summary."""
        self._pictures = {}
        self._run.summary.update(evaluation_scalars(record))

    def pictures(self, iteration: int, images: Tensor) -> None:
        """See `tracking.Sink`."""
        arrays = (image.permute(1, 2, 0).mul(255).round().byte().numpy() for image in images)
        self._pictures = {"probes": [wandb.Image(array) for array in arrays]}

    def close(self) -> None:
        """See `tracking.Sink`."""
        self._run.finish()
