"""A cluster of one node that really runs containers: kubelet, containerd and CoreDNS beside the control plane.

    python -m testnode run -- python -c '
    from testnode.node import Node
    with Node.started() as node:
        print(node.kubectl("get", "nodes"))'

Who calls this: the fixtures of the end-to-end tests and `python -m testnode up`, always inside the node's namespaces.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from testcluster import binaries, kubeconfig
from testcluster.cluster import NAMESPACES, NODES, schedulable
from testcluster.controlplane import ControlPlane
from testcluster.options import Options, Timing
from testcluster.process import Component, wait_until
from testcluster.rundir import RunDir, claim
from testnode import configs
from testnode.facts import API_PORT, INSIDE, NODE, NODE_IP, PATH, PAUSE_IMAGE
from testnode.images import Containerd, write_pause_image
from testnode.inside import groups

GPU = "nvidia.com/gpu"
VOLUMES = "/api/v1/persistentvolumes"
OPTIONS = Options(
    apiserver=("--bind-address=0.0.0.0",),
    controllers="*",
    timing=Timing(lease=40, monitor=2, grace=40, toleration=30),
    api_port=API_PORT,
)


class NodeRun(RunDir):
    """The folder of a cluster whose network is its own."""

    @property
    def address(self) -> str:
        """Where the control plane listens, for pods as well."""
        return NODE_IP


class Node(ControlPlane):
    """A control plane with `containerd`, `kubelet` and `coredns` as further programs."""

    name = NODE

    def __init__(self) -> None:
        if INSIDE not in os.environ:
            raise RuntimeError("a node has namespaces of its own: python -m testnode run -- COMMAND")
        taken = claim()
        programs = {**binaries.ensure(), **binaries.ensure(binaries.NODE), "containerd": Path("/usr/bin/containerd")}
        super().__init__(NodeRun(taken.number, taken.folder, taken.lock), programs, OPTIONS)
        self.socket = self.folder / "containerd.sock"
        self.runtime = Containerd(self.socket)
        self.containerd = self.program("containerd", self._containerd_flags(), self.socket_answers)
        self.kubelet = self.program("kubelet", self._kubelet_flags(), self.is_ready)
        self.coredns = self.program("coredns", self._coredns_flags(), self.names_are_told)

    @classmethod
    @contextmanager
    def started(cls, gpus: int = 8) -> Iterator[Node]:
        """A running node for a block, with GPUs that it only says it has; nothing is left of it afterwards."""
        node = cls()
        try:
            node.start()
            node.advertise(gpus)
            yield node
        finally:
            node.stop()

    @property
    def components(self) -> list[Component]:
        return [*super().components, self.coredns]

    def program(self, name: str, flags: list[str], ready: object) -> Component:
        component = self.component(name, flags, ready)
        component.env = {"PATH": PATH, "HOME": str(self.folder)}
        return component

    def start(self) -> None:
        """Start everything; returns when the node is Ready."""
        self.containerd.launch()
        super().start()
        self.containerd.wait_ready()
        image = self.folder / "pause.tar"
        write_pause_image(image)
        self.load(image, PAUSE_IMAGE)
        self.kubelet.start()

    def stop(self) -> None:
        """End everything and remove the folder, the pods' mounts first."""
        self.kubelet.kill()
        self.end_containers()
        self.containerd.kill()
        self.unmount()
        super().stop()

    def end_containers(self) -> None:
        """Kill what containers run: their processes are not children of containerd."""
        for shim in self.processes("containerd-shim"):
            for pid in (*children(shim), shim):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def processes(self, name: str) -> list[int]:
        """Processes of a name, in the node's namespace."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "exe").readlink().name.startswith(name):
                    found.append(int(folder.name))
        return found

    def unmount(self) -> None:
        """Detach all that is mounted below the folder, the deepest first."""
        mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for path in sorted((path for path in mounted if path.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "--lazy", path], check=False)

    def _containerd_flags(self) -> list[str]:
        folder, network = self.folder / "containerd", self.folder / "network"
        for made in (folder, network):
            made.mkdir()
        (network / "10-bridge.conflist").write_text(json.dumps(configs.network(self.folder)))
        path = self.folder / "containerd.toml"
        path.write_text(configs.containerd(folder, self.socket, network))
        return [f"--config={path}"]

    def _kubelet_flags(self) -> list[str]:
        serving = self.authority.issue("kubelet", f"/O=system:nodes/CN=system:node:{NODE}", [f"IP:{NODE_IP}"])
        group = os.environ[INSIDE]
        for folder in groups(group):
            folder.mkdir(exist_ok=True)
            inherit_cpus(folder)
        (self.folder / "resolv.conf").write_text("")
        path = self.folder / "kubelet.yaml"
        authority = self.authority.pair.certificate
        path.write_text(yaml.safe_dump(configs.kubelet(self.folder, self.socket, authority, serving, group)))
        return [
            f"--config={path}",
            f"--kubeconfig={self.write_kubeconfig('kubelet', kubeconfig.certificate(serving))}",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_IP}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--cert-dir={self.folder / 'kubelet-pki'}",
        ]

    def _coredns_flags(self) -> list[str]:
        path = self.folder / "Corefile"
        path.write_text(configs.coredns(self.kubeconfig))
        return [f"-conf={path}"]

    def socket_answers(self) -> bool:
        """Whether containerd serves."""
        with suppress(RuntimeError):
            return bool(self.runtime.ctr("version"))
        return False

    def is_ready(self) -> bool:
        """Whether the node is Ready and takes pods."""
        return any(schedulable(node) for node in self.api.items(NODES))

    def names_are_told(self) -> bool:
        """Whether CoreDNS serves."""
        connection = http.client.HTTPConnection("127.0.0.1", 8181, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def advertise(self, gpus: int) -> None:
        """Say that the node has GPUs: scheduler and kubelet hand them out, nobody uses them."""
        path = f"{NODES}/{NODE}/status"
        self.api.request(
            "PATCH", path, {"status": {"capacity": {GPU: str(gpus)}, "allocatable": {GPU: str(gpus)}}},
            "application/strategic-merge-patch+json",
        )  # fmt: skip

    def load(self, archive: Path, name: str = "") -> None:
        """Bring an image from a file to the node, under a name as kubelets spell it out (docker.io/g2rpo/…)."""
        self.runtime.load(archive, name)

    def pids(self, pod_uid: str) -> list[int]:
        """Processes of a pod's containers, which may be signalled."""
        return self.runtime.pids(pod_uid)

    def volume(self, name: str, size_mib: int | None = None) -> Path:
        """A volume that a claim may name; its folder, which everybody may write. With a size, it is full at that."""
        folder = self.folder / "volumes" / name
        folder.mkdir(parents=True)
        if size_mib is not None:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)], check=True)
        folder.chmod(0o777)
        spec = {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder)},
        }
        self.api.create(
            VOLUMES, {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
        )
        return folder

    def add_namespace(self, name: str, labels: dict[str, str]) -> None:
        """Create a namespace; returns when pods may be created in it."""
        metadata = {"name": name, "labels": labels}
        self.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        account = f"{NAMESPACES}/{name}/serviceaccounts/default"
        wait_until(lambda: self.api.answers(account), f"{account} exists")


def children(pid: int) -> list[int]:
    """Processes that a process started and that still run."""
    text = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in text.read_text().split()] if text.exists() else []


def inherit_cpus(folder: Path) -> None:
    """A new cgroup of version 1 has no processors until it is told which."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (folder / name).exists() and not (folder / name).read_text().strip():
            (folder / name).write_text((folder.parent / name).read_text())
