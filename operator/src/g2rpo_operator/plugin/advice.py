"""What a status means and what to do about it, in the words of the definition of reasons and causes. Pure.

Who calls this: the page of a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache

from g2rpo_api.reasons import Cause, Reason
from g2rpo_api.reference import docstrings
from g2rpo_api.status import Condition, JobStatus

REQUESTED = (Reason.SUSPEND_REQUESTED, Reason.SUSPENDED)


def deciding(status: JobStatus) -> Condition | None:
    """The condition that a job's phase follows from; None before the operator saw the job."""
    for kind in ("Failed", "Complete"):
        if status.is_true(kind):
            return status.condition(kind)
    suspended = status.condition("Suspended")
    return suspended if suspended and suspended.reason in REQUESTED else status.condition("Running")


def of_reason(word: str) -> str:
    """What a condition's reason means and what to do; empty for one that is not known here."""
    return _texts(Reason).get(word, "")


def of_cause(word: str) -> str:
    """The same for the reason of a failed attempt."""
    return _texts(Cause).get(word, "")


@cache
def _texts(words: type[StrEnum]) -> Mapping[str, str]:
    meanings = docstrings(words)
    return {member.value: meanings[member.name] for member in words}
