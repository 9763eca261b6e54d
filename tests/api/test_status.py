"""The status: what is in it is read back, whoever wrote it."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from g2rpo_api.base import camel
from g2rpo_api.status import Cause, Condition, ConditionType, JobProgress, JobStatus, Reason

NOW = "2026-01-02T03:04:05Z"


def condition(kind: ConditionType, status: str, reason: str = "Training") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "lastTransitionTime": NOW,
        "observedGeneration": 1,
    }


def status(*conditions: dict[str, Any]) -> JobStatus:
    return JobStatus.model_validate({"conditions": list(conditions)})


def test_a_job_without_a_status_has_an_empty_one() -> None:
    empty = JobStatus.model_validate({})
    assert (empty.phase, empty.attempt, empty.restarts, empty.conditions) == ("Pending", 0, 0, ())
    assert not empty.finished


def test_a_condition_is_found_by_its_type() -> None:
    seen = status(condition("Running", "False", "Pending"), condition("Suspended", "True", "Suspended"))
    found = seen.condition("Suspended")
    assert found is not None
    assert (found.status, found.reason) == ("True", "Suspended")
    assert seen.condition("Failed") is None


@pytest.mark.parametrize("value", ["True", "False", "Unknown"])
@pytest.mark.parametrize("kind", get_args(ConditionType))
def test_only_true_is_true(kind: ConditionType, value: str) -> None:
    assert status(condition(kind, value)).is_true(kind) == (value == "True")
    assert not JobStatus().is_true(kind)


@pytest.mark.parametrize("kind", get_args(ConditionType))
def test_a_job_is_finished_when_it_is_complete_or_failed(kind: ConditionType) -> None:
    assert status(condition(kind, "True")).finished == (kind in ("Complete", "Failed"))
    assert not status(condition(kind, "False")).finished


def test_a_newer_operators_keys_are_let_pass() -> None:
    newer = {"phase": "Running", "novelty": 1, "usage": {"gpuHours": 1.5, "waterLitres": 3}}
    seen = JobStatus.model_validate(newer)
    assert (seen.phase, seen.usage.gpu_hours) == ("Running", 1.5)
    assert "novelty" not in seen.model_dump(by_alias=True)


def test_two_conditions_of_a_type_are_an_error() -> None:
    with pytest.raises(ValidationError, match="unique among the conditions"):
        status(condition("Running", "True"), condition("Running", "False"))


@pytest.mark.parametrize(
    "broken",
    [
        {"phase": "Sleeping"},
        {"attempt": -1},
        {"conditions": [{"type": "Running"}]},
        {"conditions": [condition("Running", "Maybe")]},
        {"seed": 2**63},
        {"progress": {"step": "1/2"}},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_what_no_operator_writes_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobStatus.model_validate(broken)


def test_what_is_written_is_read_back() -> None:
    progress = JobProgress(
        attempt=2, iteration=40, total=300, step="40/300", percent=13.3, phase="Training", reward=0.5
    )
    before = JobStatus(phase="Running", attempt=2, seed=2**63 - 1, progress=progress, image="g2rpo/trainer:1")
    assert JobStatus.model_validate_json(before.model_dump_json(by_alias=True)) == before
    short = before.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert JobStatus.model_validate(short) == before, "the API server drops what is null"
    assert JobStatus.model_validate(before.model_dump(mode="json", by_alias=True)) == before


def test_lists_and_texts_have_an_end_so_that_a_status_stays_small() -> None:
    fields = {**JobStatus.model_json_schema()["properties"], **JobProgress.model_json_schema()["properties"]}
    assert [name for name, node in fields.items() if node.get("type") == "array" and "maxItems" not in node] == []


@pytest.mark.parametrize("words", [Reason, Cause])
def test_reasons_are_words_as_kubernetes_wants_them(words: type[Reason] | type[Cause]) -> None:
    for word in words:
        assert word.value == camel(word.name.lower())[:1].upper() + camel(word.name.lower())[1:]
        assert Condition.model_validate(condition("Running", "False", word.value)).reason == word
