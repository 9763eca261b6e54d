"""What can be told of a job without loading its weights: one small function per question.

Who calls this: `doctor.py`. Each gives the findings of its question; none raises for what a user did.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from g2rpo_api.algorithm import G2RPOSettings
from g2rpo_api.contract import ExitCode
from g2rpo_api.job import G2RPOJob
from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.planning.estimates import TOLERANCE, MemoryEstimate
from g2rpo_trainer.planning.findings import Finding, error, fine, warning
from g2rpo_trainer.planning.footprint import FLOAT_BYTES
from g2rpo_trainer.planning.memory import reward_bytes, update_rows
from g2rpo_trainer.planning.plan import Plan, missing_prompts
from g2rpo_trainer.planning.sizes import size_text
from g2rpo_trainer.resources import resolve

SMALL_GROUP = 4
"""Members below which the spread of a group is mostly chance."""
REMEDIES: Mapping[str, str] = {
    "rollout": "lower sampling.maxBatch, or set model.precision: BFloat16",
    "decoding": "lower sampling.maxDecodeBatch, or sampling.vaeTilingAbovePixels below the picture's pixels",
    "update": "set model.gradientCheckpointing: true, lower optimizer.maxBatch, or train LoRA; for full training "
    "raise deepspeed.zeroStage",
    "optimizer step": "train LoRA, or raise deepspeed.zeroStage",
}
"""What makes the worst phase smaller."""


@dataclass(frozen=True)
class Patient:
    """What the checks look at."""

    job: G2RPOJob
    plan: Plan
    estimate: MemoryEstimate | None
    """None where the model's size is not known here."""
    card_bytes: int | None
    """Memory of a GPU; None where there is none and none was named."""
    runs: Path
    """Folder of run folders."""

    @property
    def training(self) -> TrainingSpec:
        """The part that says what is trained."""
        return self.job.spec.training


Check = Callable[[Patient], Iterator[Finding]]


def geometry(patient: Patient) -> Iterator[Finding]:
    """Groups, ranks and batches that fit each other."""
    training, plan = patient.training, patient.plan
    settings = training.algorithm.settings
    key = f"spec.training.algorithm.{training.algorithm.member}.groupSize"
    if settings.group_size < SMALL_GROUP:
        yield warning(
            key,
            f"{settings.group_size} members; the spread of so few is mostly chance",
            f"set it to {SMALL_GROUP} or more; 8 to 24 is usual",
        )
    yield fine(
        "spec.training.prompts.perIteration",
        f"{plan.groups} groups on {plan.ranks} ranks, {plan.prompts_per_rank} each; "
        f"{plan.optimizer_steps} optimizer steps an iteration",
    )
    rows, most = update_rows(training, plan.ranks), training.optimizer.max_batch
    if isinstance(settings, G2RPOSettings) and rows < most:
        yield fine("spec.training.optimizer.maxBatch", f"{most}, of which an update fills {rows}")


def files(patient: Patient) -> Iterator[Finding]:
    """Are the prompts and the model here?"""
    for key, reason in missing_prompts(patient.training).items():
        said, _, remedy = reason.partition("; ")
        yield error(key, said, remedy, ExitCode.MISSING_DATA)
    model = patient.training.model.path
    if Path(resolve(model)).is_dir():
        yield fine("spec.training.model.path", f"{model} is whole")
    else:
        yield fine("spec.training.model.path", f"{model} is taken from the hub, or from its copy on this machine")


def memory(patient: Patient) -> Iterator[Finding]:
    """What a rank needs against what its card has."""
    key, estimate, card = "memory of a rank", patient.estimate, patient.card_bytes
    if estimate is None:
        yield warning(
            key,
            f"{patient.training.model.path} is not here, and nothing is known of it",
            "download it and give the folder in spec.training.model.path to have it checked",
        )
        return
    needed = f"{size_text(estimate.total)} at most, during the {estimate.worst}"
    if card is None:
        yield fine(key, f"{needed}; no card to compare with (name one by --gpu-memory, such as 80GiB)")
    elif estimate.total > card * (1 + TOLERANCE):
        yield error(key, f"{needed}; the card has {size_text(card)}", _remedy(estimate), ExitCode.INVALID_SPEC)
    elif estimate.total > card * (1 - TOLERANCE):
        reason = f"{needed}; the card has {size_text(card)}, and the estimate may be {TOLERANCE:.0%} off"
        yield warning(key, reason, _remedy(estimate))
    else:
        yield fine(key, f"{needed}; the card has {size_text(card)}")


def disk(patient: Patient) -> Iterator[Finding]:
    """Room for checkpoints and the export in the folder of runs."""
    parts = patient.plan.footprint
    if parts is None:
        return
    folder = next(path for path in (patient.runs.absolute(), *patient.runs.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    # the newest checkpoint is written before the oldest is deleted
    needed = parts.checkpoint * (patient.plan.checkpoints_kept + 1) + FLOAT_BYTES * parts.trained_parameters
    reason = f"{size_text(needed)} for checkpoints and export, {size_text(free)} free"
    if needed > free:
        remedy = "free some space, choose another folder by --runs, or lower spec.training.checkpoint.keepLast"
        yield error(str(folder), reason, remedy, ExitCode.STORAGE)
    else:
        yield fine(str(folder), reason)


def rewards(patient: Patient) -> Iterator[Finding]:
    """Is somebody watching who is not trained on?"""
    roles = [reward.role for reward in patient.training.rewards]
    if "HeldOut" not in roles:
        yield warning(
            "spec.training.rewards",
            "no reward of role HeldOut: nothing tells whether the policy learns the task or tricks the reward",
            "add a reward of another maker with role: HeldOut",
        )
    yield fine("spec.training.rewards", f"{len(roles)}, with {size_text(_weights(patient))} of networks on the card")


def tracking(patient: Patient) -> Iterator[Finding]:
    """Is what the services need in the environment?"""
    spec = patient.training.tracking.wandb
    if spec is not None and spec.mode == "Online" and not os.environ.get("WANDB_API_KEY"):
        yield warning(
            "spec.training.tracking.wandb",
            "the variable WANDB_API_KEY is not set: nothing would be sent",
            "set it, in a pod from a secret by spec.workers.env, or use mode: Offline",
        )


CHECKS: tuple[Check, ...] = (geometry, files, memory, disk, rewards, tracking)
"""In the order in which they are told."""


def _remedy(estimate: MemoryEstimate) -> str:
    return f"{REMEDIES[estimate.worst]}; docs/out-of-memory.md says what each saves"


def _weights(patient: Patient) -> int:
    return sum(reward_bytes(reward) for reward in patient.training.rewards)
