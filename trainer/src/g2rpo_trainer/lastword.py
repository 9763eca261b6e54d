"""The last word of a process: how it ended, as Kubernetes keeps it in a pod's termination message.

Who calls this: the session as soon as all is saved, `__main__` on every way out; `launch` collects those of its ranks.
What happened is decided there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from g2rpo_api.contract import MAX_TERMINATION_BYTES, ExitCode
from g2rpo_api.progress import CurvePoint, ProgressReport, TerminationReport
from g2rpo_trainer.reporting.series import thin

SIZES = ((2000, 64), (1000, 32), (500, 16), (250, 8), (250, 3))
"""Longest text, in characters, and number of points in the curve: the first that fits is said."""


@dataclass
class LastWord:
    """Where the last word goes, and what is known before the end comes."""

    path: Path | None = None
    """File to write; None: nobody wants to know."""
    rank: int = 0
    progress: Callable[[], ProgressReport | None] = lambda: None
    """Asked at the end; the leading rank says how far it got."""

    def report(self, exit_code: int, message: str) -> TerminationReport:
        """Put what is known around how it ended."""
        return TerminationReport(exit_code=exit_code, rank=self.rank, message=message, progress=self.progress())

    def ended(self, done: bool) -> TerminationReport:
        """The report of a run that is done, or that was stopped with a checkpoint."""
        return self.report(ExitCode.OK if done else ExitCode.CHECKPOINTED, how_it_ended(done, self.progress()))

    def clear(self) -> None:
        """Empty the file: what an earlier process said is not this one's."""
        self._write(b"")

    def say(self, report: TerminationReport) -> None:
        """Write it; what was said before is replaced."""
        self._write(fitted(report))

    def _write(self, text: bytes) -> None:
        """A file that cannot be written is told on the terminal: it must not change how a run ends."""
        if self.path is None:
            return
        try:
            self.path.write_bytes(text)
        except OSError as error:
            print(f"{self.path}: the last word cannot be written: {error.strerror}", file=sys.stderr)


def how_it_ended(done: bool, progress: ProgressReport | None) -> str:
    """One line for people; the leading rank knows the numbers."""
    if progress is None:
        return "done" if done else "stopped with a checkpoint"
    at = f"iteration {progress.iteration} of {progress.total}"
    if not done:
        return f"stopped with a checkpoint of {at}"
    return f"ended early after {at}: {progress.stopped.message}" if progress.stopped else f"done after {at}"


def heard(path: Path) -> TerminationReport | None:
    """What a process said that has ended; None where it was killed before it had said all of it."""
    try:
        return TerminationReport.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def fitted(report: TerminationReport) -> bytes:
    """JSON of the report in at most as many bytes as Kubernetes keeps: texts are cut, the curve is thinned."""
    return next(text for text in map(_json, _shorter(report)) if len(text) <= MAX_TERMINATION_BYTES)


def _shorter(report: TerminationReport) -> Iterator[TerminationReport]:
    """The report, and smaller and smaller ones; the last one fits whatever it says."""
    for letters, points in SIZES:
        changes = {"message": cut(report.message, letters), "progress": _smaller(report.progress, letters, points)}
        yield report.model_copy(update=changes)
    yield report.model_copy(update={"message": cut(report.message, SIZES[-1][0]), "progress": None})


def _smaller(progress: ProgressReport | None, letters: int, points: int) -> ProgressReport | None:
    if progress is None:
        return None
    stopped = progress.stopped
    if stopped is not None:
        stopped = stopped.model_copy(update={"message": cut(stopped.message, letters)})
    kept = thin([(float(point.iteration), point.reward) for point in progress.curve], points)
    curve = tuple(CurvePoint(iteration=int(iteration), reward=reward) for iteration, reward in kept)
    return progress.model_copy(update={"curve": curve, "stopped": stopped})


def cut(text: str, letters: int) -> str:
    """At most so many characters, the rest as an ellipsis."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


def _json(report: TerminationReport) -> bytes:
    return report.model_dump_json(by_alias=True).encode()
