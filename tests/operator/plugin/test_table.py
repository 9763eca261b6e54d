"""Tables as kubectl prints them; the comparison with kubectl itself is in test_listing.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_operator.plugin.table import Columns, Widths, aligned, cell

TABLE = {
    "columnDefinitions": [
        {"name": "Name", "priority": 0},
        {"name": "Phase", "priority": 0},
        {"name": "Clip", "priority": 1},
        {"name": "Age"},
    ],
    "rows": [
        {"cells": ["portrait", "Running", 0.25, "5m"], "object": {"metadata": {"namespace": "team"}}},
        {"cells": ["b", None, None, "3d"], "object": {"metadata": {"namespace": "other"}}},
    ],
}


def test_columns_of_priority_1_are_for_wide_tables() -> None:
    columns = Columns.of(TABLE)
    assert columns.names == ("NAME", "PHASE", "AGE")
    assert columns.rows(TABLE) == [("portrait", "Running", "5m"), ("b", "", "3d")]
    assert Columns.of(TABLE, wide=True).rows(TABLE)[0] == ("portrait", "Running", "0.25", "5m")


def test_namespaces_come_first_when_there_are_several() -> None:
    columns = Columns.of(TABLE, with_namespace=True)
    assert columns.names[0] == "NAMESPACE"
    assert [row[0] for row in columns.rows(TABLE)] == ["team", "other"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.6021, "0.6021"), (12, "12"), ("a\nb", "a..."), ("a\r\nb", "a..."), ("a", "a"), (0, "0")],
)
def test_cells_are_printed_as_kubectl_does(value: object, text: str) -> None:
    assert cell(value) == text


def test_columns_are_three_apart_and_six_wide_at_least() -> None:
    assert aligned([("A", "LONGER", "C"), ("12345", "x", "y")]) == ["A       LONGER   C", "12345   x        y"]
    assert aligned([("A", "B"), ("1", "2")]) == ["A     B", "1     2"]


def test_widths_grow_and_never_shrink() -> None:
    widths = Widths()
    widths.fit([("short", "x")])
    widths.fit([("a much longer one", "x")])
    widths.fit([("s", "x")])
    assert widths.padded(("s", "x")) == ["s" + " " * 19, "x"]


@given(st.lists(st.lists(st.text("ab", max_size=9), min_size=3, max_size=3), min_size=1, max_size=6))
def test_every_column_begins_at_the_same_place(rows: list[list[str]]) -> None:
    lines = aligned(rows)
    starts = [0]
    for column in range(2):
        starts.append(starts[-1] + max(6, 3 + max(len(row[column]) for row in rows)))
    for row, line in zip(rows, lines, strict=True):
        for start, text in zip(starts, row, strict=True):
            assert line[start : start + len(text)] == text
