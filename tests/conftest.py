"""What all tests share. pytest loads it before any test module, so before torch counts the processors."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

# The fixtures `cluster` and `namespace`: one control plane for the whole session, started when a test first asks.
pytest_plugins = ("testcluster.fixtures",)

# Tests run on small shared machines: threads that wait for each other cost several times the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A test that would fetch a model fails instead.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

# The same examples everywhere; `--hypothesis-profile explore` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile("repeatable")

# Tests that share a control plane, which takes minutes of processor in each worker that has one.
WITH_CONTROL_PLANE = ("tests/cluster/", "tests/manifests/", "tests/operator/")


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    """Tests are handed out file by file, since a file's tests share what their fixtures made."""
    return FilesAndOneControlPlane(config, log)


class FilesAndOneControlPlane(LoadFileScheduling):
    """One worker gets all that needs the control plane, which is the largest part and therefore handed out first."""

    def _split_scope(self, nodeid: str) -> str:
        return WITH_CONTROL_PLANE[0] if nodeid.startswith(WITH_CONTROL_PLANE) else str(super()._split_scope(nodeid))
