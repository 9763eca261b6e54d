"""What a trainer tells: strict in what is known, open to what a newer one adds."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from g2rpo_api.contract import MAX_PROGRESS_BYTES, MAX_TERMINATION_BYTES
from g2rpo_api.progress import MAX_CURVE_POINTS, ProgressReport, TerminationReport
from g2rpo_api.rewards import MAX_REWARDS

SMALLEST: dict[str, Any] = {
    "job": "flux",
    "attempt": 1,
    "phase": "Starting",
    "iteration": 0,
    "total": 300,
    "percent": 0,
    "etaSeconds": None,
    "beat": 1767323045.5,
}
REWARD = {"name": "a" * 63, "role": "HeldOut", "mean": -0.123456789012345, "best": -1e-300, "delta": 1e300}
POINT = {"iteration": 2**31 - 1, "reward": -1.2345678901234567e-300}
LARGEST: dict[str, Any] = SMALLEST | {
    "imagesPerSecond": 1.2345678901234567e-300,
    "clipRatio": 0.12345678901234568,
    "rewards": [{**REWARD, "name": f"{index:063}"} for index in range(MAX_REWARDS)],
    "curve": [POINT] * MAX_CURVE_POINTS,
    "checkpoint": {"iteration": 2**31 - 1, "time": 1767323045.123456},
    "stopped": {"reason": "RewardHacking", "message": "x" * 1000},
}


def test_the_smallest_report() -> None:
    report = ProgressReport.model_validate(SMALLEST)
    assert (report.rewards, report.curve, report.checkpoint, report.stopped) == ((), (), None, None)


def test_the_largest_report_fits_into_its_document() -> None:
    report = ProgressReport.model_validate(LARGEST)
    assert len(report.model_dump_json(by_alias=True)) < MAX_PROGRESS_BYTES
    assert ProgressReport.model_validate_json(report.model_dump_json(by_alias=True)) == report


def test_a_reward_that_was_not_measured_yet() -> None:
    report = ProgressReport.model_validate({**SMALLEST, "rewards": [{"name": "a", "role": "Train", "mean": None}]})
    assert (report.rewards[0].mean, report.rewards[0].delta) == (None, None)


def test_a_newer_trainers_keys_are_let_pass() -> None:
    newer = {**SMALLEST, "mood": "good", "rewards": [{**REWARD, "colour": "red"}]}
    older = {**SMALLEST, "rewards": [REWARD]}
    assert ProgressReport.model_validate(newer) == ProgressReport.model_validate(older)


@pytest.mark.parametrize("key", sorted(SMALLEST))
def test_what_every_trainer_tells_cannot_be_missing(key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ProgressReport.model_validate({name: value for name, value in SMALLEST.items() if name != key})
    assert [error["loc"] for error in caught.value.errors()] == [(key,)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attempt", 0),
        ("iteration", -1),
        ("iteration", "3"),
        ("total", 0),
        ("percent", 100.5),
        ("percent", -1),
        ("etaSeconds", -1),
        ("etaSeconds", float("inf")),
        ("beat", float("nan")),
        ("phase", "Sleeping"),
        ("clipRatio", 1.5),
        ("rewards", [{**REWARD, "role": "Judge"}]),
        ("rewards", [REWARD] * (MAX_REWARDS + 1)),
        ("curve", [POINT] * (MAX_CURVE_POINTS + 1)),
        ("stopped", {"reason": "Boredom", "message": ""}),
    ],
)
def test_what_cannot_be_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        ProgressReport.model_validate({**SMALLEST, key: value})
    assert caught.value.errors()[0]["loc"][0] == key


def test_the_last_word_holds_the_last_numbers() -> None:
    word = TerminationReport.model_validate({"exitCode": 4, "rank": 3, "message": "ocr raised", "progress": SMALLEST})
    assert word.progress == ProgressReport.model_validate(SMALLEST)
    assert TerminationReport.model_validate({"exitCode": 0, "rank": 0, "message": "done"}).progress is None
    assert len(word.model_dump_json(by_alias=True)) < MAX_TERMINATION_BYTES


@pytest.mark.parametrize("code", [-1, 256, "0"])
def test_exit_codes_are_those_of_processes(code: Any) -> None:
    with pytest.raises(ValidationError, match="exitCode"):
        TerminationReport.model_validate({"exitCode": code, "rank": 0, "message": ""})
