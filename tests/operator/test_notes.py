"""Kubernetes events: each change that a person would want to know of, once."""

from __future__ import annotations

import pytest

from g2rpo_api.status import JobStatus, Reason
from g2rpo_operator.notes import NORMAL, WARNINGS, notes_between, storage_notes
from g2rpo_operator.world import Note
from testoperator.records import condition, job, running_status, status

QUIET = {
    "Pending",
    "ContainersStarting",
    "RanksStarting",
    "Training",
    "SuspendRequested",
    "NotSuspended",
    "Finished",
}
"""What only `kubectl get` needs to say."""


def waiting_for(reason: Reason, message: str = "why") -> JobStatus:
    return status(condition("Running", "False", reason, message=message))


def test_every_reason_is_told_or_deliberately_not() -> None:
    assert not NORMAL & WARNINGS
    assert {reason.value for reason in Reason} - {reason.value for reason in NORMAL | WARNINGS} == QUIET
    assert {reason.value for reason in NORMAL | WARNINGS} & QUIET == set()


@pytest.mark.parametrize("reason", sorted(WARNINGS))
def test_trouble_is_a_warning(reason: Reason) -> None:
    assert notes_between(status(), waiting_for(reason)) == (Note(reason, "why", warning=True),)


@pytest.mark.parametrize("reason", sorted(NORMAL))
def test_what_was_asked_for_is_normal(reason: Reason) -> None:
    assert notes_between(status(), waiting_for(reason)) == (Note(reason, "why", warning=False),)


@pytest.mark.parametrize("reason", sorted(QUIET))
def test_what_goes_without_saying_is_not_said(reason: str) -> None:
    assert notes_between(status(), status(condition("Running", "False", reason))) == ()


@pytest.mark.parametrize("reason", list(Reason))
def test_what_was_told_is_not_told_again(reason: Reason) -> None:
    before, after = waiting_for(reason, "0/4 nodes"), waiting_for(reason, "0/5 nodes")
    assert notes_between(before, before) == ()
    assert notes_between(before, after) == (), "a new message alone is no change"


def test_a_second_fault_right_after_the_first_is_told_too() -> None:
    first = waiting_for(Reason.FAULT).model_copy(update={"attempt": 2})
    second = waiting_for(Reason.FAULT, "again").model_copy(update={"attempt": 3})
    assert notes_between(first, second) == (Note("Fault", "again", warning=True),)


def test_ranks_that_begin_to_run_are_told_once_for_each_attempt() -> None:
    (note,) = notes_between(waiting_for(Reason.CONTAINERS_STARTING), running_status(attempt=3))
    assert (note.reason, note.warning) == ("Running", False)
    assert "attempt 3" in note.message
    loading = running_status().model_copy(update={"conditions": (condition("Running", "True", "RanksStarting"),)})
    assert notes_between(loading, running_status()) == ()


def test_one_reason_in_two_conditions_is_one_event() -> None:
    both = status(condition("Suspended", "True", "Suspended"), condition("Running", "False", "Suspended"))
    assert [note.reason for note in notes_between(running_status(), both)] == ["Suspended"]


def test_the_end_is_told_with_its_message() -> None:
    end = status(
        condition("Running", "False", "Finished"),
        condition("Failed", "True", "RestartsExhausted", message="policy.maxRestarts = 3 are used up"),
    )
    expected = Note("RestartsExhausted", "policy.maxRestarts = 3 are used up", warning=True)
    assert notes_between(running_status(), end) == (expected,)
    assert notes_between(end, end) == ()


def test_a_job_without_lasting_storage_is_warned_of_once() -> None:
    ephemeral, kept = (
        job(storage=storage) for storage in ({}, {"runs": {"persistentVolumeClaim": {"claimName": "c"}}})
    )
    new, begun, restarted = (status(attempt=number) for number in (0, 1, 2))
    assert [note.reason for note in storage_notes(ephemeral, new, begun)] == ["EphemeralStorage"]
    assert all(note.warning for note in storage_notes(ephemeral, new, begun))
    assert storage_notes(ephemeral, new, new) == ()
    assert storage_notes(ephemeral, begun, restarted) == ()
    assert storage_notes(kept, new, begun) == ()
