"""What the operator logs, and how: JSON lines or text, each with the job and attempt it is about.

Who calls this: `__main__` sets it up, `reconcile.py` says which job the lines to come are about. kopf's
lines go the same way.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

NOISY = ("aiohttp.access", "asyncio", "kopf")
"""Loggers that tell only what goes wrong, unless everything is wanted."""


@dataclass(frozen=True)
class JobContext:
    """The job that is being looked at."""

    job: str
    """namespace/name."""
    attempt: int


_current: ContextVar[JobContext | None] = ContextVar("job", default=None)


@contextmanager
def job_context(job: str, attempt: int) -> Iterator[None]:
    """All that is logged in this block is about this job (namespace/name)."""
    token = _current.set(JobContext(job, attempt))
    try:
        yield
    finally:
        _current.reset(token)


class JsonLines(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        entry: dict[str, object] = {
            "time": _moment(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_about(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


class TextLines(logging.Formatter):
    """A line for people; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        about = _about(record)
        job = f" [{about['job']}" + (f" #{about['attempt']}]" if "attempt" in about else "]") if about else ""
        line = f"{_moment(record)} {record.levelname:<7} {record.name}{job} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up(kind: Literal["json", "text"], level: str) -> None:
    """Send all logging, warnings included, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if kind == "json" else TextLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in NOISY:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.DEBUG if level == "DEBUG" else logging.WARNING)


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _about(record: logging.LogRecord) -> Mapping[str, object]:
    """Job and attempt of a line: of the block it stands in, or of the object that kopf speaks about."""
    context = _current.get()
    if context is not None:
        return {"job": context.job, "attempt": context.attempt}
    reference = record.__dict__.get("k8s_ref")
    if isinstance(reference, Mapping) and reference.get("kind") == "G2RPOJob":
        return {"job": f"{reference.get('namespace')}/{reference.get('name')}"}
    return {}
