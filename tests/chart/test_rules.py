"""Rules for security and operation, as a scanner has them: what is not followed is explained where it stands."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from g2rpo_operator.render import child_job, config_map, service
from testchart import tools
from testchart.helm import MONITORING, Helm, Manifest
from testcluster.locks import CHECKOUT
from testoperator.records import view

pytestmark = pytest.mark.slow
LEFT_TO_OTHERS: Mapping[tuple[str, str], str] = {
    ("Job", "CKV_K8S_11"): "the job's owner sets limits in spec.workers.resources",
    ("Job", "CKV_K8S_13"): "the job's owner sets limits in spec.workers.resources",
    ("Job", "CKV_K8S_15"): "the job's owner sets spec.imagePullPolicy",
    ("Job", "CKV_K8S_43"): "the job's owner, or whoever installs the chart, names the image",
    ("Pod", "CKV2_K8S_6"): "a policy needs to know the cluster: the chart has them on demand, for all of its pods",
}
"""Findings that no annotation answers: kind and rule, and why they stay."""


def scanned(manifests: Iterable[Manifest], folder: Path) -> dict[str, set[tuple[str, str, str]]]:
    """What checkov says of manifests: failed, skipped and passed checks as kind, name and rule."""
    file = folder / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(manifests))
    options = ("--framework", "kubernetes", "--output", "json", "--skip-download", "--soft-fail")
    command = [str(tools.checkov()), *options, "--file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    results = report["results"]
    return {
        kind: {
            (item["resource"].split(".")[0], item["resource"], item["check_id"]) for item in results[f"{kind}_checks"]
        }
        for kind in ("failed", "skipped", "passed")
    }


def unexplained(failed: set[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    return {finding for finding in failed if (finding[0], finding[2]) not in LEFT_TO_OTHERS}


def rendered(helm: Helm, **values: Any) -> list[Manifest]:
    """The chart without its definition and dashboards, in which there is nothing to find."""
    left_out = {"crds": {"enabled": False}, "monitoring": {"dashboards": {"enabled": False}}}
    return helm.template({**left_out, **values}, api_versions=[MONITORING])


def test_the_chart(helm4: Helm, tmp_path: Path) -> None:
    found = scanned(rendered(helm4), tmp_path)
    assert unexplained(found["failed"]) == set()
    assert {rule for kind, _, rule in found["skipped"] if kind == "Deployment"} == {
        "CKV_K8S_11", "CKV_K8S_15", "CKV_K8S_38", "CKV_K8S_43",
    }  # fmt: skip
    assert len(found["passed"]) > 50


def test_the_chart_as_closed_as_it_can_be(helm4: Helm, tmp_path: Path) -> None:
    closed = {"enabled": True, "trainers": {"enabled": True, "namespaces": ["team"]}}
    image = {"digest": f"sha256:{'0' * 64}", "pullPolicy": "Always"}
    limits = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": 1, "memory": "512Mi"}}
    chosen = rendered(helm4, networkPolicy=closed, image=image, resources=limits)
    assert scanned(chosen, tmp_path)["failed"] == set()


def test_what_is_installed_without_helm(tmp_path: Path) -> None:
    texts = [(CHECKOUT / "manifests" / name).read_text() for name in ("operator.yaml", "rbac.yaml")]
    manifests = [item for text in texts for item in yaml.safe_load_all(text)]
    assert unexplained(scanned(manifests, tmp_path)["failed"]) == set()


def test_what_a_job_is_made_into(tmp_path: Path) -> None:
    seen = view()
    found = scanned([config_map(seen), service(seen), child_job(seen, 15.0)], tmp_path)
    assert unexplained(found["failed"]) == set()
    assert {rule for kind, _, rule in found["failed"] if kind == "Job"} == {
        rule for kind, rule in LEFT_TO_OTHERS if kind == "Job"
    }


def test_a_careless_pod_would_be_noticed(tmp_path: Path) -> None:
    pod = {"metadata": {"name": "a", "namespace": "b"}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}
    found = scanned([{"apiVersion": "v1", "kind": "Pod", **pod}], tmp_path)
    assert len(unexplained(found["failed"])) > 10
