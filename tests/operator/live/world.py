"""One job on the cluster, from the point of view of the person and the nodes: what they do, and what they see."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import yaml

from g2rpo_api import contract
from g2rpo_api.contract import ExitCode
from live.operators import Operator, Stage
from live.recorder import CHILDREN, PATHS, index, namespaced
from live.trainer import Trainer, report
from testcluster.api import ApiError, Object
from testcluster.locks import CHECKOUT
from testcluster.process import wait_until

SAMPLE = CHECKOUT / "manifests/samples/miniature-g2rpo.yaml"
WORKERS = {"nodes": 2, "processesPerNode": 1}
STORAGE = {"runs": {"hostPath": {"path": "/runs"}}}
POLICY = {"restartBackoffSeconds": 0, "terminationGracePeriodSeconds": 1}
TEAMS = ("team-a", "team-b")
"""Namespaces that the shared operator serves."""
WAIT_SECONDS = 90.0
NOT_FOUND = 404
LAST_LINES = 40


def manifest(name: str, spec: Mapping[str, Any]) -> Object:
    """The sample under another name, for two pods without GPUs, with further keys of its spec."""
    job = yaml.safe_load(SAMPLE.read_text())
    job["metadata"] = {"name": name}
    return merged(job, {"spec": {"workers": WORKERS, "storage": STORAGE, "policy": POLICY}}, {"spec": spec})


def merged(base: Any, *changes: Mapping[str, Any]) -> Any:
    """Mappings merged at every depth; what comes later wins."""
    result = copy.deepcopy(base)
    for change in changes:
        for key, value in change.items():
            deeper = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if deeper else copy.deepcopy(value)
    return result


@dataclass
class World:
    """A job of its own name, the operator that serves its namespace, and whatever is opened until the end."""

    stage: Stage
    operator: Operator
    namespace: str
    name: str
    closing: ExitStack = field(default_factory=ExitStack)
    uid: str = ""
    """Of the job that was created last."""
    others: list[World] = field(default_factory=list)
    """Worlds of the same test."""

    def __post_init__(self) -> None:
        self.cluster, self.pods = self.stage.cluster, self.stage.cluster.pods
        self.api, self.recorder = self.stage.cluster.api, self.stage.recorder

    def twin(self) -> World:
        """A job of the same name in the other namespace that the operator serves."""
        (other,) = set(TEAMS) - {self.namespace}
        return self.elsewhere(other)

    def elsewhere(self, namespace: str) -> World:
        """A job of the same name in another namespace."""
        self.others.append(World(self.stage, self.operator, namespace, self.name, self.closing))
        return self.others[-1]

    def apart(self, *more: str, clusterwide: bool = False, **settings: object) -> World:
        """A job in a namespace of its own, with an operator of its own that serves only this namespace and `more`."""
        served = () if clusterwide else (self.name, *more)
        for namespace in (self.name, *more):
            self.cluster.add_namespace(namespace)
            self.closing.callback(self.cluster.remove_namespace, namespace)
        world = self.elsewhere(self.name)
        world.operator = self.stage.operator(*served, **settings)
        self.closing.callback(self.stage.retire, world.operator)
        world.operator.start()
        return world

    def replica(self, **settings: object) -> Operator:
        """Another operator beside the one of `apart`, not started."""
        second = self.stage.operator(self.namespace, **settings)
        self.closing.callback(self.stage.retire, second)
        return second

    # What a person does

    def path(self, kind: str, name: str = "") -> str:
        return namespaced(PATHS[kind], self.namespace) + (f"/{name}" if name else "")

    def create(self, labels: Mapping[str, str] | None = None, **spec: Any) -> str:
        """Create the job; keys of its spec are merged into the sample's. Its uid."""
        job = manifest(self.name, spec)
        job["metadata"]["labels"] = dict(labels or {})
        self.uid = str(self.api.create(self.path("G2RPOJob"), job)["metadata"]["uid"])
        return self.uid

    def change(self, **spec: Any) -> None:
        """Change the job's spec."""
        self.api.merge(self.path("G2RPOJob", self.name), {"spec": spec})

    def delete(self, kind: str, name: str, **options: Any) -> None:
        self.api.delete(self.path(kind, name), **options)

    def get(self, kind: str, name: str) -> Object | None:
        """An object; None if there is none of this name."""
        try:
            return self.api.get(self.path(kind, name))
        except ApiError as error:
            if error.code != NOT_FOUND:
                raise
            return None

    def job(self) -> Object:
        """The job as it is now."""
        return self.api.get(self.path("G2RPOJob", self.name))

    # What nodes do

    def trainer(self, pod: Object, attempt: int, iteration: int, **more: Any) -> Trainer:
        """Serve progress at the address of a pod."""
        return self.stage.trainer(pod["status"]["podIP"], report(self.name, attempt, iteration, **more))

    def lose(self, pod: Object, exit_code: int, message: str = "", reason: str = "Error") -> None:
        """A pod ends badly, and the others of its attempt, whose ranks lost its own, with it."""
        self.pods.fail(pod, exit_code, message, reason)
        attempt = int(pod["metadata"]["labels"][contract.LABEL_ATTEMPT])
        for other in self.pods_of(attempt):
            if other["metadata"]["uid"] != pod["metadata"]["uid"]:
                self.pods.fail(other, ExitCode.PEER_LOST)

    def succeed(self, attempt: int) -> None:
        """Every rank of an attempt ends well."""
        for pod in self.pods_of(attempt):
            self.pods.succeed(pod)

    # What is seen

    def labels(self, attempt: int) -> dict[str, str]:
        """Of the objects of an attempt."""
        return {contract.LABEL_JOB_UID: self.uid, contract.LABEL_ATTEMPT: str(attempt)}

    def pods_of(self, attempt: int) -> list[Object]:
        """Pods of an attempt as they are now, by rank."""
        selector = ",".join(f"{key}={value}" for key, value in self.labels(attempt).items())
        return sorted(self.pods.matching(self.namespace, selector), key=index)

    # Waiting goes by what was recorded: it costs the API server nothing.

    def wait(self, what: str, condition: Callable[[Object], object], seconds: float = WAIT_SECONDS) -> Object:
        """Wait until the job's status is so; the status."""
        found: list[Object] = []

        def so() -> bool:
            states = self.recorder.states(self.uid)
            found[:] = [state["status"] for state in states[-1:] if "status" in state]
            return any(condition(status) for status in found)

        wait_until(so, f"{self.namespace}/{self.name}: {what}", seconds)
        return found[0]

    def phase(self, name: str, attempt: int | None = None, seconds: float = WAIT_SECONDS) -> Object:
        """Wait for a phase, of an attempt if one is named; the status."""

        def reached(status: Object) -> bool:
            return status["phase"] == name and attempt in (None, status["attempt"])

        return self.wait(f"{name}, attempt {attempt}", reached, seconds)

    def running(self, attempt: int = 1, pods: int = 2, seconds: float = WAIT_SECONDS) -> list[Object]:
        """Wait until an attempt runs; its pods by rank."""
        self.phase("Running", attempt, seconds)
        found: list[Object] = []

        def all_run() -> bool:
            found[:] = sorted(self.recorder.alive("Pod", self.namespace, labels=self.labels(attempt)), key=index)
            return [index(pod) for pod in found if pod["status"]["phase"] == "Running"] == list(range(pods))

        wait_until(all_run, f"{pods} pods of attempt {attempt} run", seconds)
        return found

    def without_pods(self, attempt: int, seconds: float = WAIT_SECONDS) -> None:
        """Wait until an attempt has no pods."""
        recorded = partial(self.recorder.alive, "Pod", self.namespace, labels=self.labels(attempt))
        wait_until(lambda: not recorded(), f"no pods of attempt {attempt}", seconds)
        assert self.pods_of(attempt) == []

    def there(self, kind: str, name: str, other_than: str = "", seconds: float = WAIT_SECONDS) -> Object:
        """Wait for an object of this job, of another uid if one is given; the object."""
        found: list[Object] = []

        def seen() -> bool:
            found[:] = self.recorder.alive(kind, self.namespace, name)
            return bool(found) and found[0]["metadata"]["uid"] != other_than

        wait_until(seen, f"{kind} {name} is there", seconds)
        return found[0]

    def replaced(self, kind: str, name: str) -> None:
        """Delete an object, and wait until there is another of its name."""
        before = self.there(kind, name)["metadata"]["uid"]
        self.delete(kind, name)
        self.there(kind, name, other_than=before)

    def gone(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait until neither the job nor anything of it is left."""
        wait_until(lambda: self.recorder.is_deleted(self.uid), f"{self.name} is gone", seconds)
        self.bare(seconds)

    def bare(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait until the job has no objects."""
        wait_until(lambda: not self.recorded(), f"nothing is left of {self.name}", seconds)
        assert self.leftovers() == []

    def recorded(self) -> list[str]:
        """Objects that carry the job's name in their labels, as they were recorded."""
        mine = partial(self.recorder.alive, namespace=self.namespace, labels={contract.LABEL_JOB: self.name})
        return [f"{kind} {item['metadata']['name']}" for kind in CHILDREN for item in mine(kind)]

    def leftovers(self) -> list[str]:
        """Objects that carry the job's name in their labels, as they are now."""
        mine = {"labelSelector": f"{contract.LABEL_JOB}={self.name}"}
        items = {kind: self.api.items(self.path(kind), **mine) for kind in CHILDREN}
        return [f"{kind} {item['metadata']['name']}" for kind, found in items.items() for item in found]

    def attempts(self, uid: str) -> dict[int, int]:
        """How many Jobs were ever created for each attempt."""
        return self.recorder.attempts(uid)

    def events(self) -> list[tuple[str, str]]:
        """Type and reason of the events about the job, oldest first."""
        found = self.api.items(
            f"/api/v1/namespaces/{self.namespace}/events", fieldSelector=f"involvedObject.name={self.name}"
        )
        found.sort(key=lambda event: int(event["metadata"]["resourceVersion"]))
        return [(event["type"], event["reason"]) for event in found]

    def story(self) -> str:
        """What a person wants to read when a test fails."""
        states = self.recorder.states(self.uid)
        told = {
            "objects of it": "\n".join(self.recorded()),
            f"{self.namespace}/{self.name} at last": yaml.safe_dump(states[-1].get("status") if states else None),
            "the operator's log of it": "\n".join(self.operator.log(self.name)[-LAST_LINES:]),
            "the end of the operator's log": "\n".join(self.operator.log()[-LAST_LINES:]),
        }
        own = "\n".join(f"{head}:\n{text}" for head, text in told.items())
        return "\n".join([own, *(other.story() for other in self.others)])


def condition(status: Object, kind: str) -> tuple[str, str]:
    """Status and reason of a condition."""
    found = next((c for c in status.get("conditions", []) if c["type"] == kind), None)
    return (found["status"], found["reason"]) if found else ("", "")
