"""Which objects must go. Pure.

Who calls this: `actions.py`. Pods go with their Job; one is named here only where the Job is kept to be looked at, or
where nobody else would end it: its node is lost, or its Job was deleted without it.
"""

from __future__ import annotations

from datetime import timedelta

from g2rpo_operator.world import ChildJob, Pod, Target, View, moment

STUCK_SECONDS = 60
"""How long after its grace a pod may linger before it is deleted without waiting for its node."""


def still_running(view: View) -> tuple[Target, ...]:
    """Jobs that have not ended, of all attempts, and pods that nobody else ends."""
    jobs = [job for job in (view.attempt.job, *view.attempt.older_jobs) if job is not None]
    ending = [target for job in jobs for target in _ending(view, job)]
    return (*ending, *orphans(view), *stuck(view))


def older(view: View) -> tuple[Target, ...]:
    """What is left of older attempts, but for the newest failed ones, which are kept for inspection."""
    jobs = sorted(view.attempt.older_jobs, key=lambda job: job.attempt, reverse=True)
    failed = [job for job in jobs if view.attempt.shows_failure(job)][: view.job.spec.policy.keep_failed_attempts]
    kept = {job.attempt for job in failed}
    ending = [target for job in failed for target in _ending(view, job)]
    go = [_job(job) for job in jobs if job.attempt not in kept and not job.deleting]
    maps = [part for part in view.attempt.older_config_maps if part.attempt not in kept]
    return (*ending, *go, *(Target("ConfigMap", part.name, part.uid) for part in maps), *orphans(view), *stuck(view))


def orphans(view: View) -> tuple[Target, ...]:
    """Pods whose Job was deleted without them, and that run on."""
    pods = (*view.attempt.pods, *view.attempt.older_pods)
    alive = [pod for pod in pods if not pod.job_uid and not pod.over and not pod.deletion_time]
    return tuple(Target("Pod", pod.name, pod.uid) for pod in alive)


def stuck(view: View) -> tuple[Target, ...]:
    """Pods that should have ended long ago: their node does not answer."""
    pods = (*view.attempt.pods, *view.attempt.older_pods)
    return tuple(Target("Pod", pod.name, pod.uid, force=True) for pod in pods if _overdue_seconds(view, pod) >= 0)


def patience(view: View) -> float | None:
    """Seconds until the first pod that is being deleted counts as stuck; None when none is being deleted."""
    pods = (*view.attempt.pods, *view.attempt.older_pods)
    left = [-_overdue_seconds(view, pod) for pod in pods if pod.deletion_time and not pod.over]
    return max(1.0, min(left)) if left else None


def _ending(view: View, job: ChildJob) -> list[Target]:
    """What ends an attempt: its Job goes, but where that would take a failed pod's log along only the other pods do."""
    if job.over or job.deleting:
        return []
    if not view.attempt.shows_failure(job):
        return [_job(job)]
    its = [pod for pod in (*view.attempt.pods, *view.attempt.older_pods) if pod.job_uid == job.uid]
    return [Target("Pod", pod.name, pod.uid) for pod in its if not pod.over and not pod.deletion_time]


def _overdue_seconds(view: View, pod: Pod) -> float:
    if not pod.deletion_time or pod.over:
        return -float("inf")
    return (view.now - moment(pod.deletion_time) - timedelta(seconds=STUCK_SECONDS)).total_seconds()


def _job(job: ChildJob) -> Target:
    return Target("Job", job.name, job.uid)
