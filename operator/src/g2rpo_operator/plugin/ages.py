"""Spans of time as kubectl writes and reads them: 5m12s, 3d4h. Pure.

Who calls this: the pages; the options that take a time.
"""

from __future__ import annotations

import re
from datetime import datetime

MINUTE, HOUR, DAY = 60, 3600, 86400
YEAR = 365 * DAY
SECONDS = {"h": HOUR, "m": MINUTE, "s": 1.0, "ms": 1e-3}
PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|h|m|s)")
STEPS: tuple[tuple[int, int, str, int, str], ...] = (
    (2 * MINUTE, 1, "s", 0, ""),
    (10 * MINUTE, MINUTE, "m", 1, "s"),
    (3 * HOUR, MINUTE, "m", 0, ""),
    (8 * HOUR, HOUR, "h", MINUTE, "m"),
    (2 * DAY, HOUR, "h", 0, ""),
    (8 * DAY, DAY, "d", HOUR, "h"),
    (2 * YEAR, DAY, "d", 0, ""),
    (8 * YEAR, YEAR, "y", DAY, "d"),
)
"""Below how many seconds; the larger unit and its name; the smaller one and its name, where it is told."""


def span(seconds: float) -> str:
    """Seconds as kubectl's AGE: two units at most, the second one left out where it is 0 or says little."""
    whole = int(seconds)
    if whole < 0:
        return "0s" if whole == -1 else "<invalid>"
    for limit, large, large_name, small, small_name in STEPS:
        if whole < limit:
            count, rest = divmod(whole, large)
            more = rest // small if small else 0
            return f"{count}{large_name}" + (f"{more}{small_name}" if more else "")
    return f"{whole // YEAR}y"


def age(moment: str, now: datetime) -> str:
    """How long ago a moment in Kubernetes' notation was; `<unknown>` when there is none."""
    return span((now - datetime.fromisoformat(moment)).total_seconds()) if moment else "<unknown>"


def seconds_of(text: str) -> float:
    """Seconds of a time in Go's notation, such as 90s, 1h30m or 0.

    Raises:
        ValueError: it is not one.
    """
    if text == "0":
        return 0.0
    parts = PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no time; write it as 30s, 5m or 1h30m")
    return sum(float(number) * SECONDS[unit] for number, unit in parts)
