"""The commands of the guides, run in the order in which they stand, in a folder that looks like a checkout."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from testcluster.cluster import Cluster
from testcluster.process import wait_until
from testdocuments.commands import ROOT, prepare, run, walk
from testdocuments.walks import WALKS, Walk

APART = {"docs/first-job.md"}
"""Have a test of their own."""
SLOW = [pytest.mark.slow, pytest.mark.timeout(900)]
HERE = [
    pytest.param(name, how, marks=SLOW * how.slow, id=Path(name).stem)
    for name, how in WALKS.items()
    if name not in APART
]
PAIRS = [{"prompt": "a cat\n on a mat"}, {"prompt": "a dog"}, {"prompt": "a cat on  a mat"}]


@pytest.fixture(scope="module")
def taught() -> Iterator[Cluster]:
    """A cluster for walks only, since some delete all jobs; it knows G2RPOJob, and the usual roles cover it."""
    with Cluster.started() as started:
        started.nodes(2, gpus=8)
        folder = ROOT / "manifests"
        files = [part for name in ("crd", "operator", "rbac") for part in ("-f", str(folder / f"{name}.yaml"))]
        started.kubectl("apply", "--server-side", *files)
        edit = "/apis/rbac.authorization.k8s.io/v1/clusterroles/edit"
        wait_until(lambda: "g2rpojobs" in str(started.api.get(edit)["rules"]), "who may edit may edit jobs")
        yield started


@pytest.mark.parametrize(("name", "how"), HERE)
def test_a_guide_is_walked(name: str, how: Walk, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    prepare(tmp_path / "checkout", how.iterations)
    (tmp_path / "checkout/train.json").write_text(json.dumps(PAIRS))
    programs = [str(ROOT / ".venv/bin"), os.environ["PATH"]]
    variables = {"HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "G2RPO_PORT": "0"}
    if how.cluster:
        cluster: Cluster = request.getfixturevalue("taught")
        programs.insert(0, str(cluster.programs["kubectl"].parent))
        variables["KUBECONFIG"] = str(cluster.kubeconfig)
    run(walk(ROOT / name), tmp_path / "checkout", 800 if how.slow else 280, PATH=":".join(programs), **variables)
