"""Documents: what a link names after # is a heading there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/README.md"])
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)")


def anchors(document: Path) -> set[str]:
    """What a link may name after #, as GitHub makes it of a heading."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_name_headings(document: Path) -> None:
    for target, anchor in LINK.findall(document.read_text()):
        found = (document.parent / target).resolve() if target else document
        assert anchor in anchors(found), f"{document.name}: {target}#{anchor}"


def test_a_wrong_heading_would_be_noticed() -> None:
    assert "on-a-cluster" in anchors(ROOT / "README.md")
    assert "on-the-moon" not in anchors(ROOT / "README.md")
