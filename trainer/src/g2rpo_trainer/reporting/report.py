"""report.html: one self-contained page about a run, for someone who has never seen the code.

Who calls this: the loop after evaluations and at the end, and whoever wants the page again from a run
folder. It only reads the run folder; what the charts, tables and the verdict say is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from g2rpo_api import contract
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.journal import Role
from g2rpo_trainer.reporting.curves import read_records
from g2rpo_trainer.reporting.history import Records, attempt_starts, roles, trained
from g2rpo_trainer.reporting.pictures import gallery
from g2rpo_trainer.reporting.tables import duration, phase_rows, score_rows, setting_groups, single_rows, totals
from g2rpo_trainer.reporting.verdict import verdict
from g2rpo_trainer.storage import replace_file, storage_errors

ROLES: dict[str, Role] = {"Train": "train", "HeldOut": "heldout"}


@dataclass(frozen=True)
class Job:
    """What the page says of the job: its text, and what could be read from it."""

    text: str
    content: Mapping[str, Any]
    """Empty where job.yaml is missing or no YAML."""

    @property
    def training(self) -> Mapping[str, Any]:
        """spec.training, empty where there is none."""
        spec = self.content.get("spec")
        training = spec.get("training") if isinstance(spec, Mapping) else None
        return training if isinstance(training, Mapping) else {}

    @property
    def iterations(self) -> int | None:
        """Iterations planned."""
        planned = self.training.get("iterations")
        return planned if isinstance(planned, int) else None

    def name(self, default: str) -> str:
        """metadata.name."""
        metadata = self.content.get("metadata")
        return str(metadata.get("name", default)) if isinstance(metadata, Mapping) else default

    def roles(self) -> dict[str, Role]:
        """Role of each reward that the job declares."""
        rewards = self.training.get("rewards")
        declared = [reward for reward in rewards if isinstance(reward, Mapping)] if isinstance(rewards, list) else []
        return {str(reward.get("name")): ROLES.get(str(reward.get("role", "Train")), "train") for reward in declared}


def write_report(run_dir: Path) -> Path:
    """Write `report.html` of a run folder; replaces the file at once.

    Returns:
        Its path.

    Raises:
        DataError: metrics.jsonl is missing, empty or damaged.
        StorageError: the page cannot be written.
    """
    path = run_dir / contract.RUN_REPORT
    page = render(run_dir).encode()
    with storage_errors(path):
        replace_file(path, page)
    return path


def render(run_dir: Path) -> str:
    """The page; everything it needs is in it.

    Raises:
        DataError: metrics.jsonl is missing, empty or damaged.
    """
    from g2rpo_trainer.reporting import agreement_charts, panels, picture_charts  # noqa: PLC0415 - a trainer starts without matplotlib's second

    records = read_records(run_dir / contract.RUN_METRICS)
    if not records:
        raise DataError(f"{run_dir / contract.RUN_METRICS} holds no whole record yet; wait for the first iteration")
    job = read_job(run_dir / contract.RUN_JOB)
    declared = job.roles()
    return _template().render(
        name=job.name(run_dir.name),
        summary=summary(records, job),
        verdict=verdict(records, declared),
        gallery=gallery(run_dir / contract.RUN_SAMPLES, records[-1].iteration),
        scores=score_rows(records, declared),
        single=single_rows(records, roles(records, declared)),
        rewards=[*panels.reward_charts(records, declared), *agreement_charts.agreement_charts(records)],
        attempts=attempt_starts(records),
        appearance=picture_charts.appearance_charts(records),
        health=panels.health_charts(records),
        time=panels.time_charts(records),
        phases=phase_rows(records),
        totals=totals(records),
        settings=setting_groups(job.content),
        job_text=job.text,
    )


def read_job(path: Path) -> Job:
    """The job as the run folder has it; a page is made without it, too."""
    if not path.is_file():
        return Job("", {})
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return Job(text, {})
    return Job(text, content if isinstance(content, Mapping) else {})


def summary(records: Records, job: Job) -> list[str]:
    """A few facts for the head of the page."""
    done = len(trained(records))
    planned = f" of {job.iterations:,}" if job.iterations else ""
    spent = duration(sum(record.step_seconds for record in records))
    until = datetime.fromtimestamp(records[-1].time, UTC).strftime("%Y-%m-%d %H:%M UTC")
    model, algorithm = job.training.get("model"), job.training.get("algorithm")
    facts = [
        str(algorithm.get("type")) if isinstance(algorithm, Mapping) else "",
        str(model.get("path")) if isinstance(model, Mapping) else "",
        f"{done:,}{planned} iterations",
        spent,
        until,
    ]
    return [fact for fact in facts if fact and fact != "None"]


@cache
def _template() -> Template:
    loader = PackageLoader("g2rpo_trainer.reporting")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2")
