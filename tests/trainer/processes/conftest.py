"""The command as people and clusters start it: real processes, the shipped model and reward."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from g2rpo_api.contract import ExitCode
from g2rpo_api.progress import TerminationReport
from g2rpo_trainer.environment import RankEnvironment, free_port

ITERATIONS = 10
CHECKPOINT_EVERY = 5
PATIENCE_SECONDS = 240
COMMAND = [sys.executable, "-m", "g2rpo_trainer"]
TRAINING: dict[str, Any] = {
    "iterations": ITERATIONS,
    "model": {"family": "SD3", "path": "builtin:miniature", "maxSequenceLength": 8, "train": {"type": "Full"}},
    "prompts": {"path": "builtin:numbers", "perIteration": 2},
    "sampling": {"steps": 4, "shift": 1.0, "height": 16, "width": 32},
    "algorithm": {"type": "G2RPO", "g2rpo": {"groupSize": 4, "stochasticSteps": 2, "granularities": [1, 2]}},
    "rewards": [
        {"name": "paddle", "type": "PaddleOCR"},
        {"name": "dddd", "type": "DdddOCR", "role": "HeldOut"},
    ],
    "checkpoint": {"everyIterations": CHECKPOINT_EVERY},
    "evaluation": {"everyIterations": 5, "maxPrompts": 3},
}


def environment(**variables: str) -> dict[str, str]:
    """This process's, but for what makes a process a rank: another test may be one."""
    mine = RankEnvironment.alone().variables()
    return {name: value for name, value in os.environ.items() if name not in mine} | variables


@dataclass
class Process:
    """A started command."""

    popen: subprocess.Popen[str]
    last_word: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def ranks(self) -> list[int]:
        """Process ids of the ranks that it started."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def line(self, part: str) -> str:
        """The next line of its output that has the part in it."""
        assert self.popen.stdout is not None
        return next(line.strip() for line in self.popen.stdout if part in line)

    def address(self) -> str:
        """Where it answers."""
        return self.line("metrics at ").rpartition("metrics at ")[2].removesuffix("/metrics")

    def until(self, condition: Callable[[], bool]) -> None:
        """Watch something; the test fails when the process ends or nothing happens for long."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert self.popen.poll() is None, self.popen.communicate()[0]
            assert time.monotonic() < give_up, "nothing happened"
            os.sched_yield()

    def finish(self, expected: int = ExitCode.OK) -> str:
        """What it printed, after it ended as expected."""
        output, _ = self.popen.communicate(timeout=PATIENCE_SECONDS)
        assert self.popen.returncode == expected, output
        return output

    def said(self) -> TerminationReport:
        """Its last word."""
        return TerminationReport.model_validate_json(self.last_word.read_bytes())


@dataclass
class Trainer:
    """`g2rpo-train` with all runs in one folder."""

    runs: Path
    started: list[Process] = field(default_factory=list)
    training: ClassVar[dict[str, Any]] = TRAINING

    def job(self, name: str, processes: int = 1, nodes: int = 1, **training: Any) -> Path:
        path = self.runs / f"{name}.yaml"
        document = {
            "apiVersion": "g2rpo.dev/v1alpha1",
            "kind": "G2RPOJob",
            "metadata": {"name": name},
            "spec": {"workers": {"nodes": nodes, "processesPerNode": processes}, "training": TRAINING | training},
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def start(
        self,
        job: Path,
        *arguments: str,
        command: list[str] = COMMAND,
        preexec_fn: Callable[[], None] | None = None,
        **variables: str,
    ) -> Process:
        """In a process group of its own, so that everything it started can be killed at once."""
        last_word = self.runs / f"{job.stem}.{len(self.started)}.last-word"

        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # what a shell runs in the background ignores Ctrl-C
            if preexec_fn is not None:
                preexec_fn()

        popen = subprocess.Popen(
            [*command, str(job), "--runs", str(self.runs), "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=environment(G2RPO_TERMINATION_LOG=str(last_word)) | variables,
            preexec_fn=prepare,
        )
        self.started.append(Process(popen, last_word))
        return self.started[-1]

    def pods(self, job: Path, started: int = 2, **variables: str) -> list[Process]:
        """Launchers as a cluster would start them in two pods, all on this machine."""
        common = {"G2RPO_NODES": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        return [self.start(job, G2RPO_NODE_RANK=str(i), **common, **variables) for i in range(started)]

    def diary(self, name: str) -> list[dict[str, Any]]:
        """The records of a run so far, but for one that is just being written."""
        path = self.runs / name / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    trainer = Trainer(tmp_path_factory.mktemp("runs"))
    yield trainer
    for process in trainer.started:
        if process.popen.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.popen.wait()
        if process.popen.stdout is not None:
            process.popen.stdout.close()
