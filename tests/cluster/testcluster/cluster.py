"""The test cluster: a real control plane, fake nodes kept by kwok, and scripts for their pods.

Who calls this: the fixtures, the command line and benchmarks.

    with Cluster.started() as cluster:
        cluster.nodes(4, gpus=8)
        cluster.kubectl("get", "nodes")

Its business ends with the cluster: it installs nothing of what is tested in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from testcluster import binaries, kwok
from testcluster.api import ApiError, Object
from testcluster.controlplane import ControlPlane
from testcluster.kwok import MANAGED
from testcluster.nodes import fake_node
from testcluster.options import Options
from testcluster.pods import Pods
from testcluster.process import Component, wait_until
from testcluster.processnode import ProcessNode
from testcluster.rundir import claim
from testcluster.storage import persistent_volume, storage_class

NODES = "/api/v1/nodes"
NAMESPACES = "/api/v1/namespaces"
STORAGE = {"StorageClass": "/apis/storage.k8s.io/v1/storageclasses", "PersistentVolume": "/api/v1/persistentvolumes"}
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
READY_SECONDS = 60.0


class Cluster(ControlPlane):
    """A control plane with `kwok` as one more program, and `pods` to script what happens on fake nodes."""

    def __init__(self, options: Options) -> None:
        super().__init__(claim(), binaries.ensure(), options)
        config = self.folder / "kwok.yaml"
        config.write_text(kwok.config(options))
        flags = kwok.flags(self.kubeconfig, config, self.run.fake_pods, options)
        self.kwok: Component = self.component("kwok", flags, lambda: True)
        # Otherwise kwok reads a configuration of the user's as well.
        self.kwok.env = {"KWOK_WORKDIR": str(self.folder / "kwok"), "HOME": str(self.folder)}
        self.pods = Pods(self.api)
        self.process_node: ProcessNode | None = None

    @classmethod
    @contextmanager
    def started(cls, options: Options | None = None) -> Iterator[Cluster]:
        """A running cluster for a block; nothing is left of it afterwards."""
        cluster = cls(options or Options())
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()

    @property
    def components(self) -> list[Component]:
        return [*super().components, self.kwok]

    def stop(self) -> None:
        """End everything, pods of the process node first."""
        if self.process_node:
            self.process_node.stop()
        super().stop()

    def nodes(
        self, count: int, gpus: int = 8, prefix: str = "node", labels: dict[str, str] | None = None, taint: bool = False
    ) -> list[str]:
        """Add fake nodes PREFIX-0, PREFIX-1, ... with so many `nvidia.com/gpu`; their names, once all are Ready.

        With `taint`, only pods that want a GPU get there, as on nodes of most clouds.
        """
        names = [f"{prefix}-{index}" for index in range(count)]

        def add(name: str) -> None:
            node = fake_node(name, self.run.address, gpus, labels or {})
            self.api.create(NODES, {**node, "spec": {"taints": [GPU_TAINT] if taint else []}})

        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(add, names))
        self.wait_schedulable(set(names))
        return names

    def wait_schedulable(self, names: set[str]) -> None:
        """Wait until nodes are Ready and carry no taint."""

        def all_are() -> bool:
            return names <= {node["metadata"]["name"] for node in self.api.items(NODES) if schedulable(node)}

        wait_until(all_are, f"Ready without taints: {', '.join(sorted(names))}", READY_SECONDS)

    def add_process_node(self, name: str = "process-0", gpus: int = 0) -> ProcessNode:
        """Add the node whose pods run as processes of this machine; there can be one."""
        if self.process_node:
            raise RuntimeError(f"{self.process_node.name} is there already, and one process node is all there can be")
        serving = self.authority.issue(name, f"/O=system:nodes/CN=system:node:{name}", [f"IP:{self.run.address}"])
        self.process_node = ProcessNode(self.api, self.run, name, serving, self.options.timing.lease)
        self.process_node.start(gpus)
        self.wait_schedulable({name})
        return self.process_node

    def add_storage(self, volumes: int) -> None:
        """A default storage class with so many volumes for claims of any access mode."""
        for item in storage_class(), *(persistent_volume(f"volume-{index}") for index in range(volumes)):
            self.api.create(STORAGE[item["kind"]], item)

    def lose_node(self, name: str) -> None:
        """As if the machine lost its power: no heartbeat, no pod's status changes any more.

        The node controller finds out after `timing.grace` seconds. Pods that it deletes stay until the node comes
        back or its object is deleted, as in every cluster.
        """
        self.api.merge(f"{NODES}/{name}", {"metadata": {"labels": {MANAGED: None}}})

    def restore_node(self, name: str) -> None:
        """The machine is back; returns when the node takes pods again."""
        self.api.merge(f"{NODES}/{name}", {"metadata": {"labels": {MANAGED: "true"}}})
        self.wait_schedulable({name})

    def remove_node(self, name: str) -> None:
        """Delete the node's object, as a cloud's autoscaler does; its pods follow."""
        self.api.delete(f"{NODES}/{name}")

    def add_namespace(self, name: str) -> None:
        """Create a namespace; returns when pods may be created in it."""
        self.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        account = f"{NAMESPACES}/{name}/serviceaccounts/default"
        wait_until(lambda: self.api.answers(account), f"{account} exists")

    def remove_namespace(self, name: str) -> None:
        """Ask for the deletion of a namespace and all in it, without waiting; one that is gone already is no error.

        The namespace controller begins after five seconds only; the pods' GPUs are wanted at once.
        """
        with suppress(ApiError):
            self.api.delete(f"{NAMESPACES}/{name}")
            self.api.delete(f"{NAMESPACES}/{name}/pods", gracePeriodSeconds=0)


def schedulable(node: Object) -> bool:
    """Whether a node is Ready and carries no taint but the GPUs' own."""
    found = {condition["type"]: condition["status"] for condition in node["status"].get("conditions", [])}
    return found.get("Ready") == "True" and node["spec"].get("taints", []) in ([], [GPU_TAINT])
