"""The pin files say what the pyproject files ask for. `make check-pins` asks the registry; these tests need none."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OWN = {"g2rpo-api", "g2rpo-operator", "g2rpo-trainer"}
SETS = {
    "operator": ("api", "operator"),
    "trainer": ("api", "trainer"),
    "trainer-parquet": ("trainer-parquet",),
    "trainer-tensorboard": ("trainer-tensorboard",),
    "trainer-wandb": ("trainer-wandb",),
    "dev": (
        "api",
        "operator",
        "trainer",
        "trainer-parquet",
        "trainer-tensorboard",
        "trainer-wandb",
        "test",
        "check",
        "images",
        "monitoring",
    ),
    "build": ("build", "api-build", "operator-build", "trainer-build"),
    "chart-rules": ("chart-rules",),
    "docs": ("docs",),
    "helm": ("helm",),
    "uv": ("uv",),
}
EXTRAS = ("trainer-parquet", "trainer-tensorboard", "trainer-wandb")
PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\]+?))? \\$")


@pytest.fixture(scope="module")
def wishes(root: Path) -> dict[str, list[Requirement]]:
    """Direct requirements of each distribution, each build system and each group of the workspace."""
    found: dict[str, list[str]] = dict(read(root / "pyproject.toml")["dependency-groups"])
    for name in ("api", "operator", "trainer"):
        content = read(root / name / "pyproject.toml")
        found[name] = content["project"]["dependencies"]
        found[f"{name}-build"] = content["build-system"]["requires"]
        extras = content["project"].get("optional-dependencies", {})
        found |= {f"{name}-{extra}": lines for extra, lines in extras.items()}
    return {name: [Requirement(line) for line in lines] for name, lines in found.items()}


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text())


def pin_lines(root: Path, name: str) -> list[str]:
    lines = (root / "requirements" / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("    ")]


def pins(root: Path, name: str) -> dict[str, set[str]]:
    """Versions by package; several where Python versions need different ones."""
    found: dict[str, set[str]] = {}
    for line in pin_lines(root, name):
        match = PIN.match(line)
        assert match, line
        found.setdefault(canonicalize_name(match["name"]), set()).add(match["version"])
    return found


@pytest.mark.parametrize("name", SETS)
def test_pins_satisfy_the_projects(name: str, root: Path, wishes: dict[str, list[Requirement]]) -> None:
    found = pins(root, name)
    for wish in (wish for source in SETS[name] for wish in wishes[source] if wish.name not in OWN):
        versions = found.get(canonicalize_name(wish.name), set())
        assert versions, f"{wish} is not pinned"
        assert all(wish.specifier.contains(version) for version in versions), f"{wish} is pinned to {versions}"


@pytest.mark.parametrize("name", SETS)
def test_every_pin_has_a_hash_and_no_address(name: str, root: Path) -> None:
    text = (root / "requirements" / f"{name}.txt").read_text()
    assert not re.findall(r"://|@ |^-", text, re.MULTILINE)
    entries = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in entry for entry in entries)


def test_tests_run_on_what_is_released(root: Path) -> None:
    """`make test` proves something about the images only if both hold the same versions."""
    dev = pins(root, "dev")
    for name in ("operator", "trainer", *EXTRAS):
        assert pins(root, name).items() <= dev.items()


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_goes_on_top_of_the_trainer_and_is_not_part_of_it(extra: str, root: Path) -> None:
    trainer, added = pins(root, "trainer"), pins(root, extra)
    assert all(trainer[name] == versions for name, versions in added.items() if name in trainer)
    assert extra.removeprefix("trainer-").replace("parquet", "pyarrow") in added.keys() - trainer.keys()


def test_one_package_provides_cv2(root: Path) -> None:
    assert {name for name in pins(root, "dev") if "opencv" in name} == {"opencv-python-headless"}


def test_operator_pins_no_trainer(root: Path) -> None:
    assert not pins(root, "operator").keys() & {"torch", "numpy", "diffusers", "transformers", "deepspeed"}
