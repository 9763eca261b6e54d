"""★ What to do about a job: an ordered table of rules, the first that matches decides. Pure.

Who calls this: `reconcile.py`, with a view of the job, its objects and the time. A rule looks at the level
of things, never at what changed, so a decision may be made at any time and any number of times. An
attempt's number is raised, and written down, in the same decision that gives the last one up; its objects
are created by a later one. So a crash at any point loses no attempt and repeats none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from g2rpo_api.status import JobStatus, Reason
from g2rpo_operator import actions, limits, statuses
from g2rpo_operator.actions import HOPELESS_WAITS
from g2rpo_operator.failure import last_word
from g2rpo_operator.notes import notes_between, storage_notes
from g2rpo_operator.waiting import FOLLOWED
from g2rpo_operator.world import Decision, View


@dataclass(frozen=True)
class Rule:
    """When its condition holds, its action decides."""

    name: str
    when: Callable[[View], bool]
    then: Callable[[View], Decision]


def finished(view: View) -> bool:
    """The job is over; it never runs again, whatever happens to its objects."""
    return view.status.finished


def succeeded(view: View) -> bool:
    """Every rank of the current attempt ended well."""
    return view.attempt.job is not None and view.attempt.job.complete


def suspended(view: View) -> bool:
    """The job is not to run now."""
    return view.job.spec.suspend


def deadline_over(view: View) -> bool:
    """The job took too long."""
    return _used_up(limits.deadline_left_seconds(view))


def suspension_over(view: View) -> bool:
    """The job was suspended and may run again."""
    condition = view.status.condition("Suspended")
    return condition is not None and condition.reason != Reason.NOT_SUSPENDED


def not_begun(view: View) -> bool:
    """There was no attempt yet."""
    return view.status.attempt == 0


def older_attempt_alive(view: View) -> bool:
    """Pods of an attempt that was given up have not ended."""
    return view.attempt.older_alive


def attempt_failed(view: View) -> bool:
    """Of the current attempt a rank ended badly, and the others too or not in time; or a disruption dooms them."""
    job, doomed = view.attempt.job, any(pod.disruption for pod in view.attempt.pods)
    return job is not None and (job.failed or doomed or _used_up(limits.peers_left_seconds(view)))


def attempt_lost(view: View) -> bool:
    """The Job of the current attempt was there, and is gone or going without having ended."""
    job, running = view.attempt.job, view.status.condition("Running")
    if job is None:
        return running is not None and running.reason in FOLLOWED
    return job.deleting and not job.over


def start_is_hopeless(view: View) -> bool:
    """A container waits for what can never come."""
    return any(pod.waiting_reason in HOPELESS_WAITS for pod in view.attempt.pods)


def start_took_too_long(view: View) -> bool:
    """Scheduled pods did not run in time."""
    return _used_up(limits.start_left_seconds(view))


def stalled(view: View) -> bool:
    """Ranks run, and have given no sign of life for too long."""
    return view.status.is_true("Running") and _used_up(limits.silence_left_seconds(view))


def pausing(view: View) -> bool:
    """The pause before the next attempt is not over."""
    return limits.pause_left_seconds(view) > 0


def pods_without_job(view: View) -> bool:
    """Someone deleted the Job of the current attempt right after it was created, and its pods have not ended."""
    return view.attempt.job is None and any(not pod.over for pod in view.attempt.pods)


def objects_missing(view: View) -> bool:
    """The current attempt lacks something."""
    return bool(actions.missing(view))


def otherwise(_: View) -> bool:
    """Always."""
    return True


RULES = (
    Rule("finished", finished, actions.clean_up),
    Rule("succeeded", succeeded, actions.succeed),
    Rule("suspended", suspended, actions.stand_still),
    Rule("deadline over", deadline_over, actions.end_by_deadline),
    Rule("suspension over", suspension_over, actions.resume),
    Rule("not begun", not_begun, actions.begin),
    Rule("older attempt alive", older_attempt_alive, actions.end_older_attempts),
    Rule("attempt failed", attempt_failed, actions.judge),
    Rule("attempt lost", attempt_lost, actions.replace_lost),
    Rule("start is hopeless", start_is_hopeless, actions.give_up_start),
    Rule("start took too long", start_took_too_long, actions.end_start),
    Rule("stalled", stalled, actions.restart_stalled),
    Rule("pausing", pausing, actions.pause),
    Rule("pods without a Job", pods_without_job, actions.end_older_attempts),
    Rule("objects missing", objects_missing, actions.create),
    Rule("otherwise", otherwise, actions.follow),
)


def decide(view: View) -> Decision:
    """Decision of the first rule that matches."""
    told = with_progress(view)
    rule = next(rule for rule in RULES if rule.when(told))
    decision = rule.then(told)
    status = decision.status.model_copy(update={"phase": statuses.phase_of(decision.status)})
    notes = notes_between(view.status, status) + storage_notes(view.job, view.status, status)
    return replace(decision, status=status, rule=rule.name, notes=notes)


def with_progress(view: View) -> View:
    """The view with what the trainer told last in its status: its last word, else its newest report."""
    words = [word.progress for pod in view.attempt.pods if pod.index == 0 and pod.over and (word := last_word(pod))]
    report = next((word for word in words if word is not None), view.progress)
    if report is None or report.attempt != view.status.attempt:
        return replace(view, status=with_parting_words(view), progress=None)
    status = view.status.model_copy(update={"progress": statuses.progress_of(report)})
    return replace(view, status=status, progress=report)


def with_parting_words(view: View) -> JobStatus:
    """The status with what an attempt that was given up told at its very end: its last checkpoint, above all."""
    ended = (*view.attempt.older_pods, *view.attempt.parted)
    words = [word.progress for pod in ended if pod.index == 0 and pod.last_word and (word := last_word(pod))]
    told = [statuses.progress_of(report) for report in words if report is not None]
    known = [view.status.progress] if view.status.progress else []
    newest = max((*known, *told), key=lambda progress: (progress.attempt, progress.beat_time or ""), default=None)
    return view.status.model_copy(update={"progress": newest})


def _used_up(seconds: float | None) -> bool:
    return seconds is not None and seconds <= 0
