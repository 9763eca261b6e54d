"""What the operator's benchmarks share: jobs, the operator as a process of its own, what it used."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from g2rpo_operator.cluster import Cluster, Resource
from testcluster.cluster import Cluster as TestCluster
from testcluster.process import launch, wait_until

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "scale"
ACCOUNT = ("g2rpo-system", "g2rpo-operator")
SIMULTANEOUS = 32
QUIET = {
    "G2RPO_OPERATOR_LEADER_ELECTION": "false",
    "G2RPO_OPERATOR_LOG_LEVEL": "WARNING",
}


def manifest(index: int, pods: int = 1, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """The miniature's job on several nodes with one GPU each."""
    document = yaml.safe_load((ROOT / "manifests/samples/miniature-g2rpo.yaml").read_text())
    document["metadata"] = {"name": f"job-{index:05d}", "namespace": NAMESPACE, "labels": labels or {}}
    document["spec"]["storage"] = {"runs": {"hostPath": {"path": "/runs"}}}
    document["spec"]["workers"] = {"nodes": pods, "processesPerNode": 1, "resourceName": "nvidia.com/gpu"}
    document["spec"]["training"]["prompts"]["perIteration"] = 2 * pods
    return dict(document)


async def many(count: int, work: Callable[[int], Awaitable[Any]]) -> None:
    """Do numbered work, some of it at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    await asyncio.gather(*(worker() for _ in range(SIMULTANEOUS)))


async def until_none(
    client: Cluster, resource: Resource, fields: str, labels: str = "", poll_seconds: float = 0.5
) -> None:
    """Wait until no object has these fields and labels. One object at most is sent: waiting costs next to nothing."""
    query = urlencode({"fieldSelector": fields, "labelSelector": labels, "limit": 1})
    while json.loads(await client.get_bytes(f"{resource.path(NAMESPACE)}?{query}"))["items"]:
        await asyncio.sleep(poll_seconds)


def install(plane: TestCluster) -> None:
    """Definition and rights, and the namespace that jobs are in."""
    for namespace in (NAMESPACE, ACCOUNT[0]):
        plane.add_namespace(namespace)
    for name in ("crd", "rbac"):
        plane.kubectl("apply", "-f", str(ROOT / f"manifests/{name}.yaml"))
    plane.kubectl("create", "serviceaccount", ACCOUNT[1], "-n", ACCOUNT[0])
    plane.kubectl("wait", "--for=condition=Established", "crd/g2rpojobs.g2rpo.dev")
    wait_until(lambda: knows_jobs(plane), "the garbage collector knows jobs", 120, 1)


def knows_jobs(plane: TestCluster) -> bool:
    """Whether the garbage collector watches jobs; until it does, it asks for the owner of every object that has one."""
    watches = (event for event in plane.audit_events("system:kube-controller-manager") if event["verb"] == "watch")
    return any(event["objectRef"]["resource"] == "g2rpojobs" for event in watches)


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Operator:
    """The operator, running with its own account."""

    pid: int

    @property
    def cpu_seconds(self) -> float:
        """Used so far."""
        return cpu_seconds(self.pid)

    def memory_mib(self, what: str = "VmRSS") -> float:
        """Resident memory now, or its peak (VmHWM)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(what))) / 1024


@contextmanager
def operator(plane: TestCluster, **settings: str) -> Iterator[Operator]:
    """The operator as a process of its own, once it is ready."""
    kubeconfig = str(plane.kubeconfig_for_service_account(*ACCOUNT))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    given = {"KUBECONFIG": kubeconfig, "G2RPO_OPERATOR_PORT": port}
    program = [sys.executable, "-m", "g2rpo_operator"]
    process = launch(program, Path("/dev/stderr"), os.environ | QUIET | settings | given)
    try:
        while not ready(port):
            time.sleep(0.2)
        yield Operator(process.pid)
    finally:
        process.terminate()
        process.wait()


def ready(port: str) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def requests(plane: TestCluster) -> Counter[str]:
    """Requests of the operator's account so far, by verb and resource, as the API server's audit log has them."""
    user = f"system:serviceaccount:{ACCOUNT[0]}:{ACCOUNT[1]}"
    seen: Counter[str] = Counter()
    for event in plane.audit_events(user):
        if event["stage"] == "ResponseComplete":
            about = event.get("objectRef", {"resource": "discovery"})
            part = f"/{about['subresource']}" if "subresource" in about else ""
            seen[f"{event['verb']} {about['resource']}{part}"] += 1
    return seen
