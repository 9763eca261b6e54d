"""The trial that `helm test` makes: it passes where jobs can run, and says what is missing where they cannot."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from g2rpo_api.crd import custom_resource_definition
from g2rpo_operator import trial
from g2rpo_operator.settings import Settings
from testchart.site import DEFINITION, SERVED
from testcluster.cluster import Cluster
from testcluster.process import wait_until

HOME = "trial"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases"
LEASE = f"{LEASES}/g2rpo-operator"
Schema = dict[str, Any]
Lines = dict[str, str]


@pytest.fixture(scope="module")
def home(machine: Cluster) -> Iterator[Cluster]:
    """The cluster with a namespace of an operator, and no definition of jobs."""
    machine.add_namespace(HOME)
    yield machine
    if machine.api.answers(DEFINITION):
        machine.api.delete(DEFINITION)
    machine.remove_namespace(HOME)
    for path in (DEFINITION, f"/api/v1/namespaces/{HOME}"):
        wait_until(lambda path=path: not machine.api.answers(path), f"{path} is gone", 120)


@pytest.fixture
def defined(home: Cluster) -> Iterator[Cluster]:
    """The same with a definition, and without a lease afterwards."""
    if not home.api.answers(DEFINITION):
        home.api.create(DEFINITION.rpartition("/")[0], custom_resource_definition())
        wait_until(lambda: home.api.answers(SERVED), "jobs are served")
    yield home
    if home.api.answers(LEASE):
        home.api.delete(LEASE)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(trial, "PAUSE_SECONDS", 0.1)


def tried(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> tuple[bool, Lines]:
    """Whether all was well, and what is said about each check."""
    well = asyncio.run(trial.trial(Settings(kubeconfig=cluster.kubeconfig, pod_namespace=HOME)))
    lines = capsys.readouterr().out.splitlines()
    said = {name: line for name in trial.CHECKS for line in lines if name in line}
    assert len(said) == len(lines) == 3
    return well, said


def hold(cluster: Cluster, holder: str = "operator-1") -> None:
    """A lease as a leader has it."""
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": moment()}
    cluster.api.create(LEASES, {"metadata": {"name": "g2rpo-operator"}, "spec": spec})


def moment(after: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) + after).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def redefine(cluster: Cluster, spoil: Callable[[Schema], None] = lambda _: None) -> None:
    """The operator's definition with another schema."""
    definition = copy.deepcopy(custom_resource_definition())
    spoil(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    definition["metadata"]["resourceVersion"] = cluster.api.get(DEFINITION)["metadata"]["resourceVersion"]
    cluster.api.request("PUT", DEFINITION, definition)


def without_a_key(schema: Schema) -> None:
    """As in a definition of an earlier version."""
    del schema["properties"]["spec"]["properties"]["imagePullPolicy"]


def without_checks(schema: Schema) -> None:
    schema["properties"]["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema.pop("x-kubernetes-validations", None)


@pytest.mark.usefixtures("impatient")
def test_a_cluster_that_does_not_know_jobs(home: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    well, said = tried(home, capsys)
    assert not well
    assert said["the cluster takes jobs"].startswith(
        "not so  the cluster takes jobs: the cluster does not know G2RPOJob"
    )
    assert "does not know" not in said["an operator acts"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("spoil", "check", "told"),
    [
        (without_a_key, "the cluster takes jobs", 'unknown field "spec.imagePullPolicy"'),
        (without_checks, "the cluster refuses mistakes", "a job with 0 iterations"),
    ],
)
def test_a_definition_that_is_not_the_operators(
    spoil: Callable[[Schema], None], check: str, told: str, defined: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    redefine(defined, spoil)
    wait_until(lambda: told in tried(defined, capsys)[1][check], f"{check} is refuted")
    redefine(defined)
    wait_until(lambda: tried(defined, capsys)[1][check] == f"ok      {check}", f"{check} again")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("holder", [None, "operator-1", ""], ids=["none", "dead", "released"])
def test_a_lease_that_is_not_renewed(holder: str | None, defined: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    if holder is not None:
        hold(defined, holder)
    well, said = tried(defined, capsys)
    assert not well
    assert said["an operator acts"].startswith(f"not so  an operator acts: no replica has renewed the lease {HOME}/")
    assert defined.api.items(SERVED) == [], "what is submitted is a dry run"


@pytest.mark.parametrize("skew_seconds", [-3600, 3600], ids=["slow clock", "fast clock"])
def test_a_lease_that_is_renewed_counts_whatever_the_clocks_say(
    skew_seconds: int, defined: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def renew(_seconds: float) -> None:
        """In place of the pause."""
        defined.api.merge(LEASE, {"spec": {"renewTime": moment(timedelta(seconds=skew_seconds))}})

    hold(defined)
    monkeypatch.setattr(trial.asyncio, "sleep", renew)
    assert tried(defined, capsys) == (True, {name: f"ok      {name}" for name in trial.CHECKS})


def test_wrong_settings_end_it_at_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("G2RPO_OPERATOR_LEASE_NAME", "NO")
    assert trial.main() == 2
    assert "G2RPO_OPERATOR_LEASE_NAME" in capsys.readouterr().err
