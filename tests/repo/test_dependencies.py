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


# By distribution and extra: the folder or module whose libraries come with it.
EXTRAS = {
    ("operator", "plugin"): "plugin",
    ("trainer", "parquet"): "tables.py",
    ("trainer", "tensorboard"): "tensorboard_sink.py",
    ("trainer", "wandb"): "wandb_sink.py",
}
# torch imports it when its writer is imported.
BEHIND_TORCH = {"tensorboard"}


def declared(root: Path, name: str, extra: str = "") -> set[str]:
    """Distributions that the project file names, with those of an extra."""
    project = tomllib.loads((root / name / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(project["optional-dependencies"][extra] if extra else ())]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def sources(root: Path, name: str, extra: str = "") -> list[Path]:
    """Modules of a distribution: of an extra, or those of none."""
    places = {place for (owner, which), place in EXTRAS.items() if owner == name and extra in ("", which)}
    modules = (root / name / "src").rglob("*.py")
    return [path for path in modules if bool(places & set(path.parts)) is bool(extra)]


def imported(root: Path, name: str, extra: str = "") -> set[str]:
    """Top-level modules that the sources import, the standard library and their own package left out."""
    modules = set()
    for path in sources(root, name, extra):
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


@pytest.mark.parametrize(("name", "extra"), [("api", ""), ("operator", ""), ("trainer", ""), *EXTRAS])
def test_imports_are_declared(name: str, extra: str, root: Path) -> None:
    known = declared(root, name, extra)
    undeclared = {module for module in imported(root, name, extra) if not providers(module) & known}
    assert not undeclared


@pytest.mark.parametrize("name", ["api", "trainer"])
def test_declarations_are_used(name: str, root: Path) -> None:
    used = set().union(*(providers(module) for module in imported(root, name)))
    assert not declared(root, name) - used - NOT_IMPORTED.get(name, set())


def test_what_an_extra_declares_is_used_in_its_place(root: Path) -> None:
    for name, extra in EXTRAS:
        used = set().union(*(providers(module) for module in imported(root, name, extra)))
        assert not declared(root, name, extra) - declared(root, name) - used - BEHIND_TORCH
