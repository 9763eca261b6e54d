"""Logs as JSON lines in the run folder; the terminal is left to the progress line and to errors.

Who calls this: `__main__`, once the run folder exists. Rank 0 writes from INFO on, the others only
what went wrong.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import diffusers.utils.logging
import transformers.utils.logging

NOISY = ("transformers", "diffusers", "DeepSpeed", "matplotlib", "PIL", "py.warnings", "tensorboard", "wandb")


class JsonLines(logging.Formatter):
    """One JSON object per record."""

    def __init__(self, job: str, rank: int) -> None:
        """Every line names the job and the rank."""
        super().__init__()
        self._common = {"job": job, "rank": rank}

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = {"time": moment, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry | self._common, ensure_ascii=False)


def log_to(path: Path, job: str, rank: int) -> None:
    """Send all logging, warnings included, to the file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(JsonLines(job, rank))
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.ERROR, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in NOISY:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)


def hide_progress_bars() -> None:
    """Keep the libraries' bars off the terminal, which shows the run's own line."""
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.disable_progress_bar()
