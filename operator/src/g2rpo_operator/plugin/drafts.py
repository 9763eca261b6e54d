"""Jobs in files: read, judged with all mistakes at once, and compared with what exists.

Who calls this: `kubectl g2rpo check` and `submit`. Whether a cluster takes them is its business.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g2rpo_api.errors import SpecError, SpecProblem, show
from g2rpo_api.job import G2RPOJob, JobSpec
from g2rpo_api.parse import load_job, parse_job
from g2rpo_api.yamltext import documents
from g2rpo_operator.plugin.client import Manifest
from g2rpo_operator.plugin.failures import MistakesError, PluginError
from g2rpo_operator.plugin.jobs import RESOURCE, Seen

STDIN = "-"
FIXED = ("training", "storage")
"""Parts of spec that cannot change once the job exists."""


@dataclass(frozen=True)
class Draft:
    """A job that is right as far as can be told without a cluster."""

    source: str
    job: G2RPOJob
    manifest: Manifest
    """As it is written, defaults not spelt out."""

    @property
    def name(self) -> str:
        """metadata.name."""
        return self.job.metadata.name


def read(files: Sequence[str]) -> list[Draft]:
    """The jobs of files; `-` is stdin.

    Raises:
        MistakesError: some hold no job, or one that is not right; with every problem of every file.
        PluginError: no file is named.
    """
    if not files:
        raise PluginError("name at least one file with a job, or - for stdin")
    drafts, mistakes = [], []
    for name in files:
        try:
            drafts.append(_read(name))
        except SpecError as error:
            mistakes.append(error)
    if mistakes:
        raise MistakesError(mistakes)
    return drafts


def _read(name: str) -> Draft:
    if name == STDIN:
        source, text = "stdin", sys.stdin.read()
        job = parse_job(text, source)
    else:
        source, job = name, load_job(Path(name))
        text = Path(name).read_text(encoding="utf-8")
    (manifest,) = documents(text)
    return Draft(source, job, manifest)


def summary(draft: Draft) -> str:
    """What a right job is, in a line."""
    training, workers = draft.job.spec.training, draft.job.spec.workers
    rewards = ", ".join(reward.name for reward in training.rewards)
    return (
        f"{draft.source}: {RESOURCE}/{draft.name} is valid: {training.algorithm.type}, {training.iterations} "
        f"iterations, {workers.nodes} x {workers.processes_per_node} ranks, rewards {rewards}"
    )


def refuse_another(draft: Draft, existing: Seen) -> None:
    """Compare with the job of the same name that exists.

    Raises:
        MistakesError: they differ in what cannot be changed; with every key.
    """
    old, new = existing.parsed().spec, draft.job.spec
    found = [leaf for part in FIXED for leaf in differences(_plain(old, part), _plain(new, part), f"spec.{part}")]
    problems = [
        SpecProblem(
            key=key,
            found=show(now),
            allowed=f"{show(was)}, as in the job {existing.name} that exists in the namespace {existing.namespace}",
            hint="it cannot be changed: give the job another metadata.name; under this one a new job would find the "
            "run folder of the old one on the volume, and refuse to mix two trainings",
        )
        for key, was, now in found
    ]
    if problems:
        raise MistakesError([SpecError(problems, draft.source)])


def in_place(draft: Draft, existing: Seen) -> Manifest:
    """The spec to send where there is a job: a part that means the same stands as it does there, defaults spelt out.

    A part belongs to one owner as a whole: what differs in form only would be a conflict with whoever wrote it.
    """
    old, new = existing.parsed().spec, draft.job.spec

    def same(part: str, value: object) -> bool:
        return isinstance(value, Mapping) and part in existing.spec and _plain(old, part) == _plain(new, part)

    return {part: existing.spec[part] if same(part, value) else value for part, value in draft.manifest["spec"].items()}


def _plain(spec: JobSpec, part: str) -> Any:
    return spec.model_dump(mode="json", by_alias=True, include={part})[part]


def differences(old: Any, new: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Leaves that differ: key path, old value, new value."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from differences(old.get(name), new.get(name), f"{key}.{name}")
    elif old != new:
        yield key, old, new
