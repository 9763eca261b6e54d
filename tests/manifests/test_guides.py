"""What the guides show for a cluster is taken by a real API server, and safe by the restricted standard."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from testcluster.cluster import Cluster
from testoperator.podsecurity import violations

DOCS = Path(__file__).resolve().parents[2] / "docs"
PATHS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "Service": "/api/v1/namespaces/{}/services",
}


def shown(guide: Path) -> list[dict[str, Any]]:
    """Whole objects in a guide that are no jobs of ours."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", guide.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    documents = [document for block in blocks for document in yaml.safe_load_all(block)]
    return [document for document in documents if isinstance(document, dict) and document.get("kind") in PATHS]


OBJECTS = [(guide.name, document) for guide in sorted(DOCS.glob("*.md")) for document in shown(guide)]


def test_there_is_something_to_judge() -> None:
    assert {document["kind"] for _, document in OBJECTS} == set(PATHS)


@pytest.mark.parametrize(("guide", "document"), OBJECTS, ids=lambda value: value if isinstance(value, str) else "")
def test_an_object_of_a_guide_is_taken(guide: str, document: dict[str, Any], cluster: Cluster, namespace: str) -> None:
    path = PATHS[document["kind"]].format(namespace)
    taken = cluster.api.create(f"{path}?dryRun=All&fieldValidation=Strict", document)
    assert taken["metadata"]["name"] == document["metadata"]["name"], guide


@pytest.mark.parametrize(("guide", "document"), OBJECTS, ids=lambda value: value if isinstance(value, str) else "")
def test_pods_of_a_guide_keep_the_restricted_standard(guide: str, document: dict[str, Any]) -> None:
    if document["kind"] == "Deployment":
        assert violations(document["spec"]["template"]["spec"]) == [], guide
