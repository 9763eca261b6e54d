"""The model card of an export: README.md, with the front matter that model hubs read. Pure but for the base's card.

Who calls this: `export.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from g2rpo_api.job import G2RPOJob
from g2rpo_api.training import TrainingSpec
from g2rpo_api.yamltext import text_of
from g2rpo_trainer.journal import IterationRecord
from g2rpo_trainer.reporting.history import roles

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
FRONT = re.compile(r"---\n(.*?)\n---\n", re.DOTALL)
LICENCE_KEYS = ("license", "license_name", "license_link")
PAPER = "https://arxiv.org/abs/2510.01982"


@dataclass(frozen=True)
class Base:
    """The model that training began from."""

    hub_id: str | None
    """None for a folder."""
    licence: Mapping[str, str]
    """Its card's `license` and what belongs to it; empty where it has none."""


@dataclass(frozen=True)
class Facts:
    """What a card tells beside the job and its records."""

    base: Base
    iteration: int
    """Whose weights are exported."""
    pipeline: str
    """Name of diffusers' class."""
    sigmas: Sequence[float]
    """Noise levels of evaluation, without the 0 at the end."""
    versions: Mapping[str, str]
    verified: str
    """A sentence on whether the stock pipeline draws what the trainer drew."""
    pictures: Sequence[str]
    """Names of pictures beside the card."""


def read_base(path: str, folder: Path) -> Base:
    """What is known of the model at `path`, a hub id or a folder, whose files lie in `folder`."""
    hub_id = path if HUB_ID.fullmatch(path) and not Path(path).exists() else None
    card = folder / "README.md"
    front = FRONT.match(card.read_text(encoding="utf-8")) if card.is_file() else None
    told = yaml.safe_load(front[1]) if front else {}
    return Base(hub_id, {key: str(told[key]) for key in LICENCE_KEYS if key in told})


def model_card(job: G2RPOJob, records: Sequence[IterationRecord], facts: Facts) -> str:
    """The whole text."""
    training = job.spec.training
    sections = (
        _front(training, facts.base),
        f"# {job.metadata.name}\n\n{_summary(training, records, facts)}",
        "\n".join(f"![{name}]({name})" for name in facts.pictures),
        "## Use\n\n" + _use(training, facts),
        "## What training did\n\n" + _results(records, facts.iteration),
        f"## Verified\n\n{facts.verified}",
        "## Data\n\n" + _data(training),
        "## Settings\n\n```yaml\n" + text_of(training.model_dump(mode="json", by_alias=True)).strip() + "\n```",
        "## Versions\n\n" + ", ".join(f"{name} {version}" for name, version in facts.versions.items()),
        "## Licence\n\n" + _licence(facts.base),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _front(training: TrainingSpec, base: Base) -> str:
    lora = training.model.train.lora is not None
    entries: dict[str, Any] = {"license": "unknown", **base.licence}
    if base.hub_id is not None:
        entries |= {"base_model": base.hub_id, "base_model_relation": "adapter" if lora else "finetune"}
    tags = ["text-to-image", "diffusers", "reinforcement-learning", *(["lora"] if lora else [])]
    entries |= {"library_name": "diffusers", "pipeline_tag": "text-to-image", "tags": tags}
    return f"---\n{yaml.safe_dump(entries, sort_keys=False).strip()}\n---"


def _summary(training: TrainingSpec, records: Sequence[IterationRecord], facts: Facts) -> str:
    base = (
        f"[{facts.base.hub_id}](https://huggingface.co/{facts.base.hub_id})" if facts.base.hub_id else "a local model"
    )
    what = "Adapters (LoRA) for" if training.model.train.lora else "All weights of the transformer of"
    trained = [reward.name for reward in training.rewards if reward.role == "Train"]
    last = records[-1].iteration if records else facts.iteration
    best = "" if facts.iteration == last else f" Training went on to iteration {last}; this one was evaluated best."
    return (
        f"{what} {base} ({training.model.path}), trained for {facts.iteration} iterations by "
        f"{training.algorithm.type} ([Granular-GRPO]({PAPER}) and its relatives) to raise {', '.join(trained)}.{best}"
    )


def _use(training: TrainingSpec, facts: Facts) -> str:
    sampling, base = training.sampling, facts.base.hub_id or "path/of/the/base/model"
    sigmas = ", ".join(f"{sigma:.4f}".rstrip("0").rstrip(".") for sigma in facts.sigmas)
    if training.model.train.lora:
        load = [
            f'pipeline = {facts.pipeline}.from_pretrained("{base}")',
            'pipeline.load_lora_weights("path/of/this/folder")',
        ]
    else:
        load = [
            'transformer = AutoModel.from_pretrained("path/of/this/folder", subfolder="transformer")',
            f'pipeline = {facts.pipeline}.from_pretrained("{base}", transformer=transformer)',
        ]
    lines = [
        f"from diffusers import AutoModel, FlowMatchEulerDiscreteScheduler, {facts.pipeline}",
        "",
        *load,
        "pipeline.scheduler = FlowMatchEulerDiscreteScheduler()  # the noise levels below are shifted already",
        "picture = pipeline(",
        '    "your prompt",',
        f"    height={sampling.height},",
        f"    width={sampling.width},",
        f"    guidance_scale={sampling.guidance_scale:g},",
        f"    max_sequence_length={training.model.max_sequence_length},",
        f"    sigmas=[{sigmas}],",
        ").images[0]",
    ]
    return "\n".join(["```python", *lines, "```"])


def _results(records: Sequence[IterationRecord], iteration: int) -> str:
    """A row for each reward and set of prompts: the untouched model, and the tuned one."""
    evaluated = [record for record in records if record.evaluation and record.iteration <= iteration]
    if not evaluated:
        return "Nothing was evaluated."
    role = roles(records)
    first = {(entry.split, name): s.mean for entry in evaluated[0].evaluation for name, s in entry.rewards.items()}
    lines = [
        _INTRODUCTION.format(evaluated[0].iteration, evaluated[-1].iteration),
        "",
        "| reward | role | prompts | before | after |",
        "|---|---|---|---|---|",
    ]
    for entry in evaluated[-1].evaluation:
        for name, spread in entry.rewards.items():
            before = first.get((entry.split, name), math.nan)
            lines.append(
                f"| {name} | {role[name]} | {entry.split}, {entry.prompts} | {before:.4f} | {spread.mean:.4f} |"
            )
    return "\n".join(lines)


_INTRODUCTION = """\
Mean rewards at iteration {} and at iteration {}. Held-out rewards were watched, not trained on. The prompts of `eval`
are from the training file, those of `unseen` are not."""


def _data(training: TrainingSpec) -> str:
    unseen = training.evaluation.prompts_path
    held_out = f" Evaluated on `{unseen}` as well." if unseen else ""
    return f"Prompts of `{training.prompts.path}`, no pictures: what the model draws is scored.{held_out}"


def _licence(base: Base) -> str:
    told = base.licence.get("license")
    name = f"licence, {base.licence.get('license_name', told)}," if told else "licence"
    return f"These weights are derived from the base model: its {name} holds for them."
