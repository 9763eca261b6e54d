"""How much time is left to a job before a limit of its policy is over. Pure.

Who calls this: `decide.py`, whose rules match when nothing is left, and `actions.py`, which says when to look again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from g2rpo_operator import statuses
from g2rpo_operator.waiting import all_run, all_scheduled, queued
from g2rpo_operator.world import View, moment, rfc3339

BLIND_PATIENCE = 4
"""How many times longer ranks may be silent while no job at all can be read."""
PEERS_SECONDS = 30
"""How long ranks may take to end by themselves after they have lost another."""


def scheduled_time(view: View) -> str | None:
    """When the last pod got its node: what was written of it or, as that is not urgent, what the pods say."""
    if view.status.scheduled_time is not None or not all_scheduled(view):
        return view.status.scheduled_time
    return max(pod.scheduled_at for pod in view.attempt.pods) or rfc3339(view.now)


def peers_left_seconds(view: View) -> float | None:
    """How much longer pods may run after another of their attempt failed; None while none has."""
    attempt = view.attempt
    failed = [pod.finished_at for pod in attempt.pods if pod.failed]
    if not attempt.failing:
        return None
    if all(pod.over for pod in attempt.pods) or not failed or not all(failed):
        return 0.0
    return (moment(min(failed)) + timedelta(seconds=PEERS_SECONDS) - view.now).total_seconds()


def pause_left_seconds(view: View) -> float:
    """How long the pause before the next attempt lasts still; 0 when there is none."""
    retry = view.status.retry_time
    return 0.0 if retry is None else max(0.0, (moment(retry) - view.now).total_seconds())


def deadline_left_seconds(view: View) -> float | None:
    """Time left to the job; None when nothing limits it."""
    deadline = view.job.spec.policy.active_deadline_seconds
    return None if deadline is None else deadline - statuses.active_seconds(view.status, view.now)


def start_left_seconds(view: View) -> float | None:
    """Time left for scheduled pods to run; None when they do, are not scheduled, or may take any time.

    What the pods do now counts, not only what was written of them: nobody may have looked for a while.
    """
    limit, since = view.job.spec.policy.start_timeout_seconds, scheduled_time(view)
    if limit is None or since is None or view.status.running_time is not None or all_run(view) or queued(view):
        return None
    return (moment(since) + timedelta(seconds=limit) - view.now).total_seconds()


def silence_left_seconds(view: View) -> float | None:
    """How much longer running ranks may be silent; None where nothing limits it.

    Ranks that never gave a sign of life in this attempt may be out of the operator's reach: they go on. Of
    those that did, and that it cannot read now, only the silence since it began to listen counts. While it can
    read nobody at all, it is more likely to be cut off itself than to see every job hang: it waits longer.
    """
    limit, running = view.job.spec.policy.progress_timeout_seconds, view.status.running_time
    if limit is None or running is None or queued(view):
        return None
    heard, told = view.progress, view.status.progress
    signs = [moment(running)]
    if heard is not None:
        signs.append(datetime.fromtimestamp(heard.beat, UTC))
    elif told is None or told.attempt != view.status.attempt or view.listening_since is None:
        return None
    if view.listening_since is not None and (heard is None or view.progress_error):
        signs.append(view.listening_since)
    patience = timedelta(seconds=limit * (BLIND_PATIENCE if view.blind else 1))
    return (max(signs) + patience - view.now).total_seconds()
