"""The fixture `node`: one for all end-to-end tests, which `make e2e` runs inside its namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scenes import RESTRICTED, Team, import_images, install

from testnode.node import Node

SECONDS = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Images are brought in and pods start: on a busy machine a test of this folder takes minutes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SECONDS))


def pytest_exception_interact(node: pytest.Item, report: pytest.TestReport) -> None:
    """What the operator and the trainer said, beside what a test says that failed."""
    made = getattr(node, "funcargs", {})
    if "team" in made:
        report.sections.append(("log of the operator", made["team"].operator_log()))
    if "job" in made:
        report.sections.append(("log of the trainer", made["job"].log()))


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """A control plane, and a node that runs containers and says that it has eight GPUs."""
    with Node.started() as started:
        yield started


@pytest.fixture(scope="session")
def team(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Team:
    """A namespace for jobs, and the operator as Helm installs it."""
    import_images(node)
    helm = install(node, tmp_path_factory.mktemp("helm"))
    node.add_namespace("team", RESTRICTED)
    return Team(node, "team", helm)
