"""The tables of a report: scores, time, settings, totals, as text that stands in cells. Pure.

Who calls this: `report.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from g2rpo_trainer.journal import Role
from g2rpo_trainer.reporting.history import PHASES, Records, images_per_second, measurements, other_seconds, trained
from g2rpo_trainer.reporting.verdict import (
    Change,
    changes,
    format_difference,
    format_distance,
    format_pair,
    format_value,
)

DIRECTIONS = {"rose": "rose", "fell": "fell", "level": "no clear change"}
ROLES = {"train": "trained", "heldout": "held out"}
SPLITS = {"eval": "training prompts", "unseen": "unseen prompts"}


@dataclass(frozen=True)
class ScoreRow:
    """One reward on one split, from the first to the last evaluation."""

    reward: str
    role: str
    split: str
    prompts: int
    before: str
    best: str
    after: str
    change: str
    margin: str
    reading: str
    """"rose", "fell" or "no clear change"."""


@dataclass(frozen=True)
class SettingGroup:
    """The leaves under one key of the job."""

    title: str
    rows: tuple[tuple[str, str], ...]
    """(dotted key below the title, value)."""


def score_rows(records: Records, declared: Mapping[str, Role]) -> list[ScoreRow]:
    """What every reward did; empty before the second evaluation."""
    return [_score_row(records, change) for change in changes(records, declared)]


def _score_row(records: Records, change: Change) -> ScoreRow:
    before, after = format_pair(change)
    best = max(measurements(records, change.split, change.reward), key=lambda m: m.spread.mean)
    margin = "unknown" if math.isinf(change.margin) else f"± {format_distance(change.margin, change)}"
    return ScoreRow(
        reward=change.reward,
        role=ROLES[change.role],
        split=SPLITS[change.split],
        prompts=change.last.prompts,
        before=before,
        best=f"{format_value(best.spread.mean, change)} at iteration {best.iteration}",
        after=after,
        change=format_difference(change),
        margin=margin,
        reading=DIRECTIONS[change.direction],
    )


def single_rows(records: Records, known: Mapping[str, Role]) -> list[tuple[str, str, str, str, str]]:
    """(reward, role, split, prompts, mean ± std) of the only evaluation so far."""
    return [
        (name, ROLES[known[name]], SPLITS[entry.split], str(entry.prompts), f"{spread.mean:.3g} ± {spread.std:.2g}")
        for record in records
        for entry in record.evaluation
        for name, spread in entry.rewards.items()
    ]


def phase_rows(records: Records) -> list[tuple[str, str, str]]:
    """(phase, time in all, share) over the whole run; what no phase claims comes last."""
    claimed = {label: math.fsum(r.seconds.get(phase, 0.0) for r in records) for phase, label in PHASES}
    rest = math.fsum(other_seconds(record) for record in records)
    everything = {label: seconds for label, seconds in claimed.items() if seconds > 0} | {"other": rest}
    total = math.fsum(everything.values())
    return [
        (label, duration(seconds), f"{100 * seconds / total:.1f} %" if total else "")
        for label, seconds in everything.items()
    ]


def totals(records: Records) -> list[tuple[str, str]]:
    """(what, how much) over the whole run."""
    done = trained(records)
    rows = [
        ("iterations", f"{len(done):,}"),
        ("attempts", f"{max(record.attempt for record in records):,}"),
        ("ranks", f"{records[-1].world_size:,}"),
        ("wall time", duration(math.fsum(record.step_seconds for record in records))),
        ("pictures trained on", f"{sum(record.images for record in done):,}"),
        ("model calls (rows)", f"{sum(record.model_calls for record in done):,}"),
        ("optimizer steps", f"{sum(record.policy.optimizer_steps for record in done if record.policy):,}"),
        ("steps skipped as not finite", f"{sum(record.policy.nonfinite_steps for record in done if record.policy):,}"),
        ("groups skipped for a failed reward", f"{sum(record.skipped_groups for record in done):,}"),
    ]
    speed = images_per_second(records)
    return rows if math.isnan(speed) else [*rows, ("pictures a second", f"{speed:.3g}")]


def duration(seconds: float) -> str:
    """12.3 s, 4 min 05 s, 3 h 20 min, 2 d 4 h."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def setting_groups(job: Mapping[str, Any]) -> list[SettingGroup]:
    """The job's spec, one group per part of `training`, then the rest of the spec."""
    spec = job.get("spec")
    training = spec.get("training") if isinstance(spec, Mapping) else None
    parts: dict[str, Any] = dict(training) if isinstance(training, Mapping) else {}
    if isinstance(spec, Mapping):
        parts |= {key: value for key, value in spec.items() if key != "training"}
    general = {key: value for key, value in parts.items() if not isinstance(value, Mapping | list)}
    groups = {"general": general} if general else {}
    groups |= {key: value for key, value in parts.items() if key not in general}
    found = [SettingGroup(title, tuple(_leaves(value))) for title, value in groups.items()]
    return [group for group in found if group.rows]


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, text) of everything below that is set."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            rest = {name: leaf for name, leaf in item.items() if name != "name"} if isinstance(item, Mapping) else item
            label = item.get("name", index) if isinstance(item, Mapping) else index
            yield from _leaves(rest, f"{key}.{label}" if key else str(label))
    elif value is not None:
        yield key, setting_text(value)


def setting_text(value: Any) -> str:
    """A value as it would stand in the YAML, lists in one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(setting_text(item) for item in value)
    return str(value)
