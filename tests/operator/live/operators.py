"""Operators as they are run: processes of `python -m g2rpo_operator`, each with its own way to the API server."""

from __future__ import annotations

import http.client
import itertools
import re
import ssl
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import yaml

from live.proxy import Loop, Proxy, Upstream
from live.recorder import PATHS, Recorder
from live.trainer import Server, Trainer
from testcluster.cluster import Cluster
from testcluster.locks import CHECKOUT
from testcluster.process import Component, wait_until

PORT = 8440
FIRST_ADDRESS = 29_000
"""Of the cluster's addresses for processes: pods take them from 0 on."""
QUICK: dict[str, object] = {
    "resync_seconds": 300,
    "status_interval_seconds": 0,
    "progress_interval_seconds": 0.5,
    "progress_timeout_seconds": 2,
    "request_timeout_seconds": 10,
    "log_format": "text",
}
"""Settings with which nothing takes long."""
ACCOUNT, HOME = "g2rpo-operator", "g2rpo-system"
"""The operator's service account and its namespace, which holds the leases."""
PREFIX, METRICS = "G2RPO_OPERATOR_", "g2rpo_operator_"
MANIFESTS = CHECKOUT / "manifests"


@dataclass
class Operator:
    """One replica: a process that can be killed and started again, behind a proxy."""

    proxy: Proxy
    component: Component
    address: str

    def start(self) -> None:
        """Start and wait until it is ready."""
        self.component.start()

    def kill_and_launch(self) -> None:
        """SIGKILL, and another process at once."""
        self.component.kill()
        self.component.launch()

    def close(self) -> None:
        """End it for good."""
        self.component.kill()
        self.proxy.stop()

    def metric(self, name: str) -> float:
        """Highest value of a metric of the operator's; -1 while nobody answers."""
        with suppress(OSError, http.client.HTTPException):
            values = re.findall(rf"^{METRICS}{name}(?:{{.*}})? (\S+)$", self.get("/metrics")[1], re.MULTILINE)
            return max(float(value) for value in values)
        return -1.0

    def leads(self) -> bool:
        """Whether it says that it is the leader."""
        return self.metric("leader") == 1

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of what it serves itself; OSError while nobody does."""
        connection = http.client.HTTPConnection(self.address, PORT, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def ready(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return self.get("/readyz")[0] == HTTPStatus.OK
        return False

    def log(self, about: str = "") -> list[str]:
        """Lines of its log, of all its processes, that mention something."""
        return [line for line in self.component.log.read_text(errors="replace").splitlines() if about in line]


@dataclass
class Stage:
    """The cluster with the custom resource and the operator's account, and all operators that are tested there."""

    cluster: Cluster
    recorder: Recorder
    loop: Loop = field(default_factory=Loop)
    operators: list[Operator] = field(default_factory=list)
    servers: dict[str, Server] = field(default_factory=dict)
    """By address."""
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.upstream = Upstream(self.cluster.server, self.trust(), account_token(self.cluster))

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.cluster.authority.pair.certificate))

    def operator(self, *namespaces: str, **settings: object) -> Operator:
        """A replica that serves these namespaces (all if none), not started; one lease for all that serve the same."""
        number = next(self.numbers)
        proxy = Proxy(self.loop, self.upstream)
        proxy.start()
        address = self.cluster.run.process_address(FIRST_ADDRESS + number)
        place = {"host": address, "port": PORT, "kubeconfig": self.kubeconfig(number, proxy)}
        whom = {
            "namespaces": ",".join(namespaces),
            "lease_namespace": HOME,
            "lease_name": "-".join(["g2rpo", *namespaces]),
        }
        log = self.cluster.folder / f"operator-{number}.log"
        command = [sys.executable, "-m", "g2rpo_operator"]
        component = Component(f"operator {number}", command, log, lambda: operator.ready())
        component.env = environment({**QUICK, **whom, **place, **settings})
        operator = Operator(proxy, component, address)
        self.operators.append(operator)
        return operator

    def kubeconfig(self, number: int, proxy: Proxy) -> Any:
        path = self.cluster.folder / f"operator-{number}.kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": proxy.url}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}],
            "current-context": "proxy",
        }
        path.write_text(yaml.safe_dump(content))
        return path

    def retire(self, operator: Operator) -> None:
        """End an operator for good."""
        self.operators.remove(operator)
        operator.close()

    def trainer(self, address: str, document: dict[str, Any]) -> Trainer:
        """Serve progress at a pod's address, in place of a pod that had it before."""
        trainer = Trainer(document)
        if address in self.servers:
            self.servers[address].trainer = trainer
        else:
            self.servers[address] = Server(address, trainer)
        return trainer

    def close(self) -> None:
        for running in (*self.operators, *self.servers.values()):
            running.close()
        self.recorder.stop()
        self.loop.stop()


def environment(settings: dict[str, object]) -> dict[str, str]:
    """Settings as variables of the operator's environment."""
    text = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in settings.items()}
    return {f"{PREFIX}{name.upper()}": value for name, value in text.items()}


def install(cluster: Cluster) -> None:
    """What the manifests install, but for the Deployment: operators are started by tests."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(MANIFESTS / "crd.yaml"))
    wait_until(lambda: cluster.api.answers(PATHS["G2RPOJob"]), "the API server serves jobs")
    deployed = yaml.safe_load_all((MANIFESTS / "operator.yaml").read_text())
    home = [item for item in deployed if item["kind"] in ("Namespace", "ServiceAccount")]
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(home))
    cluster.kubectl("apply", "-f", str(MANIFESTS / "rbac.yaml"))


def account_token(cluster: Cluster) -> str:
    """A token of the operator's service account."""
    return cluster.kubectl("create", "token", ACCOUNT, "-n", HOME, "--duration=24h").strip()
