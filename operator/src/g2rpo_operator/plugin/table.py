"""A table as the API server prints it → lines as kubectl aligns them. Pure.

Who calls this: the list of jobs, and the tables of a job's page. Columns are the custom resource's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

PADDING, NARROWEST = 3, 6
Row = tuple[str, ...]


@dataclass(frozen=True)
class Columns:
    """Which columns of a server's table are shown."""

    names: Row
    places: tuple[int, ...]
    """Index of each in the server's rows."""
    with_namespace: bool = False

    @classmethod
    def of(cls, table: dict[str, Any], *, wide: bool = False, with_namespace: bool = False) -> Columns:
        """The columns of a table: those of priority 0, or all of them."""
        shown = [
            (index, column["name"].upper())
            for index, column in enumerate(table["columnDefinitions"])
            if wide or not column.get("priority")
        ]
        names = (("NAMESPACE",) if with_namespace else ()) + tuple(name for _, name in shown)
        return cls(names, tuple(index for index, _ in shown), with_namespace)

    def rows(self, table: dict[str, Any]) -> list[Row]:
        """The cells of a table of the same kind."""
        return [self._row(row) for row in table.get("rows") or ()]

    def _row(self, row: dict[str, Any]) -> Row:
        namespace = (row["object"]["metadata"]["namespace"],) if self.with_namespace else ()
        return namespace + tuple(cell(row["cells"][place]) for place in self.places)


def cell(value: object) -> str:
    """A value as kubectl prints it: nothing for none, the first line of a text."""
    first, *more = re.split(r"[\f\n\r]", "" if value is None else str(value), maxsplit=1)
    return first + ("..." if more else "")


@dataclass
class Widths:
    """Widths of columns, which grow with what is printed and never shrink."""

    columns: list[int] = field(default_factory=list)

    def fit(self, rows: Iterable[Sequence[str]]) -> None:
        """Make room for these rows."""
        for row in rows:
            self.columns += [0] * (len(row) - len(self.columns))
            for index, text in enumerate(row):
                self.columns[index] = max(self.columns[index], len(text))

    def padded(self, row: Sequence[str]) -> list[str]:
        """Cells with the space that follows them; the last one has none."""
        pairs = zip(row[:-1], self.columns, strict=False)
        return [*(text.ljust(max(NARROWEST, width + PADDING)) for text, width in pairs), *row[-1:]]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines in which columns stand below each other."""
    widths = Widths()
    widths.fit(rows)
    return ["".join(widths.padded(row)).rstrip() for row in rows]
