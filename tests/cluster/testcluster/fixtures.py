"""Pytest fixtures of the test cluster, for every test: tests/conftest.py makes this module a plugin.

The cluster starts when the first test of a session asks for it, in some seconds, and is shared by all: a test works
in its own `namespace` and leaves programs running and nodes Ready.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from testcluster.cluster import Cluster

NODES, GPUS, VOLUMES = 4, 8, 32


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A control plane, four nodes with eight GPUs each, and volumes for claims."""
    with Cluster.started() as started:
        started.nodes(NODES, GPUS)
        started.add_storage(VOLUMES)
        yield started


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """The name of a fresh namespace, deleted afterwards without waiting."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.add_namespace(name)
    yield name
    cluster.remove_namespace(name)
