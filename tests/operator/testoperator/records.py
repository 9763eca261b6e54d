"""What tests of the operator are made of: jobs, statuses, pods and views, with a clock that starts at 0.

A test says only what matters to it. Times are seconds after `START`; the text of a moment is written here
independently of the operator.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import parse_job
from g2rpo_api.progress import ProgressReport
from g2rpo_api.status import Condition, JobStatus
from g2rpo_operator.world import Attempt, ChildJob, Part, Pod, View

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NAME, NAMESPACE, UID = "portrait", "team", "0a1b2c3d-0000-4000-8000-000000000001"
DEFAULT_IMAGE = "registry.example/trainer:1.0"
TRAINING = {
    "iterations": 100,
    "seed": 7,
    "model": {"family": "SD3", "path": "org/model", "train": {"type": "LoRA"}},
    "prompts": {"path": "prompts.txt", "perIteration": 4},
    "sampling": {"height": 64, "width": 64},
    "algorithm": {"type": "G2RPO"},
    "rewards": [{"name": "ocr", "type": "PaddleOCR"}],
}

Data = dict[str, Any]


def at(seconds: float) -> datetime:
    """A moment."""
    return START + timedelta(seconds=seconds)


def time(seconds: float) -> str:
    """A moment as Kubernetes writes it."""
    return at(seconds).replace(tzinfo=None, microsecond=0).isoformat() + "Z"


def job(metadata: Data | None = None, **spec: Any) -> G2RPOJob:
    """A job with two nodes of one process each; keys of its spec as in YAML."""
    return parse_job(job_data(metadata, **spec))


def job_data(metadata: Data | None = None, **spec: Any) -> Data:
    """The same before it is read. `training` and `workers` are added to what stands there."""
    training = TRAINING | spec.pop("training", {})
    workers = {"nodes": 2} | spec.pop("workers", {})
    return {
        "apiVersion": "g2rpo.dev/v1alpha1",
        "kind": "G2RPOJob",
        "metadata": {"name": NAME, "namespace": NAMESPACE} | (metadata or {}),
        "spec": {"training": training, "workers": workers, **spec},
    }


def condition(kind: str, status: str, reason: str, since: float = 0, message: str = "") -> Condition:
    """A condition of a job."""
    return Condition.model_validate(
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": time(since),
            "observedGeneration": 1,
        }
    )


def status(*conditions: Condition, **fields: Any) -> JobStatus:
    """A status; the first attempt begins at 0 unless it says otherwise."""
    begun = {"attempt": 1, "attempt_time": time(0), "start_time": time(0)}
    known = {"observed_generation": 1} | (begun if fields.get("attempt", 1) else {})
    return JobStatus(conditions=conditions, **{**known, **fields})


def running_status(since: float = 30, **fields: Any) -> JobStatus:
    """Status of a job whose ranks run."""
    times = {"scheduled_time": time(10), "running_time": time(since)}
    training = condition("Running", "True", "Training", since, "iterations are coming in")
    return status(training, **{"phase": "Running", **times, **fields})


def pod(index: int = 0, attempt: int = 1, **fields: Any) -> Pod:
    """A running pod."""
    name = f"{NAME}-a{attempt}-{index}-xyz{index}"
    place = {"node": f"node-{index}", "scheduled": True, "ip": f"10.0.0.{index + 1}"}
    known = {"phase": "Running", "job_uid": f"job-{attempt}", **place}
    return Pod(name=name, uid=f"pod-{attempt}-{index}", attempt=attempt, index=index, **{**known, **fields})


def pending_pod(index: int = 0, attempt: int = 1, **fields: Any) -> Pod:
    """A pod that no node has taken yet."""
    return pod(index, attempt, **{"phase": "Pending", "node": "", "scheduled": False, "ip": "", **fields})


def ended_pod(exit_code: int | None, index: int = 0, ended: float = 100, attempt: int = 1, **fields: Any) -> Pod:
    """A pod whose container ended, or that failed without an exit code."""
    phase = "Succeeded" if exit_code == 0 else "Failed"
    finished = "" if exit_code is None else time(ended)
    return pod(index, attempt, **{"phase": phase, "exit_code": exit_code, "finished_at": finished, **fields})


def child(attempt: int = 1, **fields: Any) -> ChildJob:
    """The Job of an attempt."""
    return ChildJob(name=f"{NAME}-a{attempt}", uid=f"job-{attempt}", attempt=attempt, **fields)


def config_map(attempt: int = 1, *, stop: bool = False) -> Part:
    """The ConfigMap of an attempt."""
    return Part(f"{NAME}-a{attempt}", f"config-{attempt}", attempt, stop)


def attempt_of(*pods: Pod, number: int = 1, **fields: Any) -> Attempt:
    """An attempt that has all its objects, with these pods."""
    parts = {"job": child(number), "config_map": config_map(number), "service": Part(NAME, "service", 0)}
    return Attempt(number=number, pods=pods, **{**parts, **fields})


def view(of: G2RPOJob | None = None, now: float = 200, **fields: Any) -> View:
    """A job of two nodes in the middle of its first attempt, seen at a moment."""
    known = {"status": running_status(), "attempt": attempt_of(pod(0), pod(1)), "progress": None}
    return View(job=of or job(), uid=UID, generation=1, now=at(now), default_image=DEFAULT_IMAGE, **{**known, **fields})


def later(seen: View, seconds: float) -> View:
    """The same view some time later."""
    return replace(seen, now=seen.now + timedelta(seconds=seconds))


def report(iteration: int = 10, beat: float = 190, attempt: int = 1, **fields: Any) -> ProgressReport:
    """What a trainer tells in the middle of training."""
    known = {
        "job": NAME,
        "attempt": attempt,
        "phase": "Training",
        "iteration": iteration,
        "total": 100,
        "percent": float(iteration),
        "eta_seconds": 900.4,
        "beat": at(beat).timestamp(),
    }
    return ProgressReport(**{**known, **fields})
