"""Text to job and back. Every mistake of a file is reported at once.

Who calls this: `g2rpo-train` with a file, the operator with what the API server gave it, `g2rpo-reward-server`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from g2rpo_api.base import STRUCTURE_ONLY, Model, all_faults
from g2rpo_api.errors import DOCUMENT, SpecError, SpecProblem, from_fault, from_pydantic, key_path, show
from g2rpo_api.job import G2RPOJob
from g2rpo_api.rewards import RewardSpec
from g2rpo_api.schema import Schema
from g2rpo_api.yamltext import Repeated, documents, text_of

M = TypeVar("M", bound=Model)
ONE_JOB = "one YAML document that is a G2RPOJob"


def load_job(path: Path) -> G2RPOJob:
    """Read a job from a YAML (or JSON) file.

    Raises:
        SpecError: the file cannot be read, is not YAML, or is not a job; with every problem found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SpecError([SpecProblem(DOCUMENT, reason, "a readable file", "check the path")], str(path)) from error
    except UnicodeDecodeError as error:
        found = f"bytes that are not UTF-8, at position {error.start}"
        raise SpecError([SpecProblem(DOCUMENT, found, "UTF-8 text", "save the file as UTF-8")], str(path)) from error
    return parse_job(text, str(path))


def parse_job(job: str | Mapping[str, Any], source: str = "job") -> G2RPOJob:
    """Make a job of YAML text, or of the mapping that such a text holds.

    Mistakes within values and keys come first; only when there are none are values checked against
    each other.

    Args:
        job: YAML or JSON text, or plain data with YAML's keys.
        source: what to call it in errors, usually the file's name.

    Raises:
        SpecError: it is not a valid job; with every problem found.
    """
    data = _read(job, source) if isinstance(job, str) else dict(job)
    return _parsed(G2RPOJob, data, job_schema(), source)


def parse_reward(reward: Mapping[str, Any], source: str) -> RewardSpec:
    """Make a reward of plain data with YAML's keys, as an item of spec.training.rewards has them.

    Raises:
        SpecError: it is not a valid reward; with every problem found.
    """
    return _parsed(RewardSpec, dict(reward), RewardSpec.model_json_schema(by_alias=True), source)


def _parsed(model: type[M], data: Any, schema: Schema, source: str) -> M:
    try:
        parsed = model.model_validate(data, context=STRUCTURE_ONLY, by_alias=True, by_name=False)
    except ValidationError as error:
        raise SpecError(from_pydantic(error.errors(include_url=False), schema), source) from error
    faults = [from_fault(fault) for fault in all_faults(parsed)]
    if faults:
        raise SpecError(faults, source)
    return parsed


def dump_job(job: G2RPOJob) -> str:
    """YAML text of a job with every default spelt out; `parse_job` reads the same job from it."""
    return text_of(job.model_dump(mode="json", by_alias=True))


@cache
def job_schema() -> Schema:
    """JSON schema of a job, by YAML keys."""
    return G2RPOJob.model_json_schema(by_alias=True)


def _read(text: str, source: str) -> Any:
    try:
        found = documents(text)
    except Repeated as error:
        problems = [
            SpecProblem(
                key_path(at), f"the key on line {first} and again on line {second}", "once", "remove one of them"
            )
            for at, first, second in error.places
        ]
        raise SpecError(problems, source) from error
    except yaml.YAMLError as error:
        raise SpecError([_not_yaml(error)], source) from error
    if len(found) != 1:
        count = "no document: the file is empty" if not found else f"{len(found)} documents"
        hint = "" if not found else "split them into files"
        raise SpecError([SpecProblem(DOCUMENT, count, ONE_JOB, hint)], source)
    if not isinstance(found[0], dict):
        raise SpecError([SpecProblem(DOCUMENT, show(found[0]), ONE_JOB, "")], source)
    return found[0]


def _not_yaml(error: yaml.YAMLError) -> SpecProblem:
    hint = "check indentation, colons and quotes around that place"
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return SpecProblem(DOCUMENT, f"not YAML: {error}", ONE_JOB, hint)
    mark = error.problem_mark
    return SpecProblem(f"line {mark.line + 1}, column {mark.column + 1}", f"not YAML: {error.problem}", ONE_JOB, hint)
