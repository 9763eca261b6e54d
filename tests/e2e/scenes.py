"""A cluster as a team has it: the operator installed by Helm, a namespace for jobs, both under the restricted standard.

Who calls this: the tests of this folder.
"""

from __future__ import annotations

import copy
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from g2rpo_operator.render import curve_name
from images import facts as image_facts
from testchart import tools
from testchart.helm import Helm
from testcluster.locks import CHECKOUT
from testcluster.process import wait_until
from testnode.node import Node

OPERATOR_NAMESPACE = "g2rpo"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SAMPLE = CHECKOUT / "manifests/samples/miniature-g2rpo.yaml"
JOBS = "/apis/g2rpo.dev/v1alpha1/namespaces"
LONG_SECONDS = 300.0
"""For what takes some ten seconds on a machine with nothing else to do."""
Object = dict[str, Any]


def import_images(node: Node) -> None:
    """The images of `make images`, by the names that kubelets give them."""
    for target in ("operator", "trainer"):
        command = [sys.executable, "-m", "images", "archive", target]
        found = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
        node.load(Path(found.stdout.strip()), image_facts.image_name(image_facts.REPOSITORY, target))


def environment() -> dict[str, str]:
    """Ours, with the images' tool on the path."""
    return {**os.environ, "PYTHONPATH": str(CHECKOUT / "docker")}


def install(node: Node, home: Path) -> Helm:
    """The chart in its namespace, as the README installs it; returns when the operator is ready."""
    node.add_namespace(OPERATOR_NAMESPACE, RESTRICTED)
    helm = Helm(tools.helm(4), 4, home, node.kubeconfig, namespace=OPERATOR_NAMESPACE)
    helm.install({"replicas": 1, "settings": {"progressIntervalSeconds": 2}})
    return helm


@dataclass
class Job:
    """A G2RPOJob on the node, by its namespace and name."""

    node: Node
    namespace: str
    name: str
    runs: Path
    """The folder of its volume."""

    @property
    def path(self) -> str:
        return f"{JOBS}/{self.namespace}/g2rpojobs/{self.name}"

    def get(self) -> Object:
        return self.node.api.get(self.path)

    @property
    def status(self) -> Object:
        return dict(self.get().get("status") or {})

    def change(self, **spec: Any) -> None:
        self.node.api.merge(self.path, {"spec": spec})

    def wait(self, condition: Callable[[Object], object], what: str, seconds: float = LONG_SECONDS) -> Object:
        """The status once a condition on it is true; TimeoutError with the status and the pods if it does not come."""
        seen: list[Object] = [{}]

        def there() -> bool:
            seen[0] = self.status
            return bool(condition(seen[0]))

        try:
            wait_until(there, what, seconds, poll=0.2)
        except TimeoutError as error:
            pods = self.node.kubectl("get", "pods", "-n", self.namespace, "-o", "wide")
            raise TimeoutError(f"{error}\n{json.dumps(seen[0], indent=1)}\n{pods}\n{self.events()}") from error
        return seen[0]

    def wait_phase(self, phase: str, seconds: float = LONG_SECONDS) -> Object:
        return self.wait(lambda status: status.get("phase") == phase, f"{self.name} is {phase}", seconds)

    def wait_iteration(self, least: int, attempt: int = 1) -> Object:
        """An attempt trains and has finished so many iterations."""

        def reached(status: Object) -> bool:
            progress = status.get("progress") or {}
            running = status.get("phase") == "Running" and status.get("attempt", 0) >= attempt
            return running and progress.get("iteration", 0) >= least and self.trains()

        return self.wait(reached, f"{self.name} reaches iteration {least} in attempt {attempt}")

    def trains(self) -> bool:
        """Whether ranks are past their start."""
        return bool(self.condition("Running")["reason"] == "Training")

    def condition(self, kind: str) -> Object:
        """One of its conditions; without a reason while there is none of the kind."""
        conditions = self.status.get("conditions", [])
        return next((found for found in conditions if found["type"] == kind), {"reason": ""})

    def pods(self, attempt: int | None = None) -> list[Object]:
        """By index."""
        selector = f"g2rpo.dev/job={self.name}" + (f",g2rpo.dev/attempt={attempt}" if attempt else "")
        found = self.node.api.items(f"/api/v1/namespaces/{self.namespace}/pods", labelSelector=selector)
        return sorted(found, key=lambda pod: int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]))

    def pod(self, attempt: int, index: int) -> Object:
        return next(
            pod
            for pod in self.pods(attempt)
            if pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == str(index)
        )

    def ranks(self, attempt: int, index: int) -> list[int]:
        """Processes of a pod, the oldest first."""
        return sorted(self.node.pids(self.pod(attempt, index)["metadata"]["uid"]))

    def iterations(self) -> list[int]:
        """What the run folder's metrics.jsonl holds, in its order."""
        lines = (self.runs / self.name / "metrics.jsonl").read_text().splitlines(keepends=True)
        return [json.loads(line)["iteration"] for line in lines if line.endswith("\n")]

    def log(self) -> str:
        """The end of the run folder's log."""
        path = self.runs / self.name / "log.jsonl"
        return "\n".join(path.read_text().splitlines()[-50:]) if path.exists() else "there is none"

    def curve(self) -> Object:
        return self.node.api.get(f"/api/v1/namespaces/{self.namespace}/configmaps/{curve_name(self.name)}")

    def events(self) -> str:
        return self.node.kubectl("get", "events", "-n", self.namespace, "--sort-by=.lastTimestamp")


@dataclass
class Team:
    """A namespace for jobs, with the operator that looks after it."""

    node: Node
    namespace: str
    helm: Helm

    @cached_property
    def sample(self) -> Object:
        return dict(yaml.safe_load(SAMPLE.read_text("utf-8")))

    def manifest(self, name: str, spec: Object, training: Object) -> Object:
        """The sample on two pods that ask for a GPU each, small and short; `spec` and `training` replace keys."""
        made = copy.deepcopy(self.sample)
        made["metadata"] = {"name": name, "namespace": self.namespace}
        workers = {
            "nodes": 2,
            "processesPerNode": 1,
            "resourceName": "nvidia.com/gpu",
            "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "3Gi"}},
        }
        policy = {"restartBackoffSeconds": 1, "terminationGracePeriodSeconds": 60}
        made["spec"] |= {"workers": workers, "policy": policy}
        made["spec"]["training"] |= {"iterations": 6, "checkpoint": {"everyIterations": 2, "keepLast": 2}}
        made["spec"]["training"]["evaluation"] |= {"everyIterations": 100, "maxPrompts": 8}
        merge(made["spec"], spec)
        merge(made["spec"]["training"], training)
        return made

    @contextmanager
    def job(
        self, name: str, spec: Object | None = None, training: Object | None = None, size_mib: int | None = None
    ) -> Iterator[Job]:
        """A job with a volume of its own; deleted at the end, and its pods gone."""
        volume = f"{name}-{secrets.token_hex(3)}"
        runs = self.node.volume(volume, size_mib)
        self.claim(name, volume)
        storage = {"storage": {"runs": {"persistentVolumeClaim": {"claimName": name}}}}
        job = Job(self.node, self.namespace, name, runs)
        self.node.kubectl(
            "apply", "-f", "-", input=json.dumps(self.manifest(name, {**storage, **(spec or {})}, training or {}))
        )
        try:
            yield job
        finally:
            self.node.api.delete(job.path, propagationPolicy="Foreground")
            wait_until(lambda: not job.pods() and not self.node.api.answers(job.path), f"{name} is gone", LONG_SECONDS)

    def claim(self, name: str, volume: str) -> None:
        """A claim bound to a volume."""
        spec = {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "volumeName": volume,
            "resources": {"requests": {"storage": "1Gi"}},
        }
        metadata = {"name": name, "namespace": self.namespace}
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
        self.node.api.create(f"/api/v1/namespaces/{self.namespace}/persistentvolumeclaims", claim)

    def operator_log(self) -> str:
        """Its last lines."""
        chosen = ("-l", "app.kubernetes.io/name=g2rpo-operator", "--tail=200")
        try:
            return self.node.kubectl("logs", "-n", OPERATOR_NAMESPACE, *chosen)
        except RuntimeError as error:
            return str(error)

    def plugin(self, *arguments: str) -> str:
        """What `kubectl g2rpo` prints."""
        command = [str(Path(sys.executable).with_name("kubectl-g2rpo")), *arguments, "--namespace", self.namespace]
        env = {**environment(), "KUBECONFIG": str(self.node.kubeconfig)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"kubectl g2rpo {' '.join(arguments)}: {done.stderr}")
        return done.stdout


def merge(into: Object, changes: Object) -> None:
    """Replace keys, those of nested mappings one by one; None removes a key."""
    for key, value in changes.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
