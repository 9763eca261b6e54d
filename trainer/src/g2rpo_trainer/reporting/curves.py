"""metrics.jsonl read back, and the two curve files of a run folder.

Who calls this: the loop after each iteration and on resume, the report. What a record means is
`journal.py`'s business; how a chart looks is `charts.py`'s.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from g2rpo_trainer.errors import DataError
from g2rpo_trainer.journal import IterationRecord, RewardEntry, Spread
from g2rpo_trainer.reporting.history import Records
from g2rpo_trainer.storage import replace_file, storage_errors

Cell = float | int | str | None


def read_records(path: Path) -> list[IterationRecord]:
    """The records of a metrics.jsonl, in the order of the file.

    A last line that was cut short by a kill is left out; blank lines do not count.

    Raises:
        DataError: the file is missing or unreadable, or a line is damaged; the message names the line.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; a run writes it with its first iteration") from error
    records = []
    for number, line in enumerate(lines, start=1):
        torn_if_damaged = number == len(lines)
        try:
            if line.strip():
                records.append(IterationRecord.model_validate_json(line))
        except ValidationError as error:
            if not torn_if_damaged:
                raise DataError(f"{path}, line {number}: {_first_fault(error)}; {_REMEDY}") from error
    return records


_REMEDY = "mend the line or restore the file from a copy"


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else fault["msg"]


def write_curve_csv(records: Records, path: Path) -> None:
    """One row per iteration, empty cells where an iteration has no such number; replaces the file at once.

    Columns of a reward are `<name>.anchor_mean`, `.anchor_std`, `.branch_<granularity>_mean`, and after
    an evaluation `.eval_mean`, `.unseen_mean`.

    Raises:
        StorageError: the file cannot be written.
    """
    rows = [dict(_cells(record)) for record in records]
    columns = [name for name, _ in _frame(None)]
    columns += sorted({name for row in rows for name in row} - set(columns), key=_column_order)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with storage_errors(path):
        replace_file(path, text.getvalue().encode())


def write_curve_svg(records: Records, path: Path) -> None:
    """The reward curve, 800 x 400 on white, as one would put it into a README; replaces the file at once.

    Raises:
        StorageError: the file cannot be written.
    """
    from g2rpo_trainer.reporting.curve_figure import curve_svg  # noqa: PLC0415 - a trainer starts without matplotlib's second

    content = curve_svg(records).encode()
    with storage_errors(path):
        replace_file(path, content)


def _cells(record: IterationRecord) -> Iterator[tuple[str, Cell]]:
    yield from _frame(record)
    for entry in record.rewards:
        yield from _reward_cells(entry)
    for evaluation in record.evaluation:
        for name, spread in evaluation.rewards.items():
            yield f"{name}.{evaluation.split}_mean", _number(spread.mean)


def _frame(record: IterationRecord | None) -> Iterator[tuple[str, Cell]]:
    """The columns that every run has; without a record, only their names matter."""
    policy = record.policy if record else None
    for name in ("iteration", "time"):
        yield name, getattr(record, name) if record else None
    for name in ("clip_low", "clip_high", "ratio_mean", "ratio_std", "grad_norm", "loss"):
        yield name, _number(getattr(policy, name)) if policy else None
    for name in ("images", "model_calls", "step_seconds"):
        yield name, getattr(record, name) if record else None


def _reward_cells(entry: RewardEntry) -> Iterator[tuple[str, Cell]]:
    anchor: Spread | None = entry.anchor
    if anchor is not None:
        yield f"{entry.name}.anchor_mean", _number(anchor.mean)
        yield f"{entry.name}.anchor_std", _number(anchor.std)
    for granularity, spread in entry.branch.items():
        yield f"{entry.name}.branch_{granularity}_mean", _number(spread.mean)


def _number(value: float) -> float | None:
    """NaN and infinity are no measurements: an empty cell, which every reader of CSV understands."""
    return value if math.isfinite(value) else None


def _column_order(name: str) -> tuple[str, int, str]:
    """By reward, then anchor, branches by granularity, evaluations."""
    reward, _, column = name.partition(".")
    kinds = ("anchor_mean", "anchor_std", "branch", "eval_mean", "unseen_mean")
    return reward, next(i for i, kind in enumerate(kinds) if column.startswith(kind)), column
