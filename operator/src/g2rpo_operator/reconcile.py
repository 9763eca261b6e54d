"""★ One look at one job: read → observe → decide → write the status → change its objects → tell.

Who calls this: the work queue, with the key of a job that may have changed, or whose time has come. The
status is written first, with the version that was read: of two operators only one gets through, and what
the status announces (an attempt, an end) is carried out by this look or, after a crash, by the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from g2rpo_api import contract
from g2rpo_api.base import STRUCTURE_ONLY
from g2rpo_api.errors import SpecError
from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import parse_job
from g2rpo_api.status import JobStatus, Reason
from g2rpo_operator import actions, cluster, render, statuses
from g2rpo_operator.cluster import Cluster, Resource
from g2rpo_operator.decide import decide
from g2rpo_operator.errors import AlreadyExistsError, ClusterError, RejectedError, TransientError
from g2rpo_operator.logs import job_context
from g2rpo_operator.metrics import Metrics
from g2rpo_operator.notes import notes_between
from g2rpo_operator.observe import observe
from g2rpo_operator.progress import Board, Source
from g2rpo_operator.settings import Settings
from g2rpo_operator.store import Store
from g2rpo_operator.world import Decision, Key, Kind, Note, Target, View, rfc3339

logger = logging.getLogger(__name__)

RESOURCES: dict[Kind, Resource] = {
    "G2RPOJob": cluster.JOBS,
    "Job": cluster.CHILD_JOBS,
    "Pod": cluster.PODS,
    "Service": cluster.SERVICES,
    "ConfigMap": cluster.CONFIG_MAPS,
}
AT_ONCE = 0.0
KEPT = 500
"""Jobs that are kept as they were read."""
STEPS = 4
"""How many steps of one job may follow each other at once, before others have their turn."""

Manifest = dict[str, Any]


@dataclass
class Reconciler:
    """Looks at jobs, one call per look; calls for different jobs may overlap."""

    cluster: Cluster
    store: Store
    board: Board
    settings: Settings
    metrics: Metrics
    clock: Callable[[], datetime]
    _written: dict[Key, datetime] = field(default_factory=dict)
    """When the status of a job was last written by this process."""
    _read: dict[str, tuple[Any, G2RPOJob]] = field(default_factory=dict)
    """By uid: the jobs that were looked at last, and what of them was read; to read one is a tenth of a look."""

    async def look(self, key: Key) -> float | None:
        """Look at a job, again as long as one step leads to the next: what is begun is not left for others to begin.

        Returns:
            Seconds until time alone may change what is due; None when it cannot.

        Raises:
            TransientError, ConflictError: the same look later may succeed.
        """
        after: float | None = AT_ONCE
        for _ in range(STEPS):
            if after == AT_ONCE:
                after = await self._step(key)
        return after

    async def _step(self, key: Key) -> float | None:
        manifest = self.store.job(key)
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            self._written.pop(key, None)
            return None  # its objects go with it: they name it as their owner
        status = JobStatus.model_validate(manifest.get("status") or {})
        with job_context("/".join(key), status.attempt):
            try:
                job = self._job(manifest, known=status.attempt > 0)
            except SpecError as error:
                return await self._refuse(manifest, status, error)
            view = self._view(manifest, job, status)
            return await self._carry_out(manifest, status, view, decide(view))

    def _job(self, manifest: Manifest, *, known: bool) -> G2RPOJob:
        """See `job_of`."""
        metadata = manifest["metadata"]
        says = metadata.get("generation"), metadata.get("labels"), metadata.get("annotations")
        kept = self._read.pop(metadata["uid"], None)
        if kept is None or kept[0] != says:
            kept = says, job_of(manifest, known=known)
        self._read[metadata["uid"]] = kept  # as the youngest
        if len(self._read) > KEPT:
            del self._read[next(iter(self._read))]
        return kept[1]

    def _view(self, manifest: Manifest, job: G2RPOJob, status: JobStatus) -> View:
        metadata = manifest["metadata"]
        reading = self.board.reading(metadata["uid"])
        generation = metadata.get("generation", 0)
        return View(
            job=job,
            uid=metadata["uid"],
            generation=generation,
            status=status.model_copy(update={"observed_generation": generation}),
            attempt=observe(status.attempt, self.store.children(metadata["uid"])),
            progress=reading.report,
            now=self.clock(),
            default_image=self.settings.trainer_image,
            progress_error=reading.error,
            blind=self.board.blind,
            listening_since=self.board.listening_since(metadata["uid"]),
        )

    async def _carry_out(self, manifest: Manifest, before: JobStatus, view: View, decision: Decision) -> float | None:
        if decision.delete_self:
            logger.info("time to live is over")
            await self._delete(view, Target("G2RPOJob", view.job.metadata.name, view.uid))
            return None
        self._follow(view, decision)
        wait = await self._write(manifest, before, decision.status, view)
        await self._change_objects(view, decision)
        for note in decision.notes if wait is None else ():
            await self._tell(manifest, note)
        if (wait is None and moved(before, decision.status)) or decision.create:
            return AT_ONCE
        waits = [seconds for seconds in (wait, decision.look_again_seconds) if seconds is not None]
        return max(AT_ONCE, min(waits)) if waits else None

    def _follow(self, view: View, decision: Decision) -> None:
        """Progress is read of the first pod while the attempt runs."""
        first = next((pod for pod in view.attempt.pods if pod.index == 0 and pod.phase == "Running" and pod.ip), None)
        if first is None or not decision.status.is_true("Running"):
            self.board.leave(view.uid)
        else:
            self.board.follow(Source(view.owner, view.status.attempt, first.name, first.ip), view.now)

    async def _write(self, manifest: Manifest, before: JobStatus, after: JobStatus, view: View) -> float | None:
        """Write the status if it changed; seconds to wait where the change is not worth a write yet."""
        if same_news(before, after):
            return None
        key = (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        last = self._written.get(key)
        if last is not None and not urgent(before, after):
            left = timedelta(seconds=self.settings.status_interval_seconds) - (view.now - last)
            if left > timedelta():
                return left.total_seconds()
        told = statuses.with_usage(before, after, view.job.spec, view.now)
        answer = await self.cluster.replace_status({**manifest, "status": dump(told)})
        self._written[key] = view.now
        self.store.put("G2RPOJob", answer)
        self._account(before, told)
        return None

    def _account(self, before: JobStatus, after: JobStatus) -> None:
        if before.phase != after.phase or before.attempt != after.attempt:
            logger.info("%s, attempt %d: %s", after.phase, after.attempt, reason_of(after))
        self.metrics.observe_change(before, after, self.clock())

    async def _change_objects(self, view: View, decision: Decision) -> None:
        for kind in decision.create:
            if not await self._create(view, kind):
                return
        if decision.request_stop and view.attempt.config_map is not None:
            patch = {"data": {contract.CONFIG_STOP: render.STOP_TEXT}}
            name, namespace = view.attempt.config_map.name, view.owner.namespace
            self.store.put("ConfigMap", await self.cluster.patch(cluster.CONFIG_MAPS, namespace, name, patch))
        for target in decision.delete:
            await self._delete(view, target)

    async def _create(self, view: View, kind: Kind) -> bool:
        """Create a part of the attempt; whether the job can go on."""
        manifest = self._render(view, kind)
        resource, namespace, name = RESOURCES[kind], view.owner.namespace, manifest["metadata"]["name"]
        try:
            self.store.put(kind, await self.cluster.create(resource, namespace, manifest))
            logger.info("created %s %s", kind, name)
            return True
        except AlreadyExistsError:
            return await self._adopt(view, kind, name)
        except RejectedError as error:
            if not error.permanent:
                raise
            return await self._end(view, Reason.POD_REJECTED, f"{kind} {name}: {error}")

    def _render(self, view: View, kind: Kind) -> Manifest:
        if kind == "ConfigMap":
            return render.config_map(view)
        if kind == "Service":
            return render.service(view)
        return render.child_job(view, self.settings.progress_interval_seconds)

    async def _adopt(self, view: View, kind: Kind, name: str) -> bool:
        """The name is taken: by an earlier look, by an earlier job whose objects are about to go, or by a stranger."""
        found = await self.cluster.get(RESOURCES[kind], view.owner.namespace, name)
        if found is None:
            raise TransientError(f"{kind} {name} came and went")
        owners = found["metadata"].get("ownerReferences") or ()
        if any(owner["uid"] == view.uid for owner in owners):
            self.store.put(kind, found)
            return True
        if any(owner["kind"] == contract.KIND and owner["name"] == view.job.metadata.name for owner in owners):
            raise TransientError(f"{kind} {name} of an earlier job of this name is still there")
        text = f"{kind} {name} exists and is not this job's: rename the job, or delete what is there"
        return await self._end(view, Reason.NAME_CONFLICT, text)

    async def _end(self, view: View, reason: Reason, message: str) -> bool:
        """The job cannot go on, as the API server says; always False."""
        manifest = self.store.job((view.owner.namespace, view.job.metadata.name))
        if manifest is None:
            return False
        before = JobStatus.model_validate(manifest.get("status") or {})
        after = actions.finish(view, "Failed", reason, message)
        after = after.model_copy(update={"phase": statuses.phase_of(after)})
        await self._write(manifest, before, after, view)
        for note in notes_between(before, after):
            await self._tell(manifest, note)
        return False

    async def _refuse(self, manifest: Manifest, status: JobStatus, error: SpecError) -> float | None:
        """A job that this version of the operator does not understand: refused if new, left alone if it runs."""
        if status.attempt or status.finished:
            logger.error("cannot read the job, which is left as it is: %s", error)
            return None
        now = self.clock()
        generation = manifest["metadata"].get("generation", 0)
        seen = status.model_copy(update={"observed_generation": generation})
        after = statuses.with_condition(seen, "Failed", True, Reason.INVALID_SPEC, str(error), now)
        ended = after.model_copy(update={"completion_time": rfc3339(now)})
        self.store.put("G2RPOJob", await self.cluster.replace_status({**manifest, "status": dump(ended)}))
        for note in notes_between(status, ended):
            await self._tell(manifest, note)
        return None

    async def _delete(self, view: View, target: Target) -> None:
        grace = 0 if target.force else None
        resource = RESOURCES[target.kind]
        await self.cluster.delete(resource, view.owner.namespace, target.name, target.uid, grace_seconds=grace)
        logger.info("deleted %s %s%s", target.kind, target.name, " without its node" if target.force else "")
        if target.kind == "Job":
            self.store.mark_deleting(target.uid)  # it may stay for a while
        elif target.kind == "ConfigMap":
            self.store.drop(target.kind, target.uid)

    async def _tell(self, manifest: Manifest, note: Note) -> None:
        """Events are for people; a lost one changes nothing."""
        try:
            await self.cluster.post_event(manifest, note.reason, note.message, warning=note.warning)
        except ClusterError as error:
            logger.warning("event %s was not posted: %s", note.reason, error)


def job_of(manifest: Manifest, *, known: bool) -> G2RPOJob:
    """The job in a manifest.

    Args:
        manifest: as the API server has it.
        known: whether it has begun, so that its values were checked against each other before.

    Raises:
        SpecError: this version of the operator does not understand it.
    """
    parts = ("apiVersion", "kind", "metadata", "spec")
    document = {key: manifest[key] for key in parts if key in manifest}
    if known:
        try:
            return G2RPOJob.model_validate(document, context=STRUCTURE_ONLY, by_alias=True, by_name=False)
        except ValidationError:
            pass  # the parser says in plain words what is wrong
    return parse_job(document, manifest["metadata"]["name"])


def dump(status: JobStatus) -> Manifest:
    """A status as the API server gets it."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def same_news(before: JobStatus, after: JobStatus) -> bool:
    """Whether a status says nothing new; when pods got their nodes can be read of them at any time."""
    return after.model_copy(update={"scheduled_time": before.scheduled_time}) == before


def urgent(before: JobStatus, after: JobStatus) -> bool:
    """Whether a change is more than news of progress, which can wait for more."""
    return _state(before) != _state(after)


def _state(status: JobStatus) -> tuple[object, ...]:
    conditions = tuple((c.type, c.status, c.reason if c.status == "False" else "") for c in status.conditions)
    counters = status.attempt, status.restarts, status.disruptions
    return status.phase, counters, status.image, status.completion_time, conditions


def moved(before: JobStatus, after: JobStatus) -> bool:
    """Whether another rule may match now."""
    return (before.attempt, before.phase) != (after.attempt, after.phase)


def reason_of(status: JobStatus) -> str:
    """What is to be said of the phase."""
    told = [c for c in status.conditions if c.status == "True"] or [c for c in status.conditions if c.type == "Running"]
    return f"{told[0].reason}: {told[0].message}" if told else "new"
