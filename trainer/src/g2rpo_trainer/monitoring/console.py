"""The progress line: where the run stands, on one line that people read while it trains.

Who calls this: the loop, on the first rank, after each iteration. On a terminal the line rewrites
itself; anywhere else every iteration gets a line of its own, for logs.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from g2rpo_trainer.journal import IterationRecord
from g2rpo_trainer.reporting.history import (
    RECENT,
    Records,
    eta_seconds,
    images_per_second,
    measurements,
    outline,
    roles,
    trained,
    trained_reward,
)
from g2rpo_trainer.reporting.series import finite_mean
from g2rpo_trainer.reporting.tables import duration
from g2rpo_trainer.reporting.verdict import is_binary

PLAIN = str.maketrans({"↑": "^", "↓": "v", "→": "=", "·": "|", "…": "~", "−": "-"})
"""For terminals that know ASCII only."""
TREND, MIN_TREND = 20, 6
"""Iterations that an arrow looks at, and how many it needs."""
REWRITE = "\r\x1b[K"
"""Back to the start of the line, and clear it."""


class Progress:
    """Writes the line."""

    def __init__(
        self,
        stream: TextIO,
        total: int,
        clock: Callable[[], float] = time.monotonic,
        width: Callable[[], int] = lambda: shutil.get_terminal_size().columns,
    ) -> None:
        """Report on `total` iterations to `stream`; `clock` gives seconds, `width` the terminal's columns."""
        self._stream = stream
        self._total = total
        self._clock = clock
        self._width = width
        self._started = clock()
        self._records: list[IterationRecord] = []
        self._rewrites = stream.isatty()
        self._open = False

    def resume(self, records: Records) -> None:
        """Take up the records of earlier attempts, so that trend and change go back to the start."""
        self._records = [outline(record) for record in records]

    def show(self, record: IterationRecord) -> None:
        """An iteration is done."""
        self._records.append(outline(record))
        line = format_line(self._records, self._total)
        if self._rewrites:
            self._write(REWRITE + truncate(line, self._width() - 1))
            self._open = True
        else:
            self._write(line + "\n")

    def clear(self) -> None:
        """Take the rewritten line away, so that other output can follow."""
        if self._open:
            self._write(REWRITE)
            self._open = False

    def finish(self) -> None:
        """Leave the last line standing and say how long it took."""
        if self._open:
            self._write("\n")
            self._open = False
        done = len(trained(self._records))
        self._write(
            f"{done} of {self._total} iterations; this attempt took {duration(self._clock() - self._started)}\n"
        )

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.translate(PLAIN).encode(encoding, "replace").decode(encoding)
        self._stream.write(text)
        self._stream.flush()


def format_line(records: Records, total: int) -> str:
    """`12/80 · reward 0.47 ↑ +0.13 · held-out ddddocr 19 % (+8) · ETA 2 min 41 s · 640 images/s`.

    The reward is the mean of the last five iterations, its change that against the first five; the
    arrow is the slope of the last twenty. What is not known yet is left out.
    """
    done = f"{records[-1].iteration:>{len(str(total))}}/{total}"
    parts = [done, _reward(records), *_evaluated(records), _eta(records, total), _speed(records)]
    return " · ".join(part for part in parts if part)


def trend(values: Sequence[float]) -> str:
    """An arrow for the slope of the last twenty values, level within two of its standard errors."""
    recent = list(enumerate(values[-TREND:]))
    if len(recent) < MIN_TREND:
        return ""
    middle, mean = (len(recent) - 1) / 2, finite_mean([value for _, value in recent])
    square = sum((i - middle) ** 2 for i, _ in recent)
    slope = sum((i - middle) * (value - mean) for i, value in recent) / square
    rest = sum((value - mean - slope * (i - middle)) ** 2 for i, value in recent)
    noise = math.sqrt(rest / (len(recent) - 2) / square)
    if abs(slope) <= max(2 * noise, 1e-9 * abs(mean)):
        return "→"
    return "↑" if slope > 0 else "↓"


def truncate(line: str, width: int) -> str:
    """At most `width` columns, the rest as an ellipsis."""
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"


def _reward(records: Records) -> str:
    values = [value for record in trained(records) if math.isfinite(value := trained_reward(record))]
    if not values:
        return ""
    now, start = finite_mean(values[-RECENT:]), finite_mean(values[:RECENT])
    change = signed(now - start) if len(values) > RECENT else ""
    return " ".join(part for part in (f"reward {score(now)}", trend(values), change) if part)


def _evaluated(records: Records) -> list[str]:
    """The last evaluation of each held-out reward; of the trained ones where nothing is held out."""
    known = roles(records)
    held_out = [name for name, role in known.items() if role == "heldout"]
    label = "held-out" if held_out else "evaluated"
    return [text for name in held_out or known if (text := _measured(records, label, name))]


def _measured(records: Records, label: str, name: str) -> str:
    series = measurements(records, "eval", name)
    if not series:
        return ""
    first, last = series[0].spread, series[-1].spread
    if is_binary(first) and is_binary(last):
        value, change = f"{100 * last.mean:.0f} %", f" ({signed(round(100 * (last.mean - first.mean)))})"
    else:
        value, change = score(last.mean), f" ({signed(last.mean - first.mean)})"
    return f"{label} {name} {value}{change if len(series) > 1 else ''}"


def _eta(records: Records, total: int) -> str:
    seconds = eta_seconds(records, total)
    return f"ETA {duration(seconds)}" if seconds else ""


def _speed(records: Records) -> str:
    speed = images_per_second(trained(records)[-RECENT:])
    return f"{speed:.3g} images/s" if math.isfinite(speed) else ""


def score(value: float) -> str:
    """Three decimals, so that the line does not jump; three digits where that would say little."""
    return f"{value:.3f}" if value == 0 or 0.01 <= abs(value) < 10 else f"{value:.3g}"


def signed(value: float) -> str:
    """+0.13, −2, +0."""
    return f"{'−' if value < 0 else '+'}{abs(value):.2g}"
