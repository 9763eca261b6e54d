"""Where libraries keep what they compile and fetch, also in pods whose user has neither a home nor a name."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from g2rpo_api import contract
from g2rpo_trainer.__main__ import _home


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the operator mounts its cache, which is not there on a laptop."""
    monkeypatch.setattr(contract, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_home_that_can_be_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    cache.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _home() == tmp_path


@pytest.mark.parametrize("home", ["/dev/null", "/nowhere/at/all", "relative"])
def test_in_place_of_one_that_cannot_the_cache_is_used(monkeypatch: pytest.MonkeyPatch, cache: Path, home: str) -> None:
    cache.mkdir()
    monkeypatch.setenv("HOME", home)
    assert _home() == cache


def test_without_either_the_folder_for_temporary_files_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    assert _home() == Path(tempfile.gettempdir())
