"""One job on a screen: what it does, whether that is all right and what to do if not. Pure.

Who calls this: `kubectl g2rpo status`. Progress and lists have modules of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.text import Text

from g2rpo_api.status import Condition, Failure
from g2rpo_operator.plugin import advice, progress
from g2rpo_operator.plugin.ages import age, span
from g2rpo_operator.plugin.client import Manifest
from g2rpo_operator.plugin.jobs import Seen
from g2rpo_operator.plugin.lists import event_rows, pod_rows
from g2rpo_operator.plugin.words import BAD, FAINT, HEADER, WARY, line, paragraph, style_of
from g2rpo_operator.statuses import active_seconds, gpu_seconds
from g2rpo_operator.world import Pod

UNSEEN_SECONDS = 30
"""Age of a job without a status from which the operator is missed."""
MOST_LINES = 12
"""Last lines of a failed rank that are shown."""


@dataclass(frozen=True)
class Scene:
    """Everything that the page tells of."""

    job: Seen
    pods: Sequence[Pod]
    events: Sequence[Manifest]
    now: datetime


def page(scene: Scene, width: int) -> list[Text]:
    """The page, in lines and paragraphs.

    Args:
        width: columns of the screen.
    """
    sections = (
        [*_title(scene), *_verdict(scene, width)],
        progress.section(scene.job.status, scene.now, width),
        list(_account(scene)),
        list(_failure(scene, width)),
        pod_rows(scene.pods, scene.job.status.attempt, width),
        event_rows(scene.events, scene.now, width),
    )
    return [part for section in sections if section for part in (*section, Text())][:-1]


def _title(scene: Scene) -> Iterator[Text]:
    job, status = scene.job, scene.job.status
    condition = advice.deciding(status)
    since = f" for {age(_since(scene, condition), scene.now)}" if condition else ""
    made = f"namespace {job.namespace}, created {age(job.manifest['metadata']['creationTimestamp'], scene.now)} ago"
    yield line((job.name, HEADER), "  ", (status.phase, style_of(status.phase)), since, (f"  ({made})", FAINT))


def _since(scene: Scene, condition: Condition | None) -> str:
    status = scene.job.status
    if status.phase == "Starting" and status.scheduled_time:
        return status.scheduled_time
    return condition.last_transition_time if condition else ""


def _verdict(scene: Scene, width: int) -> Iterator[Text]:
    """Why the phase is what it is, and what to do."""
    job, status = scene.job, scene.job.status
    condition = advice.deciding(status)
    if condition is None:
        seconds = (scene.now - datetime.fromisoformat(job.manifest["metadata"]["creationTimestamp"])).total_seconds()
        if seconds >= UNSEEN_SECONDS:
            yield paragraph(
                "No operator has seen this job: is it installed, running, and watching this namespace?", width, WARY
            )
        return
    yield paragraph(f"{condition.reason}: {condition.message}" if condition.message else condition.reason, width)
    meaning = advice.of_reason(condition.reason)
    if meaning.rstrip(".").lower() != condition.message.lower():
        yield from _paragraphs(meaning, width)
    generation = job.manifest["metadata"].get("generation", 0)
    if status.observed_generation < generation and not status.finished:
        yield paragraph("The newest change of spec was not acted on yet.", width, WARY)
    if status.retry_time and datetime.fromisoformat(status.retry_time) > scene.now:
        left = (datetime.fromisoformat(status.retry_time) - scene.now).total_seconds()
        yield paragraph(f"Attempt {status.attempt} begins in {span(left)}.", width)
    if job.spec.get("stop") and not status.finished:
        yield paragraph("spec.stop is true: the job ends as soon as its ranks run.", width)


def _account(scene: Scene) -> Iterator[Text]:
    """What it took so far."""
    status, policy = scene.job.status, scene.job.spec.get("policy") or {}
    if status.attempt == 0:
        return
    counts = [
        f"attempt {status.attempt}",
        f"restarts {status.restarts} of {policy.get('maxRestarts', '?')}",
        f"disruptions {status.disruptions} of {policy.get('maxDisruptions', '?')}",
    ]
    yield line(("Attempts  ", HEADER), ", ".join(counts))
    workers = scene.job.spec.get("workers") or {}
    nodes, processes = workers.get("nodes", 1), workers.get("processesPerNode", 1)
    hours = gpu_seconds(status, nodes * processes, scene.now) / 3600
    used = [f"{hours:.2f} GPU-hours", f"active for {span(active_seconds(status, scene.now))}"]
    yield line(("Usage     ", HEADER), ", ".join(used))
    ranks = f"{nodes} x {processes} ranks"
    what = [
        ranks,
        f"image {status.image}" if status.image else "",
        f"seed {status.seed}" if status.seed is not None else "",
    ]
    yield line(("Runs      ", HEADER), ", ".join(filter(None, what)))


def _failure(scene: Scene, width: int) -> Iterator[Text]:
    """How the last attempt ended that did not succeed; nothing that the page says already."""
    failure, condition = scene.job.status.last_failure, advice.deciding(scene.job.status)
    if failure is None:
        return
    when = f", attempt {failure.attempt}, {age(failure.time, scene.now)} ago: {_who(failure)}"
    yield line(("Last failure  ", HEADER), (failure.reason, BAD), when)
    if condition is None or failure.message not in condition.message:
        yield paragraph(failure.message, width)
    yield from _paragraphs(advice.of_cause(failure.reason), width)
    if failure.last_lines not in failure.message:
        last = failure.last_lines.splitlines()[-MOST_LINES:]
        yield from (line(("  │ ", FAINT), text) for text in last)


def _who(failure: Failure) -> str:
    """The rank that failed first, as far as it is known."""
    code = "no exit code" if failure.exit_code is None else f"exit code {failure.exit_code}"
    pod = f"pod {failure.pod}" if failure.pod else "no pod"
    return f"{code}, {pod}" + (f" on {failure.node}" if failure.node else "")


def _paragraphs(text: str, width: int) -> Iterator[Text]:
    if text:
        yield paragraph(f"→ {text}", width, FAINT)
