"""The pure core of the operator at work on the model of Kubernetes, watched at every write.

`Walk` applies decisions as the operator does, the status first, and may stop short after any write, as a crash
would. What must never be true is asserted where it would become true.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from g2rpo_api.contract import CONFIG_STOP
from g2rpo_api.job import G2RPOJob
from g2rpo_api.progress import ProgressReport
from g2rpo_api.status import JobStatus
from g2rpo_operator import render
from g2rpo_operator.decide import decide
from g2rpo_operator.observe import observe
from g2rpo_operator.statuses import with_usage
from g2rpo_operator.world import Decision, View
from testoperator.kubernetes import Kubernetes
from testoperator.records import DEFAULT_IMAGE, START, UID, report

MOST_PASSES = 4
AGES = 10_000_000


@dataclass
class Walk:
    """One job, its objects, and the operator that looks at it."""

    job: G2RPOJob
    kubernetes: Kubernetes = field(default_factory=Kubernetes)
    stored: str = "{}"
    """The status, as JSON."""
    heard: ProgressReport | None = None
    """What this operator has read of the trainer's progress."""
    listening_since: datetime | None = None
    """Since when it asks."""
    given_up: int = 0
    """Attempts that a suspension ended."""
    meddled: bool = False
    """Whether someone deleted a Job, so that an attempt's may be created again."""
    created: set[int] = field(default_factory=set)
    """Attempts whose Job was created."""
    not_before: datetime = START
    """End of the pause that the last fault calls for."""
    writes: int = 0
    """How many there were."""
    dies_before: list[int] = field(default_factory=list)
    """Numbers of the writes before which the operator dies."""
    gone: bool = False
    iteration: int = 0

    @property
    def status(self) -> JobStatus:
        return JobStatus.model_validate_json(self.stored)

    def view(self) -> View:
        status = self.status.model_copy(update={"observed_generation": 1})
        attempt = observe(status.attempt, self.kubernetes.children())
        now, since = self.kubernetes.now, self.listening_since
        return View(self.job, UID, 1, status, attempt, self.heard, now, DEFAULT_IMAGE, listening_since=since)

    # the operator

    def look(self, *, writes: int | None = None, lazily: bool = False) -> Decision:
        """Decide and carry it out.

        Args:
            writes: how many of the writes happen before the operator dies; all when None.
            lazily: leave out a status write that can wait, as one that comes soon after another is.
        """
        view = self.view()
        decision = decide(view)
        todo = self._writes(view, decision)
        if lazily and not decision.delete_self and _can_wait(self.status, decision.status):
            todo = todo[1:] if decision.status != self.status else todo
        for write in todo[:writes]:
            if self.writes in self.dies_before:
                self.dies_before.remove(self.writes)
                self.restart()
                break
            self.writes += 1
            write()
        self._listen(decision)
        if writes is not None:
            self.restart()
        return decision

    def _listen(self, decision: Decision) -> None:
        runs = decision.status.is_true("Running")
        self.listening_since = (self.listening_since or self.kubernetes.now) if runs else None
        self.heard = self.heard if runs else None

    def _writes(self, view: View, decision: Decision) -> list[Callable[[], None]]:
        if decision.delete_self:
            return [self._delete_self]
        todo: list[Callable[[], None]] = []
        if decision.status != self.status:
            todo.append(lambda: self._write_status(decision))
        todo += [lambda kind=kind: self._create(view, kind) for kind in decision.create]  # type: ignore[misc]
        if decision.request_stop:
            todo.append(self._request_stop)
        todo += [lambda target=target: self.kubernetes.delete(target) for target in decision.delete]  # type: ignore[misc]
        return todo

    def _delete_self(self) -> None:
        assert self.status.finished
        self.gone = True

    def _write_status(self, decision: Decision) -> None:
        before = self.status
        told = with_usage(before, decision.status, self.job.spec, self.kubernetes.now)
        text = json.dumps(told.model_dump(mode="json", by_alias=True, exclude_none=True), allow_nan=False)
        after = JobStatus.model_validate_json(text)
        assert after == told, "it reads back as it was written"
        if after.attempt > before.attempt > 0 and decision.rule == "suspended":
            self.given_up += 1
        self._check_counters(before, after)
        if before.finished:
            assert (after.phase, after.conditions, after.attempt) == (before.phase, before.conditions, before.attempt)
            assert after.completion_time == before.completion_time
        self.stored = text

    def _check_counters(self, before: JobStatus, after: JobStatus) -> None:
        policy = self.job.spec.policy
        assert after.attempt - before.attempt in (0, 1)
        assert after.attempt == 0 or after.attempt == 1 + after.restarts + after.disruptions + self.given_up
        assert 0 <= before.restarts <= after.restarts <= policy.max_restarts
        assert 0 <= before.disruptions <= after.disruptions <= policy.max_disruptions
        if after.restarts > before.restarts:
            pause = min(600, policy.restart_backoff_seconds * 2**before.restarts)
            self.not_before = self.kubernetes.now + timedelta(seconds=pause - 1)  # moments are written in whole seconds
        assert after.usage.active_seconds >= before.usage.active_seconds
        assert after.usage.gpu_seconds >= before.usage.gpu_seconds

    def _create(self, view: View, kind: str) -> None:
        assert not self.status.finished, "a finished job never gets a new child"
        assert not self.job.spec.suspend
        makers = {"ConfigMap": render.config_map, "Service": render.service, "Job": lambda v: render.child_job(v, 15)}
        manifest = makers[kind](view)
        assert self.kubernetes.create(manifest), f"{kind} {manifest['metadata']['name']} exists"
        if kind == "Job":
            assert manifest["metadata"]["labels"]["g2rpo.dev/attempt"] == str(self.status.attempt)
            assert not self.kubernetes.alive(), "pods of an earlier attempt, or of an earlier Job, have not ended"
            assert self.meddled or self.status.attempt not in self.created, "no attempt is repeated"
            assert self.kubernetes.now >= self.not_before, "the pause is not over"
            self.created.add(self.status.attempt)

    def _request_stop(self) -> None:
        for manifest in self.kubernetes.parts.values():
            if manifest["kind"] == "ConfigMap" and manifest["metadata"]["name"] == f"portrait-a{self.status.attempt}":
                assert CONFIG_STOP not in manifest["data"]
                manifest["data"] = {**manifest["data"], CONFIG_STOP: "now"}

    def change(self, **spec: object) -> None:
        """Someone edits the job."""
        self.job = self.job.model_copy(update={"spec": self.job.spec.model_copy(update=spec)})

    def restart(self) -> None:
        """Another operator takes over; it has heard nothing yet."""
        self.heard = self.listening_since = None

    # what is always true

    def check(self) -> None:
        """No two attempts run at once, no rank runs twice, and the trainer runs what the status says."""
        alive = self.kubernetes.alive()
        assert len({pod.attempt for pod in alive}) <= 1
        assert len({pod.index for pod in alive}) == len(alive)
        assert all(pod.attempt <= self.status.attempt for pod in alive)
        if self.status.phase == "Running":
            images = {pod.template["spec"]["containers"][0]["image"] for pod in self.kubernetes.running()}
            assert images <= {self.status.image}

    def settle(self) -> Decision:
        """Look until nothing is left to do, which must be soon; from then on only time changes it, as foretold."""
        passes = 0
        while passes < MOST_PASSES and not self.gone:
            deaths_to_come = len(self.dies_before)
            self.look()
            passes += len(self.dies_before) == deaths_to_come
        decision = decide(self.view())
        if decision.delete_self:
            return decision
        if self.job.spec.stop and self.status.phase == "Running":
            assert [part for part in self.kubernetes.parts.values() if CONFIG_STOP in part.get("data", {})]
        assert self._quiet(decision), f"writes after {MOST_PASSES} passes: {decision.rule}"
        wait = AGES if decision.look_again_seconds is None else max(0, decision.look_again_seconds - 1)
        then = decide(replace(self.view(), now=self.kubernetes.now + timedelta(seconds=wait)))
        assert self._quiet(then), f"{then.rule} would come unforeseen within {wait} s"
        return decision

    def _quiet(self, decision: Decision) -> bool:
        busy = decision.create or decision.delete or decision.request_stop or decision.delete_self
        return not busy and decision.status == self.status

    # the trainer, and a world in which nothing goes wrong

    def tell(self) -> None:
        """Rank 0 finishes an iteration, and the operator reads of it."""
        self.iteration = min(99, self.iteration + 1)
        told = report(self.iteration, attempt=self.status.attempt)
        self.heard = told.model_copy(update={"beat": self.kubernetes.now.timestamp()})

    def calm_round(self) -> None:
        """Everything that is due happens, and nothing else."""
        world = self.kubernetes
        self.settle()
        if self.gone:
            return
        world.control_jobs()
        world.collect_garbage()
        for pod in world.unplaced():
            world.place(pod)
        for pod in world.leaving():
            world.end(pod, 75 if pod.phase == "Running" else None)
        for pod in world.placed():
            world.start(pod)
        self.check()
        self._finish_ranks()
        world.now += timedelta(seconds=5)

    def _finish_ranks(self) -> None:
        """Ranks end well once all of them ran and the operator has seen it."""
        if self.status.phase == "Running":
            self.tell()
            for pod in self.kubernetes.running():
                if pod.attempt == self.status.attempt:
                    self.kubernetes.end(pod, 0)


def _can_wait(before: JobStatus, after: JobStatus) -> bool:
    def state(status: JobStatus) -> tuple[object, ...]:
        conditions = [
            (each.type, each.status, each.reason if each.status == "False" else "") for each in status.conditions
        ]
        return status.phase, status.attempt, status.restarts, status.disruptions, status.image, conditions

    return state(before) == state(after)
