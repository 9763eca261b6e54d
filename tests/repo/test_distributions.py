"""What each distribution brings along when it is installed alone, from its pins."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

# Imports every module of the packages in argv[1:] and prints the top-level names then loaded. What belongs to an extra
# is imported when it is named.
IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        of_extra = ".plugin" in module.name and ".plugin" not in name
        if not module.name.endswith("__main__") and not of_extra:
            importlib.import_module(module.name)
print(*{module.partition(".")[0] for module in sys.modules} - sys.stdlib_module_names)
"""
HEAVY = {"torch", "numpy", "diffusers", "transformers", "deepspeed", "g2rpo_trainer"}


@pytest.fixture(scope="module")
def uv(root: Path) -> Path:
    """The checkout's own uv."""
    return root / "requirements" / "uv.sh"


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(python: Path, *packages: str) -> set[str]:
    """Third-party top-level modules in memory after all modules of the packages are imported."""
    return set(run(python, "-I", "-c", IMPORT_ALL, *packages).split())


def can_import(python: Path, module: str) -> bool:
    code = "import importlib.util, sys; print(importlib.util.find_spec(sys.argv[1]) is not None)"
    return run(python, "-I", "-c", code, module).strip() == "True"


def empty_venv(uv: Path, folder: Path) -> Path:
    """A Python with nothing installed."""
    run(uv, "venv", "--quiet", "--no-project", "--no-python-downloads", folder)
    return folder / "bin" / "python"


def test_operator_installs_without_the_trainer(uv: Path, root: Path, tmp_path: Path) -> None:
    python = empty_venv(uv, tmp_path / "operator")
    build = ("--build-constraint", root / "requirements" / "build.txt")
    run(uv, "pip", "sync", "--python", python, "--require-hashes", *build, root / "requirements" / "operator.txt")
    run(uv, "pip", "install", "--python", python, "--no-deps", *build, root / "api", root / "operator")
    run(uv, "pip", "check", "--python", python)
    assert not [module for module in sorted(HEAVY) if can_import(python, module)]
    assert {"g2rpo_api", "g2rpo_operator"} <= loaded(python, "g2rpo_api", "g2rpo_operator")
    assert not [module for module in ("rich", "typer") if can_import(python, module)]


def test_the_plugin_comes_with_its_extra(uv: Path, root: Path, tmp_path: Path) -> None:
    python = empty_venv(uv, tmp_path / "plugin")
    pins = (
        "--constraint",
        root / "requirements" / "dev.txt",
        "--build-constraint",
        root / "requirements" / "build.txt",
    )
    run(uv, "pip", "install", "--python", python, *pins, root / "api", f"{root / 'operator'}[plugin]")
    assert not [module for module in sorted(HEAVY) if can_import(python, module)]
    assert {"rich", "typer"} <= loaded(python, "g2rpo_operator.plugin")
    assert run(python.with_name("kubectl-g2rpo"), "--help").startswith("Usage: kubectl g2rpo ")


def test_api_needs_pydantic_and_yaml_only(uv: Path, root: Path, tmp_path: Path) -> None:
    python = empty_venv(uv, tmp_path / "api")
    pins = (
        *("--constraint", root / "requirements" / "operator.txt"),
        *("--build-constraint", root / "requirements" / "build.txt"),
    )
    run(uv, "pip", "install", "--python", python, *pins, root / "api")
    loaded(python, "g2rpo_api")
    installed = {line.split()[0] for line in run(uv, "pip", "list", "--quiet", "--python", python).splitlines()[2:]}
    assert installed == {
        *("g2rpo-api", "pydantic", "pyyaml"),
        *("annotated-types", "pydantic-core", "typing-extensions", "typing-inspection"),
    }
