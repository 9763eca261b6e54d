"""The running operator against the real control plane: fixtures that all tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from live.operators import Operator, Stage, install
from live.recorder import Recorder
from live.together import SCRIPTS, Played
from live.world import TEAMS
from testcluster.cluster import Cluster


@pytest.fixture(scope="session")
def stage(cluster: Cluster) -> Iterator[Stage]:
    """The cluster with the custom resource, the operator's account and a recorder."""
    install(cluster)
    recorder = Recorder(cluster.api)
    recorder.start()
    stage = Stage(cluster, recorder)
    yield stage
    stage.close()


@pytest.fixture(scope="session")
def operator(stage: Stage) -> Operator:
    """The operator that serves the tests that run side by side."""
    for namespace in TEAMS:
        stage.cluster.add_namespace(namespace)
    operator = stage.operator(*TEAMS)
    operator.start()
    return operator


@pytest.fixture(scope="session")
def played(request: pytest.FixtureRequest, stage: Stage, operator: Operator) -> Iterator[Played]:
    """All tests that run side by side, started."""
    wanted = [SCRIPTS[item.function] for item in request.session.items if getattr(item, "function", None) in SCRIPTS]
    played = Played(stage, operator, wanted)
    yield played
    played.finish()
