"""Whether a finished run's last numbers were fetched, so that its pod may go.

Who calls this: `telemetry.py` has its answers noted, the publisher waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from g2rpo_trainer.monitoring.endpoint import Answer, Route

POLL_SECONDS = 0.1


class Farewell:
    """Complete once a document was fetched that says that the run is over, and each of some files after it."""

    def __init__(self, files: frozenset[str]) -> None:
        """`files` are the paths of those files."""
        self._missing = set(files)
        self._told = False

    @property
    def complete(self) -> bool:
        """Whether everything was fetched."""
        return self._told and not self._missing

    def last(self, answer: Answer) -> Answer:
        """The document that says that the run is over."""
        return replace(answer, sent=self._tell)

    def noting(self, path: str, route: Route) -> Route:
        """The route of a file, whose answers are noted; one that it is not there is an answer, too."""
        return lambda accept: replace(route(accept), sent=lambda: self._fetched(path))

    def wait(self, seconds: float, stop: Callable[[], bool]) -> None:
        """Until it is complete, `seconds` are over, or somebody asks to stop."""
        deadline = time.monotonic() + seconds
        while not (self.complete or stop()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def _tell(self) -> None:
        self._told = True

    def _fetched(self, path: str) -> None:
        if self._told:
            self._missing.discard(path)
