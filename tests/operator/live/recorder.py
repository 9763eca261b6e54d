"""Everything that ever happened to jobs and their objects, as the API server's watches told it, and what must never.

A look at the end shows the end only; a pod that was doubled for a second is seen here.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from itertools import pairwise
from urllib.parse import urlencode

from g2rpo_api import contract
from testcluster.api import Api, ApiError, Object
from testcluster.process import wait_until

PATHS = {
    "G2RPOJob": f"/apis/{contract.API_VERSION}/{contract.PLURAL}",
    "Job": "/apis/batch/v1/jobs",
    "Pod": "/api/v1/pods",
    "Service": "/api/v1/services",
    "ConfigMap": "/api/v1/configmaps",
}
CHILDREN = tuple(kind for kind in PATHS if kind != "G2RPOJob")
WATCH_SECONDS, RETRY_SECONDS = 120, 0.2
OVER = ("Succeeded", "Failed")


def namespaced(path: str, namespace: str) -> str:
    """Path of a kind's objects in one namespace."""
    group, _, plural = path.rpartition("/")
    return f"{group}/namespaces/{namespace}/{plural}"


def selector(kind: str) -> dict[str, str]:
    """Which objects of a kind are watched."""
    return {} if kind == "G2RPOJob" else {"labelSelector": contract.LABEL_JOB_UID}


def version(item: Object) -> int:
    return int(item["metadata"]["resourceVersion"])


def job_uid(item: Object) -> str:
    return str(item["metadata"]["labels"][contract.LABEL_JOB_UID])


def attempt(item: Object) -> int:
    """Number of the attempt that an object belongs to; 0 for what all share."""
    return int(item["metadata"]["labels"].get(contract.LABEL_ATTEMPT, "0"))


def index(pod: Object) -> int:
    return int(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])


def finished(job: Object) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


@dataclass
class Life:
    """One object from its creation on."""

    states: list[Object] = field(default_factory=list)
    deleted_version: int | None = None

    @property
    def first(self) -> Object:
        return self.states[0]

    @property
    def last(self) -> Object:
        return self.states[-1]

    @property
    def namespace(self) -> str:
        return str(self.first["metadata"]["namespace"])

    @property
    def end(self) -> float:
        """Version at which a pod ended or went; infinite while it lives."""
        ended = (version(state) for state in self.states if state["status"].get("phase") in OVER)
        return next(ended, float("inf") if self.deleted_version is None else self.deleted_version)


@dataclass
class Recorder:
    """Watches until it is stopped."""

    api: Api
    lives: dict[str, dict[str, Life]] = field(default_factory=lambda: {kind: {} for kind in PATHS})
    """By kind and uid."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        for kind in PATHS:
            threading.Thread(target=self._follow, args=(kind,), name=f"recorder-{kind}", daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()

    def _follow(self, kind: str) -> None:
        seen = ""
        while not self.stopped.wait(RETRY_SECONDS):
            with suppress(OSError, ApiError, HTTPException, ValueError):  # the API server may end amid a line
                seen = seen or self._list(kind)
                for event, item in self.api.watch(PATHS[kind], WATCH_SECONDS, resourceVersion=seen, **selector(kind)):
                    if event == "ERROR":  # it does not remember what happened since then
                        seen = ""
                        break
                    seen = item["metadata"]["resourceVersion"]
                    self._take(kind, event, item)

    def _list(self, kind: str) -> str:
        """Take in what is there now; the version of the list."""
        listing = self.api.get(f"{PATHS[kind]}?{urlencode(selector(kind))}")
        for item in listing["items"]:
            self._take(kind, "ADDED", item)
        there = {item["metadata"]["uid"] for item in listing["items"]}
        with self.lock:
            for uid, life in self.lives[kind].items():
                if uid not in there and life.deleted_version is None:
                    life.deleted_version = version(listing)
        return str(listing["metadata"]["resourceVersion"])

    def _take(self, kind: str, event: str, item: Object) -> None:
        with self.lock:
            life = self.lives[kind].setdefault(item["metadata"]["uid"], Life())
            if event == "DELETED":
                life.deleted_version = version(item)
            if not life.states or version(life.last) < version(item):
                life.states.append(item)

    def alive(self, kind: str, namespace: str, name: str = "", labels: Mapping[str, str] | None = None) -> list[Object]:
        """Objects that are there, of this name and with these labels, as they were seen last."""
        wanted = (labels or {}).items()
        with self.lock:
            lives = [life for life in self.lives[kind].values() if life.deleted_version is None]
            found = [life.last for life in lives if life.namespace == namespace]
        named = [item for item in found if name in ("", item["metadata"]["name"])]
        return [item for item in named if wanted <= item["metadata"].get("labels", {}).items()]

    def of(self, kind: str, uid: str) -> list[Life]:
        """Every object of a kind that ever belonged to a job, oldest first."""
        with self.lock:
            found = [life for life in self.lives[kind].values() if job_uid(life.first) == uid]
        return sorted(found, key=lambda life: version(life.first))

    def ownerless(self) -> list[str]:
        """Objects that are there, and whose job is not."""
        with self.lock:
            jobs = {uid for uid, life in self.lives["G2RPOJob"].items() if life.deleted_version is None}
            lives = [(kind, life) for kind in CHILDREN for life in self.lives[kind].values()]
        left = [(kind, life.last) for kind, life in lives if life.deleted_version is None]
        return [f"{kind} {item['metadata']['name']}" for kind, item in left if job_uid(item) not in jobs]

    def jobs(self, name: str) -> dict[str, str]:
        """uid and namespace of every G2RPOJob of this name that was ever seen."""
        with self.lock:
            lives = self.lives["G2RPOJob"].items()
            return {uid: life.namespace for uid, life in lives if life.first["metadata"]["name"] == name}

    def catch_up(self, namespace: str, seconds: float = 30.0) -> None:
        """Wait until everything that is so now in a namespace has been recorded."""
        for kind, path in PATHS.items():
            listing = self.api.get(f"{namespaced(path, namespace)}?{urlencode(selector(kind))}")
            wait_until(partial(self._has, kind, namespace, listing), f"{kind}s of {namespace} are recorded", seconds)

    def _has(self, kind: str, namespace: str, listing: Object) -> bool:
        now = {item["metadata"]["uid"]: version(item) for item in listing["items"]}
        with self.lock:
            lives = {uid: life for uid, life in self.lives[kind].items() if life.namespace == namespace}
        late = [uid for uid, seen in now.items() if uid not in lives or version(lives[uid].last) < seen]
        older = {uid for uid, life in lives.items() if version(life.first) <= version(listing)}
        return not late and all(lives[uid].deleted_version is not None for uid in older - set(now))

    def states(self, uid: str) -> list[Object]:
        """Every state of a G2RPOJob."""
        with self.lock:
            life = self.lives["G2RPOJob"].get(uid)
            return list(life.states) if life else []

    def is_deleted(self, uid: str) -> bool:
        """Whether a G2RPOJob was there and is gone."""
        with self.lock:
            life = self.lives["G2RPOJob"].get(uid)
            return life is not None and life.deleted_version is not None

    def attempts(self, uid: str) -> dict[int, int]:
        """How many Jobs were ever created for each attempt."""
        return dict(Counter(attempt(life.first) for life in self.of("Job", uid)))

    def faults(self, uid: str) -> list[str]:
        """What happened to a job that must never happen, whatever breaks."""
        pods, jobs, states = self.of("Pod", uid), self.of("Job", uid), self.states(uid)
        return [*doubled(pods), *mixed(pods), *unannounced(jobs, states), *revived(jobs, states), *miscounted(states)]


def doubled(pods: list[Life]) -> Iterator[str]:
    """Two pods of one rank that lived at once."""
    ranks = defaultdict(list)
    for pod in pods:
        ranks[attempt(pod.first), index(pod.first)].append(pod)
    for (number, rank), lives in ranks.items():
        if any(older.end > version(newer.first) for older, newer in pairwise(lives)):
            yield f"rank {rank} of attempt {number} had two living pods"


def mixed(pods: list[Life]) -> Iterator[str]:
    """Pods of two attempts that lived at once."""
    for pod in pods:
        older = [other for other in pods if attempt(other.first) < attempt(pod.first)]
        late = [other.first["metadata"]["name"] for other in older if other.end > version(pod.first)]
        if late:
            yield f"{pod.first['metadata']['name']} was created while {', '.join(late)} lived"


def unannounced(jobs: list[Life], states: list[Object]) -> Iterator[str]:
    """An attempt that was begun before it was written down."""
    for job in jobs:
        known = [state for state in states if version(state) < version(job.first)]
        if max((state.get("status", {}).get("attempt", 0) for state in known), default=0) < attempt(job.first):
            yield f"attempt {attempt(job.first)} was begun before the status told of it"


def revived(jobs: list[Life], states: list[Object]) -> Iterator[str]:
    """A finished job that began again."""
    ends = [version(state) for state in states if finished(state)]
    for job in jobs:
        if ends and version(job.first) > ends[0]:
            yield f"attempt {attempt(job.first)} was begun after the end"
    if ends and not all(finished(state) for state in states if version(state) > ends[0]):
        yield "the end was taken back"


def miscounted(states: list[Object]) -> Iterator[str]:
    """Counts that jump or fall."""
    for key in ("attempt", "restarts", "disruptions"):
        counts = [state.get("status", {}).get(key, 0) for state in states]
        steps = {after - before for before, after in pairwise(counts)}
        if not steps <= {0, 1}:
            yield f"status.{key} went {counts}"
