"""Scripts for pods on fake nodes: a test says what happens to a pod, and its status says so as a kubelet would.

Who calls this: tests, as `cluster.pods`. A pod is an object as the API returned it: only its namespace and name count.
What pods do when no test says anything: see kwok. A pod that hangs is one about which nothing is said.
Its business ends with pods: nodes are lost and come back in cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

from testcluster.api import Api, Object
from testcluster.nodes import now
from testcluster.process import wait_until

WAIT_SECONDS = 30.0
KILLED = 137


def path(pod: Object) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def phase(pod: Object) -> str:
    return str(pod["status"].get("phase", ""))


def condition(kind: str, status: str, reason: str, message: str = "") -> Object:
    """A pod's condition that changed just now."""
    words = {"reason": reason, "message": message}
    told = {key: text for key, text in words.items() if text}
    return {"type": kind, "status": status, "lastTransitionTime": now(), **told}


def readiness(status: str, reason: str = "") -> list[Object]:
    """The two conditions that say whether a pod serves."""
    return [condition(kind, status, reason) for kind in ("ContainersReady", "Ready")]


def end(code: int, reason: str, message: str, started: str) -> Object:
    """The state of a container that ended just now."""
    state = {"exitCode": code, "reason": reason, "message": message, "startedAt": started, "finishedAt": now()}
    return {"terminated": state}


def ended(failed: bool, statuses: list[Object]) -> Object:
    """The status of a pod whose containers have all ended."""
    conditions = readiness("False", "PodFailed" if failed else "PodCompleted")
    return {"phase": "Failed" if failed else "Succeeded", "conditions": conditions, "containerStatuses": statuses}


def disruption(reason: str, message: str) -> Object:
    """The condition by which controllers tell a disruption from a fault."""
    return condition("DisruptionTarget", "True", reason, message)


def container_status(container: Object, state: Object) -> Object:
    """Status of a container of a pod's spec in a state (waiting, running or terminated)."""
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": "running" in state,
        "started": "running" in state,
        "restartCount": 0,
        "state": state,
    }


def containers(pod: Object, state: Object) -> list[Object]:
    """Statuses that put every container of a pod into the same state."""
    return [container_status(container, state) for container in pod["spec"]["containers"]]


def terminated(pod: Object, code: int, message: str, reason: str) -> Object:
    """The status of a pod whose containers all ended with this exit code and termination message."""
    started = pod["status"].get("startTime") or now()
    return ended(code != 0, containers(pod, end(code, reason, message, started)))


@dataclass(frozen=True)
class Pods:
    """The pods of a cluster."""

    api: Api

    def matching(self, namespace: str, selector: str = "") -> list[Object]:
        """Pods that match a label selector, sorted by name."""
        found = self.api.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)
        return sorted(found, key=name)

    def get(self, pod: Object) -> Object:
        """The pod as it is now."""
        return self.api.get(path(pod))

    def wait(
        self, namespace: str, selector: str, count: int, phases: tuple[str, ...] = (), seconds: float = WAIT_SECONDS
    ) -> list[Object]:
        """Wait until exactly so many pods match a label selector, all of them in one of the phases (in any if none)."""
        found: list[Object] = []

        def there() -> bool:
            found[:] = self.matching(namespace, selector)
            return len(found) == count and all(not phases or phase(pod) in phases for pod in found)

        wait_until(there, f"{count} pods {selector} {' or '.join(phases)} in {namespace}", seconds)
        return found

    def wait_running(self, namespace: str, selector: str, count: int, seconds: float = WAIT_SECONDS) -> list[Object]:
        """Wait until exactly so many pods match, all of them Running."""
        return self.wait(namespace, selector, count, ("Running",), seconds)

    def wait_gone(self, pod: Object, seconds: float = WAIT_SECONDS) -> None:
        """Wait until this very pod is gone; one of the same name that took its place is another pod."""
        uid = pod["metadata"]["uid"]
        namespace = pod["metadata"]["namespace"]

        def gone() -> bool:
            return all(other["metadata"]["uid"] != uid for other in self.matching(namespace))

        wait_until(gone, f"{path(pod)} is gone", seconds)

    def succeed(self, pod: Object, message: str = "") -> None:
        """Its containers end with exit code 0."""
        self.write(pod, terminated(self.get(pod), 0, message, "Completed"))

    def fail(self, pod: Object, exit_code: int, message: str = "", reason: str = "Error") -> None:
        """Its containers end with an exit code other than 0; reason "OOMKilled" goes with 137."""
        if exit_code == 0:
            raise ValueError("a pod that fails has an exit code other than 0")
        self.write(pod, terminated(self.get(pod), exit_code, message, reason))

    def fail_to_pull(self, pod: Object) -> None:
        """Its image cannot be pulled, as if it had never run. Images under `.invalid` do so by themselves."""
        waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image: manifest unknown"}
        pod = self.get(pod)
        conditions = readiness("False", "ContainersNotReady")
        pending = {"phase": "Pending", "conditions": conditions, "podIP": None, "podIPs": None}
        self.write(pod, {**pending, "containerStatuses": containers(pod, {"waiting": waiting})})

    def evict(self, pod: Object) -> None:
        """Ask the eviction API, as `kubectl drain` does: the API server marks the pod and deletes it."""
        metadata = {"name": name(pod), "namespace": pod["metadata"]["namespace"]}
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
        self.api.create(f"{path(pod)}/eviction", body)

    def evict_by_kubelet(self, pod: Object, message: str = "The node was low on resource: memory.") -> None:
        """The kubelet ends it for want of memory or disk: it stays, Failed, with reason Evicted."""
        pod = self.get(pod)
        status = terminated(pod, KILLED, "", "Error")
        status["conditions"].append(disruption("TerminationByKubelet", message))
        self.write(pod, {**status, "reason": "Evicted", "message": message})

    def preempt(self, pod: Object) -> None:
        """The scheduler takes its place for a pod of higher priority: it marks the pod and deletes it."""
        message = "kube-scheduler: preempting to accommodate a higher priority pod"
        self.write(pod, {"conditions": [disruption("PreemptionByScheduler", message)]})
        self.delete(pod)

    def delete(self, pod: Object) -> None:
        """Delete with the pod's own grace period; what it ends with is for its behaviour to say."""
        self.api.delete(path(pod))

    def write(self, pod: Object, status: Object) -> None:
        """Write into the status, as a kubelet does."""
        self.api.patch(f"{path(pod)}/status", {"status": status})
