"""Jobs as the plugin sees them, made of the operator's records; a page as a person reads it.

A test says only what matters to it. Times are seconds after `records.START`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from g2rpo_api.status import JobProgress, JobStatus
from g2rpo_operator.plugin.jobs import Seen
from g2rpo_operator.plugin.page import Scene, page
from g2rpo_operator.world import Pod
from testoperator.records import NAME, NAMESPACE, UID, at, job_data, running_status, time

WIDTH = 100
POLICY = {"maxRestarts": 3, "maxDisruptions": 20}


def seen_job(status: JobStatus | None = None, generation: int = 1, **spec: Any) -> Seen:
    """A job with a status, created a minute before `START`."""
    metadata = {"uid": UID, "creationTimestamp": time(-60), "generation": generation, "namespace": NAMESPACE}
    manifest = job_data({"name": NAME, **metadata}, **{"policy": POLICY, **spec})
    return Seen(manifest, running_status() if status is None else status)


def read_page(
    status: JobStatus | None = None, now: float = 200, pods: Sequence[Pod] = (), events: Sequence[Any] = (), **job: Any
) -> str:
    """The text of a job's page."""
    return "\n".join(part.plain for part in page(Scene(seen_job(status, **job), pods, events, at(now)), WIDTH))


def told(iteration: int = 40, beat: float = 190, **fields: Any) -> JobProgress:
    """Progress of a job of 100 iterations, as the operator writes it; keys as in YAML."""
    known = {
        "attempt": 1,
        "iteration": iteration,
        "total": 100,
        "step": f"{iteration}/100",
        "percent": float(iteration),
        "etaSeconds": 900,
        "phase": "Training",
        "reward": 0.6021,
        "best": 0.6114,
        "delta": 0.2893,
        "rewards": [
            {"name": "ocr", "role": "Train", "mean": 0.6021, "best": 0.6114, "delta": 0.2893},
            {"name": "reader", "role": "HeldOut", "mean": 0.43, "best": 0.45, "delta": -0.02},
        ],
        "curve": [{"iteration": n, "reward": n / 100} for n in range(1, min(iteration, 64) + 1)],
        "beatTime": time(beat),
    }
    return JobProgress.model_validate({**known, **fields})


def event(reason: str, message: str, last: float, kind: str = "Normal", count: int = 1) -> dict[str, Any]:
    """An event as the API server keeps it."""
    moments = {"firstTimestamp": time(last - 1), "lastTimestamp": time(last)}
    return {
        "metadata": {"creationTimestamp": time(last)},
        "reason": reason,
        "message": message,
        "type": kind,
        "count": count,
        **moments,
    }
