"""What the pods of an attempt are doing, in one reason and one sentence that says what to do. Pure.

Who calls this: `actions.py`. The first line of the table that fits is what a person should know.
"""

from __future__ import annotations

from dataclasses import dataclass

from g2rpo_api import contract
from g2rpo_api.status import Reason
from g2rpo_operator.world import Pod, View, moment

IMAGE_WAITS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError")
CONFIG_WAITS = ("CreateContainerConfigError",)
RUNTIME_WAITS = ("CreateContainerError", "RunContainerError")
PATIENCE_SECONDS = 60.0
"""For which nobody is told of pods that are just being created and started, or of ranks that give no answer yet."""
NO_CLAIM = "persistentvolumeclaim"
"""What the scheduler names, in whatever case, when a pod waits for a volume and not for a node."""
REMEDY = {
    Reason.IMAGE_PULL_FAILED: "mend spec.image or workers.imagePullSecrets",
    Reason.CONFIG_MISSING: "create the Secret, ConfigMap or volume; the pods then go on",
    Reason.CONTAINERS_STARTING: "the node's container runtime says so, and tries again",
}
HELD = (
    (Reason.IMAGE_PULL_FAILED, IMAGE_WAITS),
    (Reason.CONFIG_MISSING, CONFIG_WAITS),
    (Reason.CONTAINERS_STARTING, RUNTIME_WAITS),
)
"""What a container may wait for, by what a person should know first."""
FOLLOWED = frozenset(
    {
        Reason.QUEUED,
        Reason.FAILED_CREATE,
        Reason.UNSCHEDULABLE,
        Reason.IMAGE_PULL_FAILED,
        Reason.CONFIG_MISSING,
        Reason.CONTAINERS_STARTING,
        Reason.RANKS_STARTING,
        Reason.TRAINING,
        Reason.STOPPING,
    }
)
"""Reasons of the condition Running that are only given to an attempt whose Job was there."""


@dataclass(frozen=True)
class Waiting:
    """The condition Running of an attempt that has a Job."""

    running: bool
    reason: Reason
    message: str


def waiting(view: View) -> Waiting:
    """What is to be said of the current attempt, which has its objects."""
    if queued(view):
        return Waiting(False, Reason.QUEUED, _who_suspends(view))
    if view.status.running_time is not None or all_run(view):
        return _running(view)
    return _trouble(view) or _start(view)


def _trouble(view: View) -> Waiting | None:
    """What keeps pods from running, if anything does."""
    attempt = view.attempt
    unschedulable = next((pod for pod in attempt.pods if pod.unschedulable), None)
    if unschedulable is not None and NO_CLAIM in unschedulable.unschedulable.lower():
        words = f"{unschedulable.name}: {unschedulable.unschedulable}; {REMEDY[Reason.CONFIG_MISSING]}"
        return Waiting(False, Reason.CONFIG_MISSING, words)
    if unschedulable is not None:
        return Waiting(False, Reason.UNSCHEDULABLE, f"{unschedulable.name}: {unschedulable.unschedulable}")
    for reason, waits in HELD:
        held = next((pod for pod in attempt.pods if pod.waiting_reason in waits), None)
        if held is not None:
            return Waiting(False, reason, f"{complaint(held)}; {REMEDY[reason]}")
    if len(attempt.pods) < view.job.spec.workers.nodes and patience_left_seconds(view) == 0:
        return Waiting(False, Reason.FAILED_CREATE, _refusal(view))
    return None


def _start(view: View) -> Waiting:
    """Of a start that goes well nothing is told for a while: most have ended by then, which saves a write of each."""
    announced, nodes = view.status.condition("Running"), view.job.spec.workers.nodes
    if announced is not None and announced.reason not in FOLLOWED and patience_left_seconds(view) != 0:
        return Waiting(False, Reason(announced.reason), announced.message)
    return Waiting(False, Reason.CONTAINERS_STARTING, f"waiting for {nodes} {'pod' if nodes == 1 else 'pods'} to run")


def _told(view: View, name: str) -> str:
    """A name as kubectl needs it."""
    namespace = view.job.metadata.namespace
    return f"{name} -n {namespace}" if namespace else name


def _who_suspends(view: View) -> str:
    if contract.LABEL_QUEUE in view.job.metadata.labels:
        return "Kueue has not admitted the job: kubectl describe workload says why"
    name = view.attempt.job.name if view.attempt.job else ""
    return (
        f"somebody suspended the Job {name}, which is not how to pause training (that is spec.suspend of the "
        f"{contract.KIND}): kubectl patch job {_told(view, name)} --type=merge "
        '-p \'{"spec":{"suspend":false}}\' lets it go on'
    )


def _refusal(view: View) -> str:
    job, there = view.attempt.job, len(view.attempt.pods)
    name = _told(view, job.name) if job else ""
    return (
        f"{there} of {view.job.spec.workers.nodes} pods exist: a quota or an admission rule may refuse the others; "
        f"kubectl describe job {name} says why"
    )


def _running(view: View) -> Waiting:
    attempt, progress = view.attempt, view.status.progress
    if attempt.failing:
        return Waiting(True, Reason.TRAINING, "a rank failed; the others end")
    if view.job.spec.stop:
        return Waiting(True, Reason.STOPPING, "asked to end early: checkpoint, evaluation and export follow")
    if progress is None or progress.attempt != view.status.attempt or progress.phase == "Starting":
        wrong = view.progress_error and patience_left_seconds(view) == 0  # a trainer needs a while to answer at all
        trouble = f"; progress cannot be read: {view.progress_error}" if wrong else ""
        return Waiting(True, Reason.RANKS_STARTING, f"containers run; ranks load the model{trouble}")
    return Waiting(True, Reason.TRAINING, "iterations are coming in")


def patience_left_seconds(view: View) -> float | None:
    """How much longer it is no wonder that a Job has no pods, or running ranks no progress; None when neither waits."""
    job, running = view.attempt.job, view.status.running_time
    since = running or (job.start_time if job else "")
    return max(0.0, (moment(since) - view.now).total_seconds() + PATIENCE_SECONDS) if since else None


def complaint(pod: Pod) -> str:
    """What a container waits for, in the kubelet's words."""
    return f"{pod.name}: {pod.waiting_reason}: {pod.waiting_message}".rstrip(": ")


def queued(view: View) -> bool:
    """Whether Kueue holds the attempt back."""
    return view.attempt.job is not None and view.attempt.job.suspended


def all_scheduled(view: View) -> bool:
    """Whether every pod has its node."""
    return len(view.attempt.pods) == view.job.spec.workers.nodes and all(pod.scheduled for pod in view.attempt.pods)


def all_run(view: View) -> bool:
    """Whether every container of the attempt runs, or has done so."""
    pods = view.attempt.pods
    return len(pods) == view.job.spec.workers.nodes and all(pod.phase in ("Running", "Succeeded") for pod in pods)
