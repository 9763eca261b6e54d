"""A person with the plugin at a real cluster: jobs that exist there, commands, and what they print.

Most commands run in this process, as a program would be given them; `Person.kubectl` is kubectl itself, which finds the
installed plugin in PATH.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from g2rpo_api.yamltext import documents
from g2rpo_operator.plugin.__main__ import main
from testcluster.cluster import Cluster
from testoperator.records import job_data

Object = dict[str, Any]
JOBS = "/apis/g2rpo.dev/v1alpha1/namespaces"
NOW = "2026-03-01T12:00:00Z"
ENVIRONMENT = {"COLUMNS": "120", "NO_COLOR": "1", "PYTHONWARNINGS": "error"}


def let_interrupt() -> None:
    """As in a terminal; what a shell runs in the background does not take notice of Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Lines without the space at their ends, which nobody sees."""
        return [line.rstrip() for line in self.out.splitlines()]


@dataclass
class Person:
    """Works in one namespace."""

    cluster: Cluster
    namespace: str
    capture: pytest.CaptureFixture[str]
    folder: Path
    kubeconfig: Path = field(init=False)

    def __post_init__(self) -> None:
        self.kubeconfig = self.cluster.kubeconfig

    def __call__(self, *words: str, code: int = 0) -> Said:
        """Run a command in the namespace; it must end with this exit code."""
        return self.run("-n", self.namespace, *words, code=code)

    def run(self, *words: str, code: int = 0) -> Said:
        """Run a command as it is."""
        self.capture.readouterr()
        ended = main(words)
        captured = self.capture.readouterr()
        assert ended == code, f"{words}: {captured.out}{captured.err}"
        return Said(ended, captured.out, captured.err)

    def kubectl(self, *words: str) -> str:
        """What kubectl prints in the namespace."""
        return self.cluster.kubectl("-n", self.namespace, *words)

    def environment(self, **more: str) -> dict[str, str]:
        """Of a program that shall find kubectl, the plugin and the cluster."""
        kubectl = self.cluster.programs["kubectl"].parent
        path = f"{Path(sys.executable).parent}:{kubectl}:{os.environ['PATH']}"
        return {**os.environ, **ENVIRONMENT, "PATH": path, "KUBECONFIG": str(self.kubeconfig), **more}

    @contextmanager
    def start(self, *words: str, **options: Any) -> Iterator[subprocess.Popen[Any]]:
        """`kubectl g2rpo` as a program, gone at the end of the block."""
        command = ["kubectl", "g2rpo", *words, "-n", self.namespace]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options}
        program = subprocess.Popen(
            command, env=self.environment(), start_new_session=True, preexec_fn=let_interrupt, **options
        )
        try:
            yield program
        finally:
            program.kill()
            program.wait()
            if program.stdout:
                program.stdout.close()

    def write(self, name: str = "job.yaml", data: Object | None = None, **spec: Any) -> str:
        """A file with a job named portrait, or with this data."""
        path = self.folder / name
        path.write_text(yaml.safe_dump(data or self.data(**spec)))
        return str(path)

    def data(self, job: str = "portrait", **spec: Any) -> Object:
        """A job, in no namespace yet."""
        made = job_data({"name": job}, **spec)
        del made["metadata"]["namespace"]
        return made

    def make(self, job: str = "portrait", status: Object | None = None, **spec: Any) -> Object:
        """A job in the cluster, with what an operator would have written."""
        labels = spec.pop("labels", {})
        data = self.data(job, **spec)
        data["metadata"]["labels"] = labels
        made = self.cluster.api.create(f"{JOBS}/{self.namespace}/g2rpojobs", data)
        return self.tell(job, status) if status else made

    def tell(self, job: str, status: Object) -> Object:
        """Change the status of a job."""
        return self.cluster.api.merge(f"{self.path(job)}/status", {"status": status})

    def job(self, job: str = "portrait") -> Object:
        """The job as it is."""
        return self.cluster.api.get(self.path(job))

    def exists(self, job: str = "portrait") -> bool:
        return self.cluster.api.answers(self.path(job))

    def path(self, job: str) -> str:
        return f"{JOBS}/{self.namespace}/g2rpojobs/{job}"

    def pod(self, made: Object, attempt: int, index: int = 0, **spec: Any) -> Object:
        """A pod of a job."""
        name = made["metadata"]["name"]
        labels = {
            "g2rpo.dev/job": name,
            "g2rpo.dev/job-uid": made["metadata"]["uid"],
            "g2rpo.dev/attempt": str(attempt),
        }
        container = {"name": "trainer", "image": "registry.example/trainer:1", **spec.pop("container", {})}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-a{attempt}-{index}",
                "labels": labels,
                "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            },
            "spec": {"restartPolicy": "Never", "containers": [container], **spec},
        }
        return self.cluster.api.create(f"/api/v1/namespaces/{self.namespace}/pods", body)


def condition(kind: str, value: str, reason: str, message: str = "", since: str = NOW) -> Object:
    """A condition of a job."""
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
        "observedGeneration": 1,
    }


def running(**more: Any) -> Object:
    """Status of a job that trains."""
    training = condition("Running", "True", "Training", "iterations are coming in")
    return {"phase": "Running", "attempt": 1, "observedGeneration": 1, "conditions": [training], **more}


def over(phase: str = "Succeeded", reason: str = "Completed") -> Object:
    """Status of a job that has ended."""
    kind = "Complete" if phase == "Succeeded" else "Failed"
    ended = [condition("Running", "False", "Finished"), condition(kind, "True", reason, "that was it")]
    return {"phase": phase, "attempt": 1, "observedGeneration": 1, "conditions": ended, "completionTime": NOW}


def suspended() -> Object:
    """Status of a job that stands still."""
    still = [condition("Suspended", "True", "Suspended"), condition("Running", "False", "Suspended")]
    return {"phase": "Suspended", "attempt": 1, "observedGeneration": 1, "conditions": still}


def parsed(text: str) -> Object:
    """JSON or YAML that was printed; YAML 1.2, in which 1e-05 is a number, as kubectl writes it."""
    return dict(json.loads(text) if text.startswith("{") else documents(text)[0])
