"""Every reason and cause has advice, and it is the text of the definition."""

from __future__ import annotations

import pytest

from g2rpo_api.reasons import Cause, Reason
from g2rpo_operator.plugin import advice
from g2rpo_operator.plugin.advice import deciding, of_cause, of_reason
from testoperator.records import condition, status


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_text(reason: Reason) -> None:
    text = of_reason(reason)
    assert len(text) > 10
    assert text.endswith(".")
    assert "\n" not in text
    assert "  " not in text


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_a_text(cause: Cause) -> None:
    assert len(of_cause(cause)) > 10


def test_texts_are_those_of_their_own_word() -> None:
    assert of_reason("Unschedulable") == (
        "The scheduler finds no node for a pod; the message says what is short or does not fit. Free it, or mend "
        "workers.resources, nodeSelector or tolerations."
    )
    assert of_cause("OutOfMemory").startswith("Memory was not enough: of a GPU (exit code 8)")
    assert of_reason("Disrupted") != of_cause("Disrupted")


def test_a_word_of_a_newer_operator_has_no_advice() -> None:
    assert of_reason("Teleported") == ""
    assert advice.of_cause("Teleported") == ""


RUNNING = condition("Running", "True", "Training")
WAITING = condition("Running", "False", "Queued")
SUSPENDED = condition("Suspended", "True", "Suspended")
SUSPENDING = condition("Suspended", "False", "SuspendRequested")
RESUMED = condition("Suspended", "False", "NotSuspended")
COMPLETE = condition("Complete", "True", "Completed")
FAILED = condition("Failed", "True", "Diverged")
NOT_FAILED = condition("Failed", "False", "NotFinished")


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ((), None),
        ((RUNNING,), RUNNING),
        ((WAITING, RESUMED), WAITING),
        ((WAITING, SUSPENDED), SUSPENDED),
        ((SUSPENDING, RUNNING), SUSPENDING),
        ((RUNNING, COMPLETE), COMPLETE),
        ((SUSPENDED, FAILED, WAITING), FAILED),
        ((NOT_FAILED, RUNNING), RUNNING),
    ],
)
def test_the_end_decides_before_suspension_and_suspension_before_running(conditions: tuple, expected: object) -> None:
    assert deciding(status(*conditions)) == expected
