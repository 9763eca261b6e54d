"""What the operator's account may not do, tried with its own token against the real API server."""

from __future__ import annotations

import json
import subprocess

import pytest
from scenes import OPERATOR_NAMESPACE, Team

FORBIDDEN = [
    ("get", "secrets"),
    ("get", "nodes"),
    ("create", "--raw", "/api/v1/namespaces/team/pods/any/exec?command=id", "--filename", "/dev/null"),
    ("get", "serviceaccounts"),
    ("get", "namespaces"),
    ("get", "clusterroles"),
    ("get", "deployments"),
    ("delete", "namespace", "team"),
    ("delete", "node", "node-0"),
    ("delete", "crd", "g2rpojobs.g2rpo.dev"),
    ("create", "serviceaccount", "mine"),
    ("create", "secret", "generic", "mine", "--from-literal=a=b"),
    ("create", "clusterrolebinding", "mine", "--clusterrole=cluster-admin", "--user=mine"),
    ("create", "token", "default"),
    ("run", "mine", "--image=docker.io/g2rpo/pause:0"),
]


@pytest.fixture(scope="module")
def config(team: Team) -> str:
    """A kubeconfig with the account's token."""
    found = team.node.api.items(f"/apis/apps/v1/namespaces/{OPERATOR_NAMESPACE}/deployments")
    account = found[0]["spec"]["template"]["spec"]["serviceAccountName"]
    return str(team.node.kubeconfig_for_service_account(OPERATOR_NAMESPACE, account))


def kubectl(team: Team, config: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(team.node.programs["kubectl"]), "--kubeconfig", config, "--namespace", team.namespace, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_may_read_jobs(team: Team, config: str) -> None:
    done = kubectl(team, config, "get", "g2rpojobs", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] == "List"


@pytest.mark.parametrize("words", FORBIDDEN, ids=" ".join)
def test_it_may_not(team: Team, config: str, words: tuple[str, ...]) -> None:
    done = kubectl(team, config, *words)
    assert done.returncode != 0
    assert "forbidden" in done.stderr.lower(), done.stderr
