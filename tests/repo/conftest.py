"""The repository as the tests of this folder see it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNTRACKED = {
    ".git",
    ".uv",
    ".venv",
    ".venv-docs",
    "site",
    "runs",
    "__pycache__",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
}


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """Every file that belongs to the repository; in an unpacked archive, every file that could."""
    git = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z"]
    if (ROOT / ".git").exists():
        listing = subprocess.run(git, capture_output=True, check=True, text=True).stdout
        files = [ROOT / name for name in listing.split("\0") if name]
    else:
        files = [path for path in ROOT.rglob("*") if not UNTRACKED & set(path.relative_to(ROOT).parts)]
    return [path for path in files if path.is_file()]


@pytest.fixture(scope="session")
def texts(tracked: list[Path]) -> dict[Path, str]:
    """Content of the tracked files that are text, by path relative to the checkout."""
    found = {}
    for path in tracked:
        data = path.read_bytes()
        if b"\0" not in data:
            found[path.relative_to(ROOT)] = data.decode()
    return found
