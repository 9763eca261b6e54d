"""The commands by which the guides install, look after and remove a release, as they stand there."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from testchart.helm import Helm
from testchart.site import OPERATOR, TRIAL, Site, values
from testcluster.cluster import Cluster
from testcluster.process import wait_until
from testdocuments.commands import ROOT, blocks, listed, prepare, run

GUIDE = ROOT / "docs/install.md"
HOME = "g2rpo"
ME = "tests/chart/test_commands.py::test_a_release_lives_by_the_commands_of_the_guides"
COMMANDS = [command for command, said in listed().items() if said.by == ME]
HELM = """#!/bin/sh
[ "$1" != install ] || set -- "$@" --values "$VALUES"
exec "$HELM" "$@"
"""
"""Adds what the operator's pods need as processes of this machine."""


@pytest.fixture
def unborn(machine: Cluster, helm: Helm) -> Iterator[Site]:
    """A site whose namespace the guides make and remove."""
    site = Site(machine, helm.at(kubeconfig=machine.kubeconfig, namespace=HOME))
    yield site
    site.clean()


def hand_out_tokens(site: Site) -> None:
    """As soon as the release has its accounts; its pods wait for them."""
    accounts = [site.place("serviceaccounts", name) for name in (OPERATOR, TRIAL)]
    wait_until(lambda: all(map(site.cluster.api.answers, accounts)), "the release has its accounts", 120)
    site.hand_out_tokens()


@pytest.mark.slow
def test_a_release_lives_by_the_commands_of_the_guides(unborn: Site, tmp_path: Path) -> None:
    folder, programs = tmp_path / "checkout", tmp_path / "bin"
    prepare(folder, iterations=2)
    programs.mkdir()
    (programs / "helm").write_text(HELM)
    (programs / "helm").chmod(0o755)
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values()))
    (folder / "images.yaml").write_text(next(block.text for block in blocks(GUIDE) if block.text.startswith("image:")))
    environment = unborn.helm.environment() | {
        "PATH": f"{programs}:{unborn.cluster.programs['kubectl'].parent}:/usr/bin:/bin",
        "HELM": str(unborn.helm.program),
        "VALUES": str(tmp_path / "values.yaml"),
    }
    with ThreadPoolExecutor() as aside:
        handed = aside.submit(hand_out_tokens, unborn)
        told = run(["set -euxo pipefail", *COMMANDS], folder, 240, **environment)
        handed.result()
    assert "Phase:          Succeeded" in told
    kept = yaml.safe_load((folder / "values.yaml").read_text())
    assert kept["image"]["repository"] == "registry.example:5000/g2rpo/operator"
    assert kept["monitoring"]["labels"] == {"release": "kube-prometheus-stack"}
    assert not unborn.cluster.api.answers(f"/api/v1/namespaces/{HOME}")
