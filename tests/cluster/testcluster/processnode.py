"""A node whose pods are processes of this machine: for people, and for end-to-end tests without containers.

Who calls this: cluster. The node is an ordinary one to the scheduler and to controllers; this module is its kubelet.

A pod's containers run their command with this Python's programs first in PATH. They share the machine's files and
ports; each pod has an address of its own, but two that listen on the same port at every address collide. Images,
probes, resources, users, `restartPolicy` (nothing is started again) and init containers mean nothing here; projected
volumes are empty folders. What mounted paths and DNS names become: see podspec.
Its business ends with pods of its node.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from testcluster import kubelet_server, podprocess
from testcluster.api import Api, ApiError, Object
from testcluster.certificates import Pair
from testcluster.kubelet_server import KUBELET_PORT
from testcluster.nodes import conditions, node, now
from testcluster.podprocess import START_ERROR, PodProcess
from testcluster.pods import path, phase, terminated
from testcluster.podspec import Place, UnsupportedError, hostname
from testcluster.podvolumes import NOT_FOUND, Volumes
from testcluster.rundir import RunDir

KIND_LABEL, KIND = "testcluster.dev/kind", "process"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
SYNC_SECONDS = 0.2
KILLED = 137


class Addresses:
    """An address of its own for each pod; that of a pod with a DNS name is known before the pod is there."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.known: dict[tuple[str, ...], str] = {}

    def of(self, *name: str) -> str:
        return self.known.setdefault(name, self.run.process_address(len(self.known)))

    def of_pod(self, pod: Object) -> str:
        subdomain = pod["spec"].get("subdomain")
        if subdomain:
            return self.of(pod["metadata"]["namespace"], subdomain, hostname(pod))
        return self.of(pod["metadata"]["uid"])


@dataclass
class ProcessNode:
    """A node named `name`; its files lie in `folder`, claims and host paths in `shared`."""

    api: Api
    run: RunDir
    name: str
    serving: Pair
    lease_seconds: int
    pods: dict[str, PodProcess] = field(default_factory=dict)
    renewed: float = 0.0

    def __post_init__(self) -> None:
        self.folder, self.shared = self.run.folder / "pods", self.run.folder / "shared"
        self.addresses = Addresses(self.run)
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.work, name=f"testcluster-{self.name}", daemon=True)

    def start(self, gpus: int) -> None:
        """Register the node and begin to run its pods."""
        self.folder.mkdir(exist_ok=True)
        self.api.create("/api/v1/nodes", self.node_object(gpus))
        self.server = kubelet_server.serve(self.run.address, self.serving, self.api.authority, self.log_of)
        self.thread.start()

    def stop(self) -> None:
        """End all pods at once; the node's object stays, as that of a machine that lost its power."""
        self.ending.set()
        self.thread.join()
        self.server.shutdown()
        self.server.server_close()
        for pod in self.pods.values():
            pod.kill()

    def node_object(self, gpus: int) -> Object:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        resources = {"cpu": str(os.cpu_count()), "memory": f"{memory}Mi", "pods": "110"}
        if gpus:
            resources["nvidia.com/gpu"] = str(gpus)
        found = node(self.name, self.run.address, resources, {KIND_LABEL: KIND})
        found["status"]["daemonEndpoints"] = {"kubeletEndpoint": {"Port": KUBELET_PORT}}
        return found

    def work(self) -> None:
        """Bring pods to what the API says, over and over. An API server that is away is asked again."""
        while not self.ending.wait(SYNC_SECONDS):
            try:
                self.renew()
                self.sync()
            except OSError:
                continue

    def renew(self) -> None:
        """Say that the node lives, four times in a lease."""
        if time.monotonic() - self.renewed < self.lease_seconds / 4:
            return
        time_now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self.name, "leaseDurationSeconds": self.lease_seconds, "renewTime": time_now}
        lease = {"metadata": {"name": self.name}, "spec": spec}
        try:
            self.api.merge(f"{LEASES}/{self.name}", lease)
        except ApiError as error:
            if error.code != NOT_FOUND:
                raise
            self.api.create(LEASES, lease)
        self.api.patch(f"/api/v1/nodes/{self.name}/status", {"status": {"conditions": conditions(now())}})
        self.renewed = time.monotonic()

    def sync(self) -> None:
        """One look at all pods of this node."""
        found = self.api.items("/api/v1/pods", fieldSelector=f"spec.nodeName={self.name}")
        for pod in found:
            try:
                self.step(pod)
            except ApiError as error:
                # It is gone, or what it mounts is not there yet, or it changed meanwhile: the next look sees.
                if error.code not in (NOT_FOUND, 409):
                    raise
        for uid in self.pods.keys() - {pod["metadata"]["uid"] for pod in found}:
            self.forget(uid)

    def step(self, pod: Object) -> None:
        """Do what a pod's object asks for."""
        running = self.pods.get(pod["metadata"]["uid"])
        deleted = "deletionTimestamp" in pod["metadata"]
        if running is not None:
            self.look_after(running, pod, deleted)
        elif phase(pod) in ("Succeeded", "Failed"):
            if deleted and pod["metadata"]["deletionGracePeriodSeconds"] > 0:
                self.api.delete(path(pod), gracePeriodSeconds=0)
        elif deleted:
            self.write(pod, terminated(pod, KILLED, "", "Error"))
        else:
            self.begin(pod)

    def begin(self, pod: Object) -> None:
        """Start a pod, or say why it cannot run here."""
        metadata = pod["metadata"]
        folder = self.folder / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
        volumes = Volumes(self.api, pod, folder / "volumes", self.shared)
        try:
            started = podprocess.start(pod, volumes, self.place(pod), folder)
        except UnsupportedError as error:
            self.write(pod, terminated(pod, START_ERROR, f"a process node cannot run this pod: {error}", "StartError"))
            return
        self.pods[metadata["uid"]] = started
        self.write(pod, started.status())

    def place(self, pod: Object) -> Place:
        def address_of(name: str) -> str:
            return self.addresses.of(pod["metadata"]["namespace"], pod["spec"]["subdomain"], name)

        return Place(self.addresses.of_pod(pod), self.run.address, {}, address_of)

    def look_after(self, running: PodProcess, pod: Object, deleted: bool) -> None:
        """End a pod that is deleted, report one that has ended, keep the files of the others fresh."""
        if deleted:
            running.terminate(pod["metadata"]["deletionGracePeriodSeconds"])
        running.check()
        if running.running:
            running.refresh()
            return
        self.write(pod, running.status())
        self.forget(pod["metadata"]["uid"])

    def forget(self, uid: str) -> None:
        """A pod that has ended or whose object is gone: nothing of it may run on."""
        gone = self.pods.pop(uid)
        gone.kill()
        gone.clean()

    def write(self, pod: Object, status: Object) -> None:
        self.api.patch(f"{path(pod)}/status", {"status": {"hostIP": self.run.address, **status}})

    def log_of(self, namespace: str, pod: str, container: str) -> kubelet_server.Log | None:
        """The newest log of a container; those of pods that have ended are there, too."""
        found = sorted(self.folder.glob(f"{namespace}_{pod}_*/{container}.log"), key=lambda log: log.stat().st_mtime)
        if not found:
            return None
        uid = found[-1].parent.name.rpartition("_")[2]
        return kubelet_server.Log(found[-1], lambda: uid in self.pods and self.pods[uid].running)
