"""A real Prometheus that scrapes targets of this machine, with the labels that the chart's monitors give them.

Who calls this: the tests of the dashboards.
"""

from __future__ import annotations

import shutil
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic.alias_generators import to_snake

from g2rpo_api import contract
from monitoring.ask import Prometheus
from testcluster.locks import CHECKOUT
from testcluster.process import Component

CHART = CHECKOUT / "charts" / "g2rpo-operator"
RELABELINGS = CHART / "files" / "trainer-relabelings.yaml"
SCRAPE_SECONDS = 0.5
PROGRAM = shutil.which("prometheus")
MISSING = "no prometheus in PATH; Debian's package of that name has it"
POD_LABEL = "__meta_kubernetes_pod_label_"


@dataclass(frozen=True)
class Pod:
    """A trainer's pod as Prometheus discovers it."""

    address: str
    """host:port of its metrics."""
    job: str
    attempt: int
    namespace: str = "team-a"
    rank: int = 0

    @property
    def name(self) -> str:
        return f"{self.job}-a{self.attempt}-{self.rank}"

    def target(self) -> dict[str, Any]:
        """What Kubernetes tells of it, and the labels that the Prometheus operator adds to every pod's series."""
        labels = {contract.LABEL_JOB: self.job, contract.LABEL_ATTEMPT: str(self.attempt)}
        meta = {f"{POD_LABEL}{name.replace('.', '_').replace('/', '_')}": value for name, value in labels.items()}
        own = {"namespace": self.namespace, "pod": self.name, **meta}
        return {"targets": [self.address], "labels": own}


@dataclass(frozen=True)
class Targets:
    """What is scraped."""

    pods: tuple[Pod, ...] = ()
    operators: tuple[str, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)
    """Further exporters by name; their labels are theirs."""


def relabelings() -> list[dict[str, Any]]:
    """What the chart's PodMonitor does to labels, as Prometheus writes it."""
    written = yaml.safe_load(RELABELINGS.read_text("utf-8"))
    return [{to_snake(key): value for key, value in each.items()} for each in written]


def configuration(targets: Targets) -> dict[str, Any]:
    """What Prometheus is told; equivalent to the chart's PodMonitor and ServiceMonitor."""
    trainers = {
        "job_name": "trainers",
        "static_configs": [pod.target() for pod in targets.pods],
        "relabel_configs": relabelings(),
    }
    operator = {"job_name": "operator", "honor_labels": True, "static_configs": [{"targets": [*targets.operators]}]}
    others = [
        {"job_name": name, "honor_labels": True, "static_configs": [{"targets": [address]}]}
        for name, address in targets.others.items()
    ]
    interval = f"{round(SCRAPE_SECONDS * 1000)}ms"
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": [trainers, operator, *others],
    }


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def scraping(targets: Targets, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the targets until the end."""
    with told(configuration(targets), folder) as prometheus:
        yield prometheus


@contextmanager
def told(config: Mapping[str, Any], folder: Path) -> Iterator[Prometheus]:
    """A Prometheus of this configuration, until the end."""
    if PROGRAM is None:
        raise FileNotFoundError(MISSING)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(dict(config)), "utf-8")
    address = f"127.0.0.1:{free_port()}"
    prometheus = Prometheus(f"http://{address}")
    command = [
        PROGRAM,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
    ]
    running = Component("prometheus", command, folder / "prometheus.log", lambda: answers(prometheus))
    try:
        running.start()
        yield prometheus
    finally:
        running.kill()


def answers(prometheus: Prometheus) -> bool:
    """Whether it is ready."""
    with suppress(OSError), urllib.request.urlopen(f"{prometheus.url}/-/ready", timeout=5) as answer:
        return bool(answer.status == 200)
    return False
