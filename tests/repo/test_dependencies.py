"""Each distribution declares what it imports, and imports what it declares."""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NOT_IMPORTED = {
    # diffusers and transformers import them at run time, for loading and for T5's tokenizer.
    "trainer": {"accelerate", "protobuf", "sentencepiece"}
    # The rewards open the networks in these packages without importing them.
    | {"ddddocr", "rapidocr"}
}


def declared(root: Path, name: str) -> set[str]:
    """Distributions that the project file names."""
    project = tomllib.loads((root / name / "pyproject.toml").read_text())["project"]
    return {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}


def imported(root: Path, name: str) -> set[str]:
    """Top-level modules that the sources import, the standard library and their own package left out."""
    modules = set()
    for path in (root / name / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module)
    return {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {f"g2rpo_{name}"}


def providers(module: str) -> set[str]:
    """Installed distributions that provide the module; editable ones do not tell, but ours bear its name."""
    if module.startswith("g2rpo_"):
        return {canonicalize_name(module)}
    return {canonicalize_name(name) for name in packages_distributions().get(module, [])}


@pytest.mark.parametrize("name", ["api", "operator", "trainer"])
def test_imports_are_declared(name: str, root: Path) -> None:
    undeclared = {module for module in imported(root, name) if not providers(module) & declared(root, name)}
    assert not undeclared


@pytest.mark.parametrize("name", ["api", "trainer"])
def test_declarations_are_used(name: str, root: Path) -> None:
    used = set().union(*(providers(module) for module in imported(root, name)))
    assert not declared(root, name) - used - NOT_IMPORTED.get(name, set())
