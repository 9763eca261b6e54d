"""What each rule of `decide.py` does: the status that follows, objects to create and delete. Pure.

Who calls this: the rule table. When an action is due is not its business.
"""

from __future__ import annotations

from dataclasses import replace

from g2rpo_api.progress import ProgressReport
from g2rpo_api.status import Cause, ConditionType, JobStatus, Reason
from g2rpo_operator import cleanup, limits
from g2rpo_operator.failure import Verdict, classify, verdict
from g2rpo_operator.render import spec_digest
from g2rpo_operator.statuses import next_attempt, with_condition
from g2rpo_operator.waiting import (
    Waiting,
    all_run,
    complaint,
    patience_left_seconds,
    waiting,
)
from g2rpo_operator.world import Decision, Kind, View, moment, rfc3339

LONGEST_PAUSE_SECONDS = 600
HOPELESS_WAITS = {"InvalidImageName": Cause.IMAGE}
"""What a container waits for that can never come."""
PERMANENT = {
    Cause.INVALID_SPEC: Reason.INVALID_SPEC,
    Cause.DIVERGED: Reason.DIVERGED,
    Cause.IMAGE: Reason.IMAGE_PULL_FAILED,
}
RESTART_REASONS = {
    Cause.DISRUPTED: Reason.DISRUPTED,
    Cause.PODS_LOST: Reason.PODS_LOST,
    Cause.PROGRESS_STALLED: Reason.PROGRESS_STALLED,
}
"""Every other cause is a fault."""


def clean_up(view: View) -> Decision:
    """Nothing of a finished job runs on; it goes when its time to live is over."""
    ttl, ended = view.job.spec.policy.ttl_seconds_after_finished, view.status.completion_time
    leftovers = cleanup.still_running(view)
    left = None
    if ttl is not None and ended is not None:
        left = ttl - (view.now - moment(ended)).total_seconds()
    gone = left is not None and left <= 0
    look = None if gone else _soonest(left, cleanup.patience(view))
    return Decision(view.status, delete=leftovers, delete_self=gone, look_again_seconds=look)


def succeed(view: View) -> Decision:
    """Complete, and why: the last iteration, or an end before it."""
    progress = view.progress
    if progress is not None and progress.stopped is not None:
        text = f"ended early ({progress.stopped.reason}): {progress.stopped.message}; {result_text(progress)}"
        return Decision(finish(view, "Complete", Reason.STOPPED, text))
    return Decision(finish(view, "Complete", Reason.COMPLETED, result_text(progress)))


def result_text(progress: ProgressReport | None) -> str:
    """What training reached, in a sentence."""
    if progress is None:
        return "every rank finished"
    rewards = [
        f"{reward.name} {reward.mean - reward.delta:.3g} -> {reward.mean:.3g}"
        for reward in progress.rewards
        if reward.mean is not None and reward.delta is not None
    ]
    return "; ".join([f"{progress.iteration} of {progress.total} iterations", *rewards])


def stand_still(view: View) -> Decision:
    """Give the attempt up after its checkpoint; wait until its pods are gone."""
    attempt = view.attempt
    begun = attempt.job is not None or attempt.config_map is not None or bool(attempt.pods)
    if begun or attempt.older_alive:
        text = "spec.suspend is true; pods save a checkpoint and end"
        status = with_condition(view.status, "Suspended", False, Reason.SUSPEND_REQUESTED, text, view.now)
        status = with_condition(status, "Running", False, Reason.SUSPEND_REQUESTED, text, view.now)
        status = next_attempt(status, view.now) if begun else status
        return Decision(status, delete=cleanup.still_running(view), look_again_seconds=cleanup.patience(view))
    text = f"spec.suspend is true and no pod is left; set it to false, and training {_goes_on(view)}"
    status = with_condition(view.status, "Suspended", True, Reason.SUSPENDED, text, view.now)
    return Decision(with_condition(status, "Running", False, Reason.SUSPENDED, text, view.now))


def end_by_deadline(view: View) -> Decision:
    """Fail; the next look stops the pods, which save a checkpoint."""
    deadline = view.job.spec.policy.active_deadline_seconds
    text = f"policy.activeDeadlineSeconds = {deadline} are over; the newest checkpoint is kept"
    return fail(view, Reason.DEADLINE_EXCEEDED, text)


def begin(view: View) -> Decision:
    """Decide on the first attempt."""
    status = next_attempt(view.status, view.now)
    return Decision(pending(status, view, Reason.PENDING, "pods are being created and started"))


def resume(view: View) -> Decision:
    """Go on where suspension stopped; begin where nothing had begun."""
    status = with_condition(
        view.status, "Suspended", False, Reason.NOT_SUSPENDED, "spec.suspend is false", view.now
    )  # fmt: skip
    if status.attempt == 0:
        return begin(replace(view, status=status))
    return Decision(pending(status, view, Reason.RESUMED, f"training {_goes_on(view)}"))


def _goes_on(view: View) -> str:
    """Where the next attempt begins."""
    if not view.job.spec.storage.runs.lasting:
        return "begins again at iteration 0: spec.storage.runs names no volume that lasts, so no checkpoint was kept"
    told = view.status.progress.checkpoint if view.status.progress else None
    return "goes on from the newest checkpoint" + (f", of iteration {told.iteration}" if told else "")


def end_older_attempts(view: View) -> Decision:
    """Stop what is left of older attempts, and wait."""
    look = _soonest(limits.deadline_left_seconds(view), cleanup.patience(view))
    return Decision(view.status, delete=cleanup.older(view), look_again_seconds=look)


def judge(view: View) -> Decision:
    """Another attempt, or the end."""
    return after(view, classify(view.attempt, view.now))


def replace_lost(view: View) -> Decision:
    """Another attempt for one that someone deleted."""
    text = "the attempt's Job was deleted by someone else"
    return after(view, verdict(Cause.PODS_LOST, text, view.now, view.status.attempt))


def give_up_start(view: View) -> Decision:
    """The end: a container waits for what can never come."""
    pod = next(pod for pod in view.attempt.pods if pod.waiting_reason in HOPELESS_WAITS)
    return after(view, verdict(HOPELESS_WAITS[pod.waiting_reason], complaint(pod), view.now, pod.attempt, pod))


def end_start(view: View) -> Decision:
    """Fail with what the pods waited for."""
    limit = view.job.spec.policy.start_timeout_seconds
    return fail(view, Reason.START_TIMEOUT, f"pods did not run within {limit} s; {waiting(view).message}")


def restart_stalled(view: View) -> Decision:
    """A hung collective has no exit code."""
    limit = view.job.spec.policy.progress_timeout_seconds
    text = f"no iteration, evaluation or checkpoint for policy.progressTimeoutSeconds = {limit}"
    return after(view, verdict(Cause.PROGRESS_STALLED, text, view.now, view.status.attempt))


def pause(view: View) -> Decision:
    """Wait for the end of the back-off; drop what is not worth keeping of older attempts."""
    look = _soonest(limits.deadline_left_seconds(view), limits.pause_left_seconds(view))
    return Decision(view.status, delete=cleanup.older(view), look_again_seconds=look)


def create(view: View) -> Decision:
    """Create exactly what is missing."""
    status = described(view.status, view) if view.attempt.job is None else view.status
    return Decision(status, create=missing(view), delete=cleanup.older(view))


def follow(view: View) -> Decision:
    """Tell what the pods are doing, and hand on a wish to end early."""
    seen = waiting(view)
    status = with_condition(_timed(view, seen), "Running", seen.running, seen.reason, seen.message, view.now)
    config = view.attempt.config_map
    stop = view.job.spec.stop and config is not None and not config.stop
    then = replace(view, status=status)  # a time limit may begin with this very look
    limited = limits.deadline_left_seconds(then), limits.start_left_seconds(then), limits.silence_left_seconds(then)
    waits = cleanup.patience(then), limits.peers_left_seconds(then), patience_left_seconds(then) or None
    look = _soonest(*limited, *waits)
    return Decision(status, delete=cleanup.older(view), request_stop=stop, look_again_seconds=look)


def missing(view: View) -> tuple[Kind, ...]:
    """Parts of the current attempt that are not there, in the order in which they are created."""
    attempt = view.attempt
    parts: dict[Kind, object] = {"ConfigMap": attempt.config_map, "Service": attempt.service, "Job": attempt.job}
    return tuple(kind for kind, part in parts.items() if part is None)


def after(view: View, ended: Verdict) -> Decision:
    """What follows an attempt that did not succeed: the next one, counted or not, or the end."""
    failure, policy = ended.failure, view.job.spec.policy
    seen = replace(view, status=view.status.model_copy(update={"last_failure": failure}))
    cause = Cause(failure.reason)
    if ended.kind == "Permanent":
        return fail(seen, PERMANENT[cause], failure.message)
    if ended.kind == "Disruption":
        used, limit, key, pause_seconds = seen.status.disruptions, policy.max_disruptions, "disruptions", 0
        exhausted, setting = Reason.DISRUPTIONS_EXHAUSTED, "policy.maxDisruptions"
    else:
        used, limit, key = seen.status.restarts, policy.max_restarts, "restarts"
        first = policy.restart_backoff_seconds
        pause_seconds = min(max(LONGEST_PAUSE_SECONDS, first), first * 2 ** min(used, 20))
        exhausted, setting = Reason.RESTARTS_EXHAUSTED, "policy.maxRestarts"
    if used >= limit:
        return fail(seen, exhausted, f"{setting} = {limit} are used up; {failure.message}")
    status = next_attempt(seen.status.model_copy(update={key: used + 1}), view.now, pause_seconds)
    return Decision(pending(status, view, RESTART_REASONS.get(cause, Reason.FAULT), failure.message))


def pending(status: JobStatus, view: View, reason: Reason, message: str) -> JobStatus:
    """The status of a job whose attempt is due and has no pods yet."""
    return with_condition(described(status, view), "Running", False, reason, message, view.now)


def described(status: JobStatus, view: View) -> JobStatus:
    """The status with what an attempt that begins now runs."""
    training = {"seed": view.job.spec.training.seed, "spec_hash": spec_digest(view.job)}
    return status.model_copy(update={"image": view.image, **training})


def fail(view: View, reason: Reason, message: str) -> Decision:
    """The end, for good."""
    return Decision(finish(view, "Failed", reason, message))


def finish(view: View, condition: ConditionType, reason: Reason, message: str) -> JobStatus:
    """The status of a job that is over."""
    status = with_condition(view.status, condition, True, reason, message, view.now)
    status = with_condition(status, "Running", False, Reason.FINISHED, message, view.now)
    return status.model_copy(update={"completion_time": rfc3339(view.now), "retry_time": None})


def _timed(view: View, seen: Waiting) -> JobStatus:
    """The status with the moments at which the attempt's pods were scheduled and ran."""
    status = view.status.model_copy(update={"retry_time": None})
    if seen.reason == Reason.QUEUED:
        return status.model_copy(update={"scheduled_time": None, "running_time": None})
    status = status.model_copy(update={"scheduled_time": limits.scheduled_time(view)})
    if status.running_time is None and all_run(view):
        status = status.model_copy(update={"running_time": rfc3339(view.now)})
    return status


def _soonest(*seconds: float | None) -> float | None:
    return min((value for value in seconds if value is not None), default=None)
