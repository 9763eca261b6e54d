"""What is told as Kubernetes events: each change of a condition that a person would want to know of. Pure.

Who calls this: `decide.py`, with the status before and after.
"""

from __future__ import annotations

from g2rpo_api.job import G2RPOJob
from g2rpo_api.status import Condition, JobStatus, Reason
from g2rpo_operator.world import Note

NORMAL = frozenset({Reason.SUSPENDED, Reason.RESUMED, Reason.COMPLETED, Reason.STOPPED, Reason.STOPPING, Reason.QUEUED})
WARNINGS = frozenset(
    {
        Reason.FAILED_CREATE,
        Reason.UNSCHEDULABLE,
        Reason.IMAGE_PULL_FAILED,
        Reason.CONFIG_MISSING,
        Reason.FAULT,
        Reason.DISRUPTED,
        Reason.PROGRESS_STALLED,
        Reason.PODS_LOST,
        Reason.DEADLINE_EXCEEDED,
        Reason.START_TIMEOUT,
        Reason.RESTARTS_EXHAUSTED,
        Reason.DISRUPTIONS_EXHAUSTED,
        Reason.INVALID_SPEC,
        Reason.POD_REJECTED,
        Reason.DIVERGED,
        Reason.NAME_CONFLICT,
    }
)


def notes_between(before: JobStatus, after: JobStatus) -> tuple[Note, ...]:
    """Events of a change of status; none when nothing changed that deserves one."""
    again = after.attempt != before.attempt  # another attempt may have ended for the same reason
    changed = [new for new in after.conditions if again or _new(before.condition(new.type), new)]
    told = [Note(new.reason, new.message, new.reason in WARNINGS) for new in changed if new.reason in NORMAL | WARNINGS]
    if after.is_true("Running") and not before.is_true("Running"):
        told.append(Note("Running", f"all pods of attempt {after.attempt} run", warning=False))
    unique = {note.reason: note for note in told}
    return tuple(unique.values())


def _new(old: Condition | None, new: Condition) -> bool:
    return old is None or (old.status, old.reason) != (new.status, new.reason)


def storage_notes(job: G2RPOJob, before: JobStatus, after: JobStatus) -> tuple[Note, ...]:
    """A warning, once, for a job whose checkpoints do not outlive its pods."""
    if job.spec.storage.runs.lasting or before.attempt or not after.attempt:
        return ()
    text = (
        "spec.storage.runs names no volume that lasts: after a restart training begins again at iteration 0, and "
        "what it made goes with the pods"
    )
    return (Note("EphemeralStorage", text, warning=True),)
