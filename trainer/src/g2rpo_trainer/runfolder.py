"""The run folder: what a run leaves on disk, and how a resumed run takes it up again.

Who calls this: build opens it, the loop appends to it. Its layout is a contract with people,
dashboards and reports; the names are in `g2rpo_api.contract`.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g2rpo_api import contract
from g2rpo_api.errors import SpecError, SpecProblem, show
from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import load_job
from g2rpo_api.yamltext import text_of
from g2rpo_trainer.errors import StorageError
from g2rpo_trainer.journal import IterationRecord
from g2rpo_trainer.reporting.curves import read_records
from g2rpo_trainer.storage import append_line, replace_file, storage_errors

MAY_CHANGE = ("iterations", "checkpoint", "deepspeed", "evaluation", "safety", "tracking", "stop")
"""Parts of spec.training that a run may take up with other values: they do not touch what is computed, but to rounding
(deepspeed)."""

ACTED_ON: Any = {
    "api_version": True,
    "kind": True,
    "metadata": {"name"},
    "spec": {"workers": {"nodes", "processes_per_node"}, "training": True},
}
"""What a trainer reads of a job; the rest is about pods."""


@dataclass(frozen=True)
class Claim:
    """That one process writes the run folder, and none that began before it.

    A pod on a machine that lost its network is deleted without that machine's word and may train on: its next
    write is refused, because the pod that took its place has put its own name here.
    """

    path: Path
    name: str

    def check(self) -> None:
        """Return where the folder is still this process's.

        Raises:
            StorageError: another one has taken it over, or it cannot be read.
        """
        with storage_errors(self.path):
            owner = self.path.read_text()
        if owner != self.name:
            raise StorageError(
                f"{self.path.parent} was taken over by {owner}, so this process ({self.name}) writes nothing more to "
                "it; let only one of them train there"
            )


@dataclass(frozen=True)
class RunFolder:
    """`<runs>/<job name>`."""

    path: Path

    @property
    def metrics(self) -> Path:
        """The diary, one line per iteration."""
        return self.path / contract.RUN_METRICS

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of all attempts."""
        return self.path / contract.RUN_CHECKPOINTS

    @property
    def texts(self) -> Path:
        """Encoded prompts of all attempts."""
        return self.path / contract.RUN_TEXTS

    def make(self) -> None:
        """Create the folders that are missing; every machine may have a disk of its own.

        Raises:
            StorageError: they cannot be made.
        """
        with storage_errors(self.path):
            for folder in (self.path, self.checkpoints, self.path / contract.RUN_SAMPLES):
                folder.mkdir(parents=True, exist_ok=True)

    def open(self, job: G2RPOJob) -> None:
        """Create what is missing and write what the trainer acts on, every default spelt out.

        Raises:
            StorageError: the folder cannot be written.
            SpecError: it holds a run of another training spec.
        """
        self.make()
        with storage_errors(self.path):
            existing = self.path / contract.RUN_JOB
            if existing.is_file():
                refuse_other_training(load_job(existing), job, self.path)
            replace_file(existing, text_of(acted_on(job)).encode())

    def claim(self, attempt: int) -> Claim:
        """Become the process that writes here; the one that did must not go on.

        Raises:
            StorageError: the folder cannot be written.
        """
        name = f"attempt {attempt} on {socket.gethostname()}, process {os.getpid()}, {uuid.uuid4().hex[:8]}"
        path = self.path / contract.RUN_OWNER
        with storage_errors(path):
            replace_file(path, name.encode())
        return Claim(path, name)

    def next_attempt(self) -> int:
        """Number of the attempt that begins now, from 1."""
        return max((record.attempt for record in self.records()), default=0) + 1

    def take_up(self, iteration: int) -> list[IterationRecord]:
        """Forget records after `iteration`, whose weights are lost and will be computed again; the others.

        What the lost ones took is not forgotten: it goes to the last one that stays.
        """
        written = self.records()
        kept = [record for record in written if record.iteration <= iteration]
        if kept:
            kept[-1] = kept[-1].model_copy(update={"spent": written[-1].spent})
        self._rewrite(kept)
        return kept

    def records(self) -> list[IterationRecord]:
        """The diary so far.

        Raises:
            DataError: a line other than a torn last one is damaged.
        """
        return read_records(self.metrics) if self.metrics.is_file() else []

    def append(self, record: IterationRecord) -> None:
        """Add a record to the diary; it is on the disk when this returns."""
        with storage_errors(self.metrics):
            append_line(self.metrics, record.model_dump_json())

    def amend(self, record: IterationRecord) -> None:
        """Put the record in place of the last one."""
        self._rewrite([*self.records()[:-1], record])

    def _rewrite(self, records: Sequence[IterationRecord]) -> None:
        with storage_errors(self.metrics):
            replace_file(self.metrics, "".join(f"{record.model_dump_json()}\n" for record in records).encode())


def acted_on(job: G2RPOJob) -> dict[str, Any]:
    """The part of a job that a trainer reads, every default spelt out, by YAML keys."""
    return job.model_dump(mode="json", by_alias=True, include=ACTED_ON)


def refuse_other_training(before: G2RPOJob, now: G2RPOJob, folder: Path) -> None:
    """Raise a SpecError that lists what differs between the run in the folder and the job.

    What `MAY_CHANGE` names may differ.
    """
    old, new = (job.spec.training.model_dump(mode="json", by_alias=True) for job in (before, now))
    problems = [
        SpecProblem(
            key=f"spec.training.{key}",
            found=show(found),
            allowed=f"{show(was)}, the value with which the run in {folder} began",
            hint="set it back, give the job another metadata.name, or move the run folder away",
        )
        for key, was, found in _differences(old, new)
        if key.partition(".")[0] not in MAY_CHANGE
    ]
    if problems:
        raise SpecError(problems, now.metadata.name)


def _differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Leaves that differ: (key path, old value, new value)."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        yield key, old, new
