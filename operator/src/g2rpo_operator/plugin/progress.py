"""How far training is and what it has reached, for the page of a job. Pure.

Who calls this: `page.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from rich.text import Text

from g2rpo_api.status import JobProgress, JobStatus
from g2rpo_operator.plugin.ages import age, span
from g2rpo_operator.plugin.plot import sparkline
from g2rpo_operator.plugin.words import GOOD, HEADER, change, line, number, rows

BAR, SPARKLINE = 30, 40
"""Columns of each at most."""
INDENT = "          "


def section(status: JobStatus, now: datetime, width: int) -> list[Text]:
    """Bar, curve, vital signs and rewards; nothing before the trainer told anything."""
    if status.progress is None:
        return []
    told = status.progress
    return [_bar(told, status, now, width), *_curve(told, width), *_vitals(told, status, now), *_rewards(told, width)]


def _bar(told: JobProgress, status: JobStatus, now: datetime, width: int) -> Text:
    cells = max(5, min(BAR, width // 3))
    full = min(cells, int(cells * told.percent / 100))
    bar = (("█" * full, GOOD), "░" * (cells - full))
    return line(("Progress  ", HEADER), *bar, f" {told.percent:g} %  {told.step}", _eta(told, status, now))


def _eta(told: JobProgress, status: JobStatus, now: datetime) -> str:
    """Time left, counted from when it was told; nothing of a job that does not run."""
    if told.eta_seconds is None or not status.is_true("Running") or told.attempt != status.attempt:
        return ""
    then = datetime.fromisoformat(told.beat_time) if told.beat_time else now
    end = then + timedelta(seconds=told.eta_seconds)
    return f"  ETA {span(max(0.0, (end - now).total_seconds()))} ({end:%Y-%m-%d %H:%M} UTC)"


def _curve(told: JobProgress, width: int) -> Iterator[Text]:
    if told.reward is None:
        return
    values = [point.reward for point in told.curve]
    pieces = [number(told.reward), sparkline(values, min(SPARKLINE, max(8, width // 3)))]
    pieces += [f"best {number(told.best)}", f"{change(told.delta)} since the first iterations"]
    yield line(("Reward    ", HEADER), "  ".join(filter(None, pieces)))


def _vitals(told: JobProgress, status: JobStatus, now: datetime) -> Iterator[Text]:
    signs = []
    if status.is_true("Running"):
        signs.append(f"{told.phase.lower()} (attempt {told.attempt})")
        signs += [f"last sign of life {age(told.beat_time, now)} ago"] if told.beat_time else []
    if told.checkpoint:
        signs.append(f"checkpoint of iteration {told.checkpoint.iteration} {age(told.checkpoint.time, now)} ago")
    if told.images_per_second is not None:
        signs.append(f"{number(told.images_per_second)} images/s")
    if told.clip_ratio is not None:
        signs.append(f"{number(100 * told.clip_ratio)} % clipped")
    if signs:
        yield line(("Trainer   ", HEADER), ", ".join(signs))


def _rewards(told: JobProgress, width: int) -> list[Text]:
    body = [
        (reward.name, reward.role, number(reward.mean), number(reward.best), change(reward.delta))
        for reward in told.rewards
    ]
    return rows(("REWARD", "ROLE", "MEAN", "BEST", "Δ"), body, width, INDENT)
