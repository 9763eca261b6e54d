"""What tests of the plugin share: a cluster that knows jobs, and a person at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plugin.people import ENVIRONMENT, Person
from testcluster.cluster import Cluster
from testoperator.definition import define_jobs


@pytest.fixture(scope="session")
def known(cluster: Cluster) -> Cluster:
    """The cluster with the custom resource."""
    define_jobs(cluster)
    return cluster


@pytest.fixture
def person(
    known: Cluster,
    namespace: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Person:
    """A person with a namespace of their own, as the cluster's administrator."""
    for name, value in {**ENVIRONMENT, "KUBECONFIG": str(known.kubeconfig)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return Person(known, namespace, capsys, tmp_path)


@pytest.fixture(scope="module")
def process_node(known: Cluster) -> Iterator[str]:
    """The name of a node whose pods are processes, gone after the module."""
    node = known.add_process_node()
    yield node.name
    node.stop()
    known.remove_node(node.name)
    known.process_node = None
