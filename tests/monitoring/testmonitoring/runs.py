"""Runs that live under the eyes of a real Prometheus.

One is interrupted and goes on, one collapses, the reward of one is tricked.
Who calls this: the tests of the dashboards, and the making of their pictures.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from g2rpo_api import contract
from g2rpo_api.contract import ExitCode
from g2rpo_trainer.journal import Role
from monitoring.ask import Prometheus, Span
from monitoring.queries import TRAINER
from testcluster.process import launch, wait_until
from testmonitoring.dcgm import exporter
from testmonitoring.scraping import SCRAPE_SECONDS, Pod, Targets, free_port, scraping

NAMESPACE = "art"
GOOD, BAD, TRICKED = "portrait", "portrait-hot", "portrait-flat"
"""A job that learns; the same with a learning rate at which the policy breaks; one that is paid for small files, and
draws flat pictures on which nobody reads a number."""
INTERRUPTED_AT = 12
PATIENCE_SECONDS = 900
TRAINING: dict[str, Any] = {
    "iterations": 24,
    "model": {"family": "SD3", "path": "builtin:miniature", "maxSequenceLength": 8, "train": {"type": "Full"}},
    "prompts": {"path": "builtin:numbers", "perIteration": 4},
    "sampling": {"steps": 8, "shift": 1.0, "height": 16, "width": 32},
    "algorithm": {
        "type": "G2RPO",
        "g2rpo": {"groupSize": 4, "stochasticSteps": 4, "granularities": [1, 2], "clipRange": 1e-3},
    },
    "rewards": [
        {"name": "paddle", "type": "PaddleOCR", "paddleOcr": {"score": "Likelihood"}},
        {"name": "exact", "type": "PaddleOCR", "weight": 0.5, "paddleOcr": {"score": "ExactMatch"}},
        {"name": "dddd", "type": "DdddOCR", "role": "HeldOut"},
    ],
    "optimizer": {"learningRate": 2e-4, "gradientClip": 0.05},
    "checkpoint": {"everyIterations": 5},
    "evaluation": {"everyIterations": 5, "promptsPath": "builtin:numbers-heldout", "maxPrompts": 12},
}
ROLES: dict[str, Role] = {"paddle": "train", "exact": "train", "dddd": "heldout"}
HOT = {"learningRate": 3e-3, "gradientClip": 1.0}
READ = "Likelihood"
FLAT: dict[str, Any] = {
    "iterations": 15,
    "rewards": [
        {"name": "small", "type": "JPEG"},
        {"name": "paddle", "type": "PaddleOCR", "role": "HeldOut", "paddleOcr": {"score": READ}},
        {"name": "dddd", "type": "DdddOCR", "role": "HeldOut", "ddddOcr": {"score": READ}},
    ],
    "optimizer": {"learningRate": 3e-4, "gradientClip": 1.0},
    "evaluation": {**TRAINING["evaluation"], "maxPrompts": 80},
}
FLAT_ROLES: dict[str, Role] = {"small": "train", "paddle": "heldout", "dddd": "heldout"}


@dataclass(frozen=True)
class Recording:
    """What was lived through."""

    prometheus: Prometheus
    span: Span
    runs: Path
    """Folder of the run folders."""

    def diary(self, job: str) -> list[dict[str, Any]]:
        """What a run wrote of itself."""
        lines = (self.runs / job / contract.RUN_METRICS).read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]


@contextmanager
def recorded(folder: Path) -> Iterator[Recording]:
    """A Prometheus that has seen the runs, from their first scrape to their last."""
    jobs = {
        GOOD: written(folder, GOOD, processes=2),
        BAD: written(folder, BAD, processes=1, optimizer=HOT),
        TRICKED: written(folder, TRICKED, processes=1, **FLAT),
    }
    places = [
        Pod(f"127.0.0.1:{free_port()}", job, attempt, NAMESPACE)
        for job, attempt in ((GOOD, 1), (GOOD, 2), (BAD, 1), (TRICKED, 1))
    ]
    first, second, *others = places
    with ExitStack() as closing:
        gpus = closing.enter_context(exporter(places))
        prometheus = closing.enter_context(scraping(Targets(pods=tuple(places), others={"dcgm": gpus}), folder))
        start = time.time()
        with started(jobs[GOOD], first, folder) as trainer:
            wait_until(lambda: iteration(first) >= INTERRUPTED_AT, "some iterations", PATIENCE_SECONDS)
            os.kill(ranks(trainer)[-1], signal.SIGKILL)
            assert trainer.wait(PATIENCE_SECONDS) not in (ExitCode.OK, ExitCode.CHECKPOINTED)
        with ExitStack() as running:
            rest = {pod: running.enter_context(started(jobs[pod.job], pod, folder)) for pod in (second, *others)}
            for pod, trainer in rest.items():
                said = folder / f"{pod.job}-{pod.attempt}.log"
                assert trainer.wait(PATIENCE_SECONDS) == ExitCode.OK, said.read_text()
        yield Recording(prometheus, Span(start, time.time(), SCRAPE_SECONDS), folder / "runs")


def written(folder: Path, name: str, processes: int, **training: Any) -> Path:
    """The job's file."""
    spec = {"workers": {"nodes": 1, "processesPerNode": processes}, "training": {**TRAINING, **training}}
    job = {"apiVersion": contract.API_VERSION, "kind": contract.KIND, "metadata": {"name": name}, "spec": spec}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(job), "utf-8")
    return path


@contextmanager
def started(job: Path, pod: Pod, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A trainer that serves at the pod's address, ended at the end."""
    port = pod.address.rpartition(":")[2]
    command = [sys.executable, "-m", "g2rpo_trainer", str(job), "--runs", str(folder / "runs"), "--port", port]
    more = {contract.ENV_LINGER_SECONDS: str(round(4 * SCRAPE_SECONDS)), contract.ENV_ATTEMPT: str(pod.attempt)}
    trainer = launch(command, folder / f"{pod.job}-{pod.attempt}.log", {**os.environ, **more})
    try:
        yield trainer
    finally:
        trainer.terminate()
        trainer.wait(PATIENCE_SECONDS)


def ranks(trainer: subprocess.Popen[bytes]) -> list[int]:
    """Process ids of its ranks."""
    return [int(pid) for pid in Path(f"/proc/{trainer.pid}/task/{trainer.pid}/children").read_text().split()]


def iteration(pod: Pod) -> float:
    """How far it says it is; -1 while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{pod.address}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return -1
    return next((float(line.split()[1]) for line in lines if line.startswith(f"{TRAINER}iteration ")), -1)
