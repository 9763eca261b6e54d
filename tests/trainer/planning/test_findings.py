from __future__ import annotations

import json

import pytest

from g2rpo_api.contract import ExitCode
from g2rpo_api.errors import SpecError, SpecProblem
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.planning.findings import as_json, as_table, error, exit_code, fine, refused, warning
from g2rpo_trainer.planning.sizes import size_of, size_text

FOUND = [
    fine("spec.a", "as it should be"),
    warning("spec.b", "odd", "look at it"),
    error("spec.c", "not there", "bring it", ExitCode.MISSING_DATA),
    error("spec.d", "wrong", "mend it", ExitCode.INVALID_SPEC),
]
TABLE = """
check-up
  OK       spec.a: as it should be
  Warning  spec.b: odd
           look at it
  Error    spec.c: not there
           bring it
  Error    spec.d: wrong
           mend it
  4 checks, 2 errors, 1 warning"""


def test_the_table() -> None:
    assert as_table(FOUND) == TABLE


def test_long_reasons_are_wrapped_under_themselves() -> None:
    lines = as_table([warning("spec.a", "word " * 60, "do")]).splitlines()
    assert max(map(len, lines)) <= 110
    assert all(line.startswith(" " * 11) for line in lines[3:-1])


def test_programs_get_the_same() -> None:
    told = json.loads(as_json(FOUND))
    assert told["exitCode"] == ExitCode.MISSING_DATA
    assert told["findings"][1] == {
        "level": "Warning", "key": "spec.b", "reason": "odd", "remedy": "look at it", "exit_code": 0,
    }  # fmt: skip
    assert [entry["level"] for entry in told["findings"]] == ["OK", "Warning", "Error", "Error"]


def test_the_first_error_decides_and_warnings_do_not() -> None:
    assert exit_code(FOUND) == 3
    assert exit_code(FOUND[:2]) == 0
    assert exit_code(reversed(FOUND)) == 2


@pytest.mark.parametrize(
    ("text", "size"), [("80GiB", 80 * 2**30), ("24 GB", 24 * 10**9), ("1.5MiB", 3 * 2**19), ("7B", 7)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["80", "GiB", "80 gib", "-1GiB", ""])
def test_other_words_are_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="write one such as 80GiB"):
        size_of(text)


@pytest.mark.parametrize("text", ["7 B", "1.0 KiB", "80.0 GiB", "3.0 TiB"])
def test_sizes_are_written_as_they_are_read(text: str) -> None:
    assert size_text(size_of(text)) == text


def test_a_job_that_cannot_be_right_is_told_problem_by_problem() -> None:
    problems = [
        SpecProblem("spec.a", 3, "at least 4", "raise it"),
        SpecProblem("spec.b", "x", "a number", "write one"),
    ]
    found = list(refused(SpecError(problems)))
    assert [(one.key, one.remedy) for one in found] == [("spec.a", "raise it"), ("spec.b", "write one")]
    assert "at least 4" in found[0].reason
    assert exit_code(found) == ExitCode.INVALID_SPEC


def test_a_model_that_is_damaged_is_told_with_its_exit_code() -> None:
    (one,) = refused(DataError("model.safetensors is cut short"))
    assert (one.level, one.reason, one.exit_code) == ("Error", "model.safetensors is cut short", ExitCode.MISSING_DATA)
