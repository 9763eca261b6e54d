"""What a job will do, counted before it runs: `g2rpo-train --check` prints it.

Who calls this: `__main__`. Imports no torch, so that it answers at once; touches no file but the
headers of a local model folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from g2rpo_api.algorithm import FlowGRPOSettings, G2RPOSettings
from g2rpo_api.errors import SpecError, SpecProblem
from g2rpo_api.job import G2RPOJob
from g2rpo_api.model import ModelSpec, SamplingSpec
from g2rpo_api.prompts import PROMPT_FILES
from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.flow.tails import shared_calls
from g2rpo_trainer.models.facts import (
    EMBEDDED_GUIDANCE,
    NO_GUIDANCE_INPUT,
    PIPELINES,
    TORCHS_ATTENTION,
    rows_per_velocity,
)
from g2rpo_trainer.planning.estimates import MemoryEstimate
from g2rpo_trainer.planning.footprint import Footprint, footprint
from g2rpo_trainer.planning.model_files import ModelFiles, pipeline_class, read_model, takes_guidance
from g2rpo_trainer.planning.sizes import size_text
from g2rpo_trainer.resources import resolve

LABEL_WIDTH = 24
VALUE_WIDTH = 12


@dataclass(frozen=True)
class GroupCost:
    """What one group, that is one prompt, costs in an iteration."""

    branches: int
    """Trajectories with noise of their own that are compared with each other, over all stochastic steps."""
    calls: int
    """Velocity evaluations without gradient."""
    reference_calls: int
    """Velocity evaluations of the untrained model for the KL term."""
    forward_backwards: int
    """Rows of the update, each a forward and a backward."""
    images: int
    """Pictures decoded and scored by every trained reward."""


@dataclass(frozen=True)
class Plan:
    """What a job will do."""

    name: str
    algorithm: str
    iterations: int
    ranks: int
    groups: int
    """Groups per iteration over all ranks: one per prompt."""
    group: GroupCost
    rows_per_call: int
    """Transformer rows per velocity: 2 with classifier-free guidance, else 1."""
    optimizer_steps: int
    """Per iteration."""
    evaluations: int
    evaluation_images: int
    """Pictures per evaluation, at most."""
    checkpoints: int
    """Written in all."""
    checkpoints_kept: int
    footprint: Footprint | None
    """Bytes per rank; None when the model is not in a local folder."""

    @property
    def prompts_per_rank(self) -> int:
        """Prompts of an iteration that each rank works on."""
        return self.groups // self.ranks

    @property
    def model_rows(self) -> int:
        """Rows without gradient through the transformer per iteration, over all ranks: `model_calls` in the metrics."""
        return self.groups * (self.group.calls + self.group.reference_calls) * self.rows_per_call

    @property
    def gradient_rows(self) -> int:
        """Rows with gradient through the transformer per iteration, over all ranks."""
        return self.groups * self.group.forward_backwards * self.rows_per_call

    @property
    def images(self) -> int:
        """Pictures decoded and scored for training per iteration, over all ranks."""
        return self.groups * self.group.images


def plan(job: G2RPOJob) -> Plan:
    """Count what a job will do.

    Raises:
        SpecError: the pictures do not fit the model.
        DataError: a prompt file or a part of the model is missing, or a file of the model is damaged.
    """
    missing = missing_prompts(job.spec.training)
    if missing:
        raise DataError("\n".join(f"{key}: {reason}" for key, reason in missing.items()))
    return count(job)


def count(job: G2RPOJob) -> Plan:
    """The same, whether the prompt files are there or not.

    Raises:
        SpecError: the pictures or the attention do not fit the model.
        DataError: a part of the model is missing or damaged.
    """
    training, ranks = job.spec.training, job.spec.workers.ranks
    _refuse_attention(training.model)
    model = _local_model(training)
    evaluation, checkpoint = training.evaluation, training.checkpoint
    checkpoints = -(-training.iterations // checkpoint.every_iterations)
    return Plan(
        name=job.metadata.name,
        algorithm=training.algorithm.type,
        iterations=training.iterations,
        ranks=ranks,
        groups=training.prompts.per_iteration,
        group=group_cost(training),
        rows_per_call=rows_per_velocity(training.model.family, training.sampling.guidance_scale),
        optimizer_steps=_optimizer_steps(training),
        evaluations=1 + -(-training.iterations // evaluation.every_iterations),
        evaluation_images=evaluation.max_prompts * (1 if evaluation.prompts_path is None else 2),
        checkpoints=checkpoints,
        checkpoints_kept=min(checkpoints, checkpoint.keep_last),
        footprint=footprint(training, ranks, model) if model else None,
    )


def group_cost(training: TrainingSpec) -> GroupCost:
    """Cost of one group under the job's algorithm."""
    settings, steps = training.algorithm.settings, training.sampling.steps
    if isinstance(settings, G2RPOSettings):
        return _g2rpo_cost(settings, steps)
    return _flow_grpo_cost(settings, steps)


def _g2rpo_cost(settings: G2RPOSettings, steps: int) -> GroupCost:
    """The anchor's T calls, then every branch's tails; the members of a step share its one update row."""
    branches = settings.stochastic_steps * settings.group_size
    tails = sum(shared_calls(steps, k, settings.granularities) for k in settings.steps())
    return GroupCost(
        branches=branches,
        calls=steps + settings.group_size * tails,
        reference_calls=settings.stochastic_steps if settings.kl_beta > 0 else 0,
        forward_backwards=settings.stochastic_steps,
        images=1 + branches * len(settings.granularities),
    )


def _flow_grpo_cost(settings: FlowGRPOSettings, steps: int) -> GroupCost:
    """T calls for each member, and an update row for each of its trained steps."""
    rows = settings.trained_count(steps) * settings.group_size
    return GroupCost(
        branches=settings.group_size,
        calls=steps * settings.group_size,
        reference_calls=rows if settings.kl_beta > 0 else 0,
        forward_backwards=rows,
        images=settings.group_size,
    )


def _optimizer_steps(training: TrainingSpec) -> int:
    settings = training.algorithm.settings
    if settings.update == "PerIteration":
        return 1
    if isinstance(settings, G2RPOSettings):
        return settings.stochastic_steps
    return settings.trained_count(training.sampling.steps)


def _refuse_attention(model: ModelSpec) -> None:
    """What the model's class in diffusers would never ask; whether the others work, the card says at load."""
    if model.family in TORCHS_ATTENTION and model.attention != "Native":
        allowed = f"Native: of {model.family} diffusers computes attention by torch's own kernel only"
        raise SpecError([SpecProblem("spec.training.model.attention", model.attention, allowed, "set it to Native")])


def _local_model(training: TrainingSpec) -> ModelFiles | None:
    """Shapes of a model that is in a folder; None for a hub id."""
    key = "spec.training.model.path"
    path = Path(resolve(training.model.path))
    if not path.is_dir():
        if path.is_absolute() or training.model.path.startswith("."):
            raise DataError(f"{key}: there is no folder {path}; give a hub id or a folder in diffusers' layout")
        return None
    found, wanted = pipeline_class(path), PIPELINES[training.model.family]
    if found != wanted:
        raise DataError(f"{key}: {path} holds a {found}, not a {wanted}; set spec.training.model.family to what it is")
    model = read_model(path)
    scale = training.sampling.guidance_scale
    if training.model.family in EMBEDDED_GUIDANCE and scale != 1 and not takes_guidance(path):
        raise DataError(NO_GUIDANCE_INPUT.format(scale))
    problems = list(_size_problems(training.sampling, model.pixel_multiple))
    if problems:
        raise SpecError(problems)
    return model


def missing_prompts(training: TrainingSpec) -> dict[str, str]:
    """What is wrong with prompt files that are not there, by the key that names each."""
    named = {
        "spec.training.prompts.path": training.prompts.path,
        "spec.training.evaluation.promptsPath": training.evaluation.prompts_path,
    }
    return {
        key: f"there is no file {path}; give {PROMPT_FILES}"
        for key, path in named.items()
        if path is not None and not Path(resolve(path)).exists()
    }


def _size_problems(sampling: SamplingSpec, multiple: int) -> Iterator[SpecProblem]:
    for name, pixels in (("height", sampling.height), ("width", sampling.width)):
        if pixels % multiple:
            nearest = max(1, round(pixels / multiple)) * multiple
            allowed = f"a multiple of {multiple} (the model's patch, in pixels)"
            yield SpecProblem(f"spec.training.sampling.{name}", pixels, allowed, f"set it to {nearest}")


def describe(plan: Plan, estimate: MemoryEstimate | None = None) -> str:
    """The plan as a table for people; with an estimate of activations too where there is one."""
    title = f"{plan.name}: {_many(plan.iterations, 'iteration')} of {plan.algorithm} on {_many(plan.ranks, 'rank')}"
    sections = (
        ("each iteration", _work_rows(plan)),
        ("the whole run", _run_rows(plan)),
        _memory_section(plan, estimate),
    )
    return "\n".join([title, *(line for heading, rows in sections for line in _section(heading, rows))])


Row = tuple[str, str, str]
"""Label, value, remark."""


def _section(heading: str, rows: list[Row]) -> list[str]:
    lines = [f"  {label:<{LABEL_WIDTH}}{value:>{VALUE_WIDTH}}   {remark}".rstrip() for label, value, remark in rows]
    return ["", heading, *lines]


def _work_rows(plan: Plan) -> list[Row]:
    group, guided = plan.group, " x 2 for guidance" if plan.rows_per_call == 2 else ""
    reference = f" + {group.reference_calls:,} for the KL term" if group.reference_calls else ""
    return [
        ("groups (prompts)", f"{plan.groups:,}", f"{plan.prompts_per_rank:,} on each rank"),
        ("branches", f"{plan.groups * group.branches:,}", f"{group.branches:,} per group"),
        ("model calls", f"{plan.model_rows:,}", f"{group.calls:,}{reference} per group{guided}"),
        ("forward-backwards", f"{plan.gradient_rows:,}", f"{group.forward_backwards:,} per group{guided}"),
        ("pictures scored", f"{plan.images:,}", f"{group.images:,} per group"),
        ("optimizer steps", f"{plan.optimizer_steps:,}", ""),
    ]


def _run_rows(plan: Plan) -> list[Row]:
    times = plan.iterations
    size = f", {size_text(plan.footprint.checkpoint)} each" if plan.footprint else ""
    return [
        ("model calls", f"{times * plan.model_rows:,}", ""),
        ("pictures scored", f"{times * plan.images:,}", ""),
        ("optimizer steps", f"{times * plan.optimizer_steps:,}", ""),
        ("evaluations", f"{plan.evaluations:,}", f"of at most {_many(plan.evaluation_images, 'picture')}"),
        ("checkpoints", f"{plan.checkpoints:,}", f"{plan.checkpoints_kept} kept{size}"),
    ]


def _estimate_rows(estimate: MemoryEstimate) -> list[Row]:
    """What stays, what each phase adds, and the most at any moment."""
    kept = [(name, size_text(size), "") for name, size in estimate.resident.items()]
    phases = [(f"+ {name}", size_text(size), "at its worst moment") for name, size in estimate.phases.items()]
    most = ("most at once", size_text(estimate.total), f"during the {estimate.worst}")
    return [*kept, *phases, most, ("text encoders", size_text(estimate.encoding), "before the others are loaded")]


def _memory_section(plan: Plan, estimate: MemoryEstimate | None) -> tuple[str, list[Row]]:
    if estimate is not None:
        return "memory of a rank", _estimate_rows(estimate)
    parts = plan.footprint
    if parts is None:
        return "memory of a rank", [
            ("unknown", "", "the model is not in a local folder, so its size is not known here")
        ]
    rows = (
        ("transformer", parts.transformer, f"{parts.trained_parameters:,} parameters are trained"),
        ("master weights", parts.master_weights, "the copy that ZeRO updates"),
        ("gradients", parts.gradients, ""),
        ("Adam's moments", parts.moments, ""),
        ("mean weights", parts.mean_weights, "as much again in the machine's memory while it evaluates"),
        ("VAE", parts.vae, ""),
        ("text encoders", parts.text_encoders, ""),
        ("rollout latents", parts.rollout, ""),
        ("together", parts.total, "without activations, which grow with the maxBatch settings"),
    )
    return "memory of a rank", [(label, size_text(size), remark) for label, size, remark in rows if size]


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
