"""Asking a run to stop: by a signal, to go on later; by a file, to end for good.

Who calls this: `__main__` and the session make them, the loop asks them where it can stop.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from g2rpo_api.progress import StoppedReport

LONGEST_REASON = 1000
"""Characters of the file that are told on."""


class StopRequest:
    """Set by SIGTERM or Ctrl-C. A second Ctrl-C is not waited for."""

    def __init__(self) -> None:
        """Not asked for yet, and not listening yet."""
        self.asked = False

    def install(self) -> None:
        """Take over the signals, but not Ctrl-C where it is ignored: another process then sees to it."""
        signal.signal(signal.SIGTERM, self._ask)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, _: object) -> None:
        self.asked = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class StopFile:
    """A file whose appearance asks to end early; its text says why."""

    path: Path | None = None
    """None: nobody will ask."""

    def reason(self) -> StoppedReport | None:
        """Why to end; None while the file is not there. One look at the file system."""
        if self.path is None:
            return None
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        return StoppedReport(reason="Requested", message=text.strip()[:LONGEST_REASON] or f"{self.path} is there")
