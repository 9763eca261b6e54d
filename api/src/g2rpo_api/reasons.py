"""Why a job is as it is: a closed list of words, each with what it means and what to do.

Who calls this: `status.py`; the operator, which uses no others; the reference.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a condition is what it is. The text of each says what it means and what to do."""

    # before ranks run
    PENDING = "Pending"
    """The job was seen; its pods are being created and started. Nothing to do."""
    QUEUED = "Queued"
    """Kueue has not admitted the job yet. See its queue: kubectl describe workload."""
    FAILED_CREATE = "FailedCreate"
    """The Job's pods were not created within a minute: most often a quota or an admission rule refuses them.
    kubectl describe job NAME-aN says why; they are created as soon as it lets them."""
    UNSCHEDULABLE = "Unschedulable"
    """The scheduler finds no node for a pod; the message says what is short or does not fit. Free it, or mend
    workers.resources, nodeSelector or tolerations."""
    IMAGE_PULL_FAILED = "ImagePullFailed"
    """A node cannot pull the image. Mend spec.image or workers.imagePullSecrets; it is tried until
    policy.startTimeoutSeconds are over."""
    CONFIG_MISSING = "ConfigMissing"
    """A Secret, ConfigMap or volume that the pods need is not there. Create it; the pods then go on."""
    CONTAINERS_STARTING = "ContainersStarting"
    """Nodes pull the image and mount volumes."""
    # while ranks run
    RANKS_STARTING = "RanksStarting"
    """Containers run; ranks load the model and have not finished anything yet."""
    TRAINING = "Training"
    """Iterations are coming in."""
    STOPPING = "Stopping"
    """The job was asked to end early: checkpoint, evaluation and export are under way."""
    # between attempts
    FAULT = "Fault"
    """A rank failed; see status.lastFailure. The next attempt follows from the last checkpoint."""
    DISRUPTED = "Disrupted"
    """Pods were preempted, evicted, drained or lost with their node. The next attempt follows from the last
    checkpoint and is not counted as a restart."""
    PROGRESS_STALLED = "ProgressStalled"
    """Ranks ran without a sign of life for policy.progressTimeoutSeconds, as in a hung collective. They are
    restarted from the last checkpoint."""
    PODS_LOST = "PodsLost"
    """Pods or the attempt's Job were deleted by someone else. The next attempt follows."""
    RESUMED = "Resumed"
    """Suspension is over; the next attempt follows from the last checkpoint."""
    # suspension
    SUSPEND_REQUESTED = "SuspendRequested"
    """spec.suspend is true; pods save a checkpoint and end."""
    SUSPENDED = "Suspended"
    """spec.suspend is true and no pod is left. Set it to false to go on."""
    NOT_SUSPENDED = "NotSuspended"
    """spec.suspend is false."""
    # the end
    COMPLETED = "Completed"
    """Every rank finished the last iteration."""
    STOPPED = "Stopped"
    """Training ended early as asked by spec.stop or by one of training's own rules; weights are exported."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """policy.activeDeadlineSeconds are over. Checkpoints are kept: a job of the same name with a later deadline
    goes on from them."""
    START_TIMEOUT = "StartTimeout"
    """Pods did not run within policy.startTimeoutSeconds of being scheduled; the message says what they waited
    for."""
    RESTARTS_EXHAUSTED = "RestartsExhausted"
    """More faults than policy.maxRestarts. See status.lastFailure and the kept pods' logs."""
    DISRUPTIONS_EXHAUSTED = "DisruptionsExhausted"
    """More disruptions than policy.maxDisruptions. Give the job a higher priority, or quieter nodes."""
    INVALID_SPEC = "InvalidSpec"
    """The job cannot be right; the message names the keys. Mend it and create it again."""
    POD_REJECTED = "PodRejected"
    """The API server refuses the pods (quota of another kind, admission, an invalid field); the message says why."""
    DIVERGED = "Diverged"
    """Loss or gradient stopped being finite; a restart would do the same again. Lower the learning rate or the
    gradient clip in a new job."""
    NAME_CONFLICT = "NameConflict"
    """An object that the job needs exists and belongs to something else; the message names it."""
    FINISHED = "Finished"
    """The job is over; nothing runs."""


class Cause(StrEnum):
    """Why an attempt did not succeed. The text of each says what it means and what to do."""

    BUG = "Bug"
    """The trainer ended by an unexpected error. The traceback is in the run folder's log and in the kept pod's."""
    INVALID_SPEC = "InvalidSpec"
    """The trainer refuses the job; not tried again. The message names the keys."""
    MISSING_DATA = "MissingData"
    """The model, the prompts or a checkpoint is missing or damaged. Mend the path or the volume."""
    REWARD_FAILED = "RewardFailed"
    """A reward raised or gave a score that is not finite. See the message; onFailure SkipGroup carries on instead."""
    DIVERGED = "Diverged"
    """Loss or gradient stopped being finite; not tried again. Lower the learning rate or the gradient clip."""
    STORAGE = "Storage"
    """The run folder cannot be written: full, read-only or not the trainer's. Mend the volume."""
    OUT_OF_MEMORY = "OutOfMemory"
    """Memory was not enough: of a GPU (exit code 8), or of the pod, whose rank the kernel killed (137). Lower batch
    sizes; for a pod's, raise workers.resources.limits.memory."""
    KILLED = "Killed"
    """A rank was killed by a signal that nobody asked for."""
    PEER_LOST = "PeerLost"
    """Ranks lost each other and none of them failed of its own accord: mend the network between the nodes."""
    DISRUPTED = "Disrupted"
    """Pods were preempted, evicted, drained, or lost with their node; or saved a checkpoint on SIGTERM."""
    PODS_LOST = "PodsLost"
    """Pods or the attempt's Job were deleted by someone else."""
    PROGRESS_STALLED = "ProgressStalled"
    """No sign of life for policy.progressTimeoutSeconds."""
    IMAGE = "Image"
    """The image's name cannot be right; not tried again."""
