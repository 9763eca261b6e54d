"""Documents: links lead somewhere, and what they show of jobs are jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from g2rpo_api.parse import parse_job

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/README.md"])
SAMPLE = ROOT / "manifests/samples/miniature-g2rpo.yaml"
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """What a link may name after #, as GitHub makes it of a heading."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_there_are_documents() -> None:
    assert {"README.md", "CONTRIBUTING.md", "reference.md"} <= {path.name for path in DOCUMENTS}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in LINK.findall(document.read_text()):
        found = (document.parent / target).resolve() if target else document
        assert found.exists(), f"{document.name}: {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{document.name}: {target}#{anchor}"


def shown() -> Iterator[Any]:
    """Parts of jobs in documents; a block may hold several."""
    for document in DOCUMENTS:
        for number, text in enumerate(BLOCK.findall(document.read_text()), start=1):
            for part in yaml.safe_load_all(text):
                if isinstance(part, Mapping) and "spec" in part and part.get("kind", "G2RPOJob") == "G2RPOJob":
                    yield pytest.param(part, id=f"{document.stem}-{number}")


def merged(base: Any, change: Any) -> Any:
    """Mappings merged at every depth; anything else is replaced."""
    if not isinstance(base, Mapping) or not isinstance(change, Mapping):
        return change
    return {**base, **{key: merged(base.get(key), value) for key, value in change.items()}}


@pytest.mark.parametrize("part", list(shown()))
def test_what_is_shown_of_a_job_may_stand_in_a_job(part: Mapping[str, Any]) -> None:
    whole = part if "apiVersion" in part else merged(yaml.safe_load(SAMPLE.read_text()), part)
    parse_job(whole)
