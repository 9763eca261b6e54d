"""Words and numbers as people read them, and where they are printed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_api.yamltext import documents
from g2rpo_operator.plugin import screen
from g2rpo_operator.plugin.options import ListOutput, Output
from g2rpo_operator.plugin.words import change, line, number, paragraph, rows, shortened
from testoperator.records import job_data


@pytest.mark.parametrize(
    ("value", "text", "signed"),
    [
        (None, "-", "-"),
        (0.0, "0", "+0"),
        (0.60214, "0.6021", "+0.6021"),
        (-0.0204, "-0.0204", "-0.0204"),
        (12345.6, "1.235e+04", "+1.235e+04"),
        (31.85, "31.85", "+31.85"),
    ],
)
def test_numbers_have_four_digits(value: float | None, text: str, signed: str) -> None:
    assert (number(value), change(value)) == (text, signed)


@given(st.text("ab \n", max_size=60), st.integers(2, 80))
def test_a_shortened_text_is_one_line_that_fits(text: str, room: int) -> None:
    short = shortened(text, room)
    assert "\n" not in short
    assert len(short) <= room
    flat = " ".join(text.split())
    assert short == flat or (short.endswith("…") and flat.startswith(short[:-1]))


@given(st.lists(st.text("abc", min_size=1, max_size=8), min_size=1, max_size=40), st.integers(20, 140))
def test_a_paragraph_loses_no_word(words: list[str], width: int) -> None:
    text = paragraph(" ".join(words), width).plain
    assert text.split() == words
    assert all(line.startswith("  ") and len(line) <= min(width, 100) for line in text.splitlines())


def test_a_paragraph_keeps_its_own_line_breaks() -> None:
    assert paragraph("one\ntwo", 80).plain == "  one\n  two"


def test_a_table_without_rows_is_nothing() -> None:
    assert rows(("A", "B"), [], 80) == []


def test_pieces_of_a_line_keep_their_styles() -> None:
    made = line(("Title  ", "bold"), "plain ", ("bad", "bold red"))
    assert made.plain == "Title  plain bad"
    assert [(made.plain[span.start : span.end], str(span.style)) for span in made.spans] == [
        ("Title  ", "bold"),
        ("bad", "bold red"),
    ]


def test_objects_are_printed_so_that_they_can_be_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    data = job_data(training={"rewards": [{"name": "ocr", "type": "PaddleOCR", "weight": 1e-5}]})
    data["metadata"]["managedFields"] = [{"manager": "x"}]
    data["metadata"]["annotations"] = {"note": "naïve: yes", "on": "off"}
    screen.show_object(data, Output.YAML)
    (yaml,) = documents(capsys.readouterr().out)
    screen.show_object(data, Output.JSON)
    plain = json.loads(capsys.readouterr().out)
    del data["metadata"]["managedFields"]
    assert yaml == plain == data


def test_lists_lose_the_notes_of_each_item(capsys: pytest.CaptureFixture[str]) -> None:
    item = {"metadata": {"name": "a", "managedFields": [{"manager": "x"}]}}
    screen.show_object({"kind": "List", "metadata": {}, "items": [item]}, ListOutput.JSON)
    assert json.loads(capsys.readouterr().out)["items"] == [{"metadata": {"name": "a"}}]


def test_notes_and_output_go_their_own_ways(capsys: pytest.CaptureFixture[str]) -> None:
    screen.say("output")
    screen.note("note")
    screen.write(b"\xc3\xa9 bytes\n")
    said = capsys.readouterr()
    assert said.out == "output\né bytes\n"
    assert said.err == "note\n"


def test_what_is_no_terminal_is_wide_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert screen.width() == 120
