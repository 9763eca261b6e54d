"""Node objects: fake ones that kwok keeps alive, and what a node of processes says about itself.

Who calls this: cluster and processnode.
Its business ends with JSON objects: it sends nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime

from testcluster.api import Object
from testcluster.kwok import MANAGED

HEALTHY = {
    "Ready": ("True", "KubeletReady", "the node takes pods"),
    "MemoryPressure": ("False", "KubeletHasSufficientMemory", "there is enough memory"),
    "DiskPressure": ("False", "KubeletHasNoDiskPressure", "there is enough disk"),
    "PIDPressure": ("False", "KubeletHasSufficientPID", "there are enough process ids"),
}


def now() -> str:
    """The time as Kubernetes writes it: UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def conditions(time: str) -> list[Object]:
    """Conditions of a healthy node."""
    return [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": time,
            "lastTransitionTime": time,
        }
        for kind, (status, reason, message) in HEALTHY.items()
    ]


def node(name: str, address: str, resources: dict[str, str], labels: dict[str, str]) -> Object:
    """A Ready node as a kubelet registers it; all of `resources` can be allocated."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **labels}},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": conditions(now()),
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
        },
    }


def fake_node(name: str, address: str, gpus: int, labels: dict[str, str]) -> Object:
    """A node of kwok's, of the size of a large GPU server; none of `nvidia.com/gpu` if `gpus` is 0."""
    resources = {"cpu": "128", "memory": "1Ti", "ephemeral-storage": "4Ti", "pods": "110"}
    if gpus:
        resources["nvidia.com/gpu"] = str(gpus)
    return node(name, address, resources, {MANAGED: "true", **labels})
