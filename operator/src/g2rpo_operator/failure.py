"""How an attempt ended that did not succeed: who failed first, why, and whether another attempt can help. Pure.

Who calls this: `decide.py`, once an attempt is over. Counting restarts is its business, not ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import ValidationError

from g2rpo_api.contract import ExitCode
from g2rpo_api.progress import TerminationReport
from g2rpo_api.status import Cause, Failure
from g2rpo_operator.world import Attempt, Pod, rfc3339

Kind = Literal["Fault", "Disruption", "Permanent"]
"""Counted against maxRestarts; against maxDisruptions; not tried again."""

CAUSES: dict[int, Cause] = {
    ExitCode.BUG: Cause.BUG,
    ExitCode.INVALID_SPEC: Cause.INVALID_SPEC,
    ExitCode.MISSING_DATA: Cause.MISSING_DATA,
    ExitCode.REWARD_FAILED: Cause.REWARD_FAILED,
    ExitCode.DIVERGED: Cause.DIVERGED,
    ExitCode.STORAGE: Cause.STORAGE,
    ExitCode.PEER_LOST: Cause.PEER_LOST,
    ExitCode.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY,
    ExitCode.CHECKPOINTED: Cause.DISRUPTED,
    128 + 15: Cause.DISRUPTED,
}
KINDS: dict[Cause, Kind] = {
    Cause.INVALID_SPEC: "Permanent",
    Cause.DIVERGED: "Permanent",
    Cause.IMAGE: "Permanent",
    Cause.DISRUPTED: "Disruption",
    Cause.PODS_LOST: "Disruption",
}
"""Everything else is a fault."""
LONGEST_LAST_LINES = 2048
LONGEST_WORDS = 600
SIGNALS = 128
"""Exit codes above it are those of a process that a signal ended."""
LAST = "9"
"""Sorts after every time."""


@dataclass(frozen=True)
class Verdict:
    """What became of an attempt."""

    kind: Kind
    failure: Failure


def kind_of(cause: Cause) -> Kind:
    """What a cause counts as."""
    return KINDS.get(cause, "Fault")


def cause_of(pod: Pod) -> Cause:
    """Why one pod did not succeed."""
    if pod.exit_code in (ExitCode.INVALID_SPEC, ExitCode.DIVERGED):
        return CAUSES[pod.exit_code]
    if pod.disruption:
        return Cause.DISRUPTED
    if pod.terminated_reason == "OOMKilled":
        return Cause.OUT_OF_MEMORY
    if pod.exit_code is None:
        return Cause.PODS_LOST
    if pod.exit_code > 128:
        return CAUSES.get(pod.exit_code, Cause.KILLED)
    return CAUSES.get(pod.exit_code, Cause.BUG)


def classify(attempt: Attempt, now: datetime) -> Verdict:
    """Verdict on an attempt of which a pod failed or is being disrupted.

    A rank that ends takes the others with it, so one pod speaks for all: the first that cannot be tried
    again, else the first that was disrupted, else the first that failed of its own accord. One that only
    lost another speaks where nobody else can.
    """
    ended = [pod for pod in attempt.pods if pod.failed or pod.disruption]
    ended = [pod for pod in ended if pod.disruption or pod.exit_code != ExitCode.PEER_LOST] or ended
    if not ended:
        return _without_pods(attempt, now)
    culprit = _speaker(sorted(ended, key=lambda pod: (pod.finished_at or LAST, pod.index)))
    return verdict(cause_of(culprit), _message(culprit, attempt), now, attempt.number, culprit)


def _speaker(ended: Sequence[Pod]) -> Pod:
    kinds = [kind_of(cause_of(pod)) for pod in ended]
    for kind in ("Permanent", "Disruption", "Fault"):
        matching = [pod for pod, its in zip(ended, kinds, strict=True) if its == kind]
        if kind == "Disruption":  # ranks that ended on SIGTERM after another one failed were not disrupted
            matching = [pod for pod in matching if pod.disruption or "Fault" not in kinds]
        if matching:
            return matching[0]
    return ended[0]


def verdict(cause: Cause, message: str, now: datetime, attempt: int, pod: Pod | None = None) -> Verdict:
    """Verdict of a known cause."""
    failure = Failure(
        attempt=attempt,
        reason=cause,
        message=message[:1024],
        pod=pod.name if pod else None,
        node=(pod.node or None) if pod else None,
        exit_code=pod.exit_code if pod else None,
        last_lines=last_lines(pod) if pod else "",
        time=rfc3339(now),
    )
    return Verdict(kind_of(cause), failure)


def _without_pods(attempt: Attempt, now: datetime) -> Verdict:
    message = attempt.job.message if attempt.job else ""
    text = "the attempt's pods were deleted, or lost with their node, before they could tell how they ended"
    text = f"{text} (the Job says: {message})" if message else text
    return verdict(Cause.PODS_LOST, text, now, attempt.number)


def last_word(pod: Pod) -> TerminationReport | None:
    """The trainer's report in the termination message; None when something else is there, or nothing."""
    try:
        return TerminationReport.model_validate_json(pod.last_word)
    except ValidationError:
        return None


def last_lines(pod: Pod) -> str:
    """The end of what a pod said: the trainer's own message, or the last lines of its log."""
    report = last_word(pod)
    text = report.message if report else pod.last_word
    return text.strip()[-LONGEST_LAST_LINES:]


def _message(pod: Pod, attempt: Attempt) -> str:
    ended = f"pod {pod.name}"
    if pod.node:
        ended += f" on {pod.node}"
    if pod.disruption:
        detail = f": {pod.message}" if pod.message else ""
        return f"{ended} was disrupted ({pod.disruption}){detail}"
    if pod.exit_code is None:
        return f"{ended} ended without an exit code: {pod.message or pod.waiting_message or 'unknown'}"
    by_signal = f", killed by signal {pod.exit_code - 128}" if pod.exit_code > 128 else ""
    memory = ", out of memory" if pod.terminated_reason == "OOMKilled" else ""
    return f"{ended} ended with exit code {pod.exit_code}{by_signal}{memory}{_why(pod)}"


def _why(pod: Pod) -> str:
    """The trainer's own words in a line, or the last line of its log, which tells nothing of a signal from outside."""
    report = last_word(pod)
    if report is not None:
        words = " ".join(report.message.split())
    elif pod.exit_code is not None and pod.exit_code < SIGNALS:
        words = "".join(last_lines(pod).splitlines()[-1:])
    else:
        words = ""
    return f": {words[:LONGEST_WORDS]}" if words else ""
