"""Names and content that must not stand in the repository, and words of the documents that must be true."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

FOREIGN = {
    "a path of one machine": re.compile(r"(?<![\w.~-])/(?:work|root|Users|home)/\w"),
    "a package registry": re.compile(
        r"pypi\.org|pythonhosted\.org|artifactory|\.pkg\.dev|--(?:extra-)?index-url|--find-links"
    ),
}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"\bmake ((?:[a-z0-9-]+ ?)+)")
LINK = re.compile(r"\]\(([^)#\s]+)")
QUICKSTART = Path(__file__).parents[2] / "manifests" / "samples" / "miniature-g2rpo.yaml"
SHADOWING = {"math", "types", "queue", "logging", "platform"}


@pytest.fixture(scope="module")
def documents(texts: dict[Path, str]) -> dict[Path, str]:
    """The Markdown files."""
    return {path: text for path, text in texts.items() if path.suffix == ".md"}


@pytest.fixture(scope="module")
def targets(texts: dict[Path, str]) -> set[str]:
    """What `make` can be asked for."""
    return set(re.findall(r"^([a-z0-9-]+):", texts[Path("Makefile")], re.MULTILINE))


def code(text: str) -> str:
    """The code blocks and the inline code of a document."""
    return "\n".join([block for _, block in FENCE.findall(text)] + re.findall(r"`([^`\n]+)`", text))


def test_operator_and_tests_are_no_packages(tracked: list[Path], root: Path) -> None:
    """A package named `operator` at the root shadows the standard library's."""
    inits = [path.relative_to(root) for path in tracked if path.name == "__init__.py"]
    assert not [path for path in inits if path.parts[0] == "tests" or path.parent == Path("operator")]


def test_no_module_shadows_the_standard_library(tracked: list[Path]) -> None:
    assert not [path for path in tracked if path.suffix == ".py" and path.stem in SHADOWING]


@pytest.mark.parametrize("kind", FOREIGN)
def test_no_file_names(kind: str, texts: dict[Path, str], root: Path) -> None:
    here = Path(__file__).relative_to(root)
    found = {str(path): FOREIGN[kind].search(text) for path, text in texts.items() if path != here}
    assert not {path: match.group() for path, match in found.items() if match}


def test_documents_name_targets_that_exist(documents: dict[Path, str], targets: set[str]) -> None:
    named = {name for text in documents.values() for words in COMMAND.findall(code(text)) for name in words.split()}
    assert named
    assert not named - targets


def test_links_lead_to_files(documents: dict[Path, str], root: Path) -> None:
    broken = [
        (str(path), link)
        for path, text in documents.items()
        for link in LINK.findall(text)
        if "://" not in link and not (root / path.parent / link).exists()
    ]
    assert not broken


def merged(whole: Any, part: Any) -> Any:
    """The whole with what the part says; lists are replaced."""
    if not (isinstance(whole, dict) and isinstance(part, dict)):
        return part
    return whole | {key: merged(whole.get(key), value) for key, value in part.items()}


def refused_yaml(texts: Iterable[str]) -> list[str]:
    """Fenced blocks that are no YAML, or jobs that the program does not take.

    A block with `spec` and without `kind` is a part of a job: it is tried in place of that part of the quickstart.
    """
    from g2rpo_api.errors import SpecError
    from g2rpo_api.parse import parse_job

    whole = yaml.safe_load(QUICKSTART.read_text(encoding="utf-8"))
    refused = []
    for block in (block for text in texts for language, block in FENCE.findall(text) if language == "yaml"):
        try:
            for content in yaml.safe_load_all(block):
                keys = set(content) if isinstance(content, dict) else set()
                if "kind" in keys and content["kind"] == "G2RPOJob":
                    parse_job(block)
                elif "spec" in keys and "kind" not in keys:
                    parse_job(merged(whole, content))
        except (yaml.YAMLError, SpecError):
            refused.append(block)
    return refused


def test_yaml_of_the_documents_is_valid(documents: dict[Path, str]) -> None:
    assert refused_yaml(documents.values()) == []


@pytest.mark.parametrize(
    "block",
    [
        "kind: G2RPOJob\nspec: {}\n",
        "a: [1\n",
        "spec: {training: {stop: {maxDays: 1}}}\n",
        "spec: {training: {ema: {decay: 2}}}\n",
    ],
)
def test_yaml_that_is_wrong_would_be_noticed(block: str) -> None:
    assert refused_yaml([f"text\n\n```yaml\n{block}```\n"]) == [block]
