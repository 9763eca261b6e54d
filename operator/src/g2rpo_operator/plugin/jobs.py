"""Jobs as the API server has them: found by name, with their pods and events, and waited for.

Who calls this: the commands. How they look on the screen is the pages' business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from g2rpo_api import contract
from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import parse_job
from g2rpo_api.status import JobStatus
from g2rpo_operator.notes import WARNINGS
from g2rpo_operator.observe import pod_of
from g2rpo_operator.plugin import screen
from g2rpo_operator.plugin.advice import deciding
from g2rpo_operator.plugin.client import Client, Manifest
from g2rpo_operator.plugin.failures import PluginError, ServerError
from g2rpo_operator.resources import EVENTS, JOBS, PODS
from g2rpo_operator.world import Pod

RESOURCE = f"{contract.KIND.lower()}.{contract.GROUP}"
"""What kubectl calls the kind before a slash and a name."""
WATCH_SECONDS = 300
EXPIRED = 410


@dataclass(frozen=True)
class Seen:
    """A job as it was at some moment."""

    manifest: Manifest
    status: JobStatus

    @property
    def name(self) -> str:
        """metadata.name."""
        return str(self.manifest["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """metadata.namespace."""
        return str(self.manifest["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        """metadata.uid."""
        return str(self.manifest["metadata"]["uid"])

    @property
    def spec(self) -> dict[str, Any]:
        """spec, as it stands there."""
        spec: dict[str, Any] = self.manifest["spec"]
        return spec

    @property
    def path(self) -> str:
        """Path in the API."""
        return JOBS.path(self.namespace, self.name)

    @property
    def reference(self) -> str:
        """Kind and name, as kubectl prints them."""
        return f"{RESOURCE}/{self.name}"

    def parsed(self) -> G2RPOJob:
        """The job by its models.

        Raises:
            SpecError: it is of a definition that this plugin does not know.
        """
        return parse_job({key: part for key, part in self.manifest.items() if key != "status"}, self.name)


def seen(manifest: Manifest) -> Seen:
    """A job by its manifest.

    Raises:
        PluginError: its status cannot be read.
    """
    try:
        return Seen(manifest, JobStatus.model_validate(manifest.get("status") or {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        name = manifest["metadata"]["name"]
        raise PluginError(f"status.{where} of {name} cannot be read ({first['msg']}): update the plugin") from error


def fetch(client: Client, name: str) -> Seen:
    """The job of this name."""
    return seen(client.get(JOBS.path(client.namespace, name)))


def pods_of(client: Client, job: Seen) -> list[Pod]:
    """All pods of a job, newest attempt first, then by index."""
    selector = f"{contract.LABEL_JOB_UID}={job.uid}"
    pods = [pod_of(manifest) for manifest in client.items(PODS.path(job.namespace), labelSelector=selector)]
    return sorted(pods, key=lambda pod: (-pod.attempt, pod.index, pod.name))


def events_of(client: Client, job: Seen) -> list[Manifest]:
    """What was told about a job, in no order."""
    return client.items(EVENTS.path(job.namespace), fieldSelector=f"involvedObject.uid={job.uid}")


def until(client: Client, job: Seen, done: Callable[[Seen], bool], seconds: float) -> Seen:
    """The job once it is `done`; for ever when `seconds` is 0. What stands in its way meanwhile is told, each once.

    Raises:
        PluginError: the time is over, or the job was deleted.
    """
    deadline = time.monotonic() + seconds if seconds else None
    told = set()
    for now in _states(client, job, deadline):
        if done(now):
            return now
        why = deciding(now.status)
        if why and why.reason in WARNINGS and (now.status.attempt, why.reason) not in told:
            told.add((now.status.attempt, why.reason))
            screen.note(f"{job.name}: {why.reason}: {why.message}")
    raise PluginError(f"timed out waiting for the condition on {contract.PLURAL}/{job.name}")


def _states(client: Client, job: Seen, deadline: float | None) -> Iterator[Seen]:
    """The job as it is, then after each change, until the deadline."""
    while True:
        now = seen(client.get(job.path))
        if now.uid != job.uid:
            raise PluginError(f"{job.reference} was deleted, and another one of this name created")
        yield now
        left = WATCH_SECONDS if deadline is None else deadline - time.monotonic()
        if left <= 0:
            return
        yield from _changes(client, now, max(1, min(WATCH_SECONDS, round(left))))


def _changes(client: Client, job: Seen, seconds: int) -> Iterator[Seen]:
    since = {
        "fieldSelector": f"metadata.name={job.name}",
        "resourceVersion": job.manifest["metadata"]["resourceVersion"],
    }
    try:
        for kind, manifest in client.watch(JOBS.path(job.namespace), seconds, **since):
            if kind == "DELETED":
                raise PluginError(f"{job.reference} was deleted")
            yield seen(manifest)
    except ServerError as error:
        if error.code != EXPIRED:
            raise
