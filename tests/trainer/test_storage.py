from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from g2rpo_trainer.errors import StorageError
from g2rpo_trainer.storage import append_line, replace_file, storage_errors


@contextmanager
def files_of_at_most_100_bytes() -> Iterator[None]:
    """The kernel refuses to write beyond the limit, as it does on a full disk; output of pytest, too, so be quick."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_where_the_disk_refuses_the_old_file_stays_and_the_error_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    with (
        pytest.raises(StorageError, match="no space left") as error,
        files_of_at_most_100_bytes(),
        storage_errors(path),
    ):
        replace_file(path, b"x" * 1000)
    assert str(path) in str(error.value)
    assert "--runs" in str(error.value)
    assert path.read_bytes() == b"old"


def test_lines_before_a_refused_one_stay(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_line(path, "first")
    with pytest.raises(StorageError), files_of_at_most_100_bytes(), storage_errors(path):
        append_line(path, "x" * 1000)
    assert path.read_text().splitlines()[0] == "first"


def test_a_folder_that_is_a_file_is_told_as_not_writable(tmp_path: Path) -> None:
    obstacle = tmp_path / "runs"
    obstacle.write_text("")
    with pytest.raises(StorageError, match="cannot be written"), storage_errors(obstacle / "run"):
        (obstacle / "run").mkdir(parents=True)


def test_errors_that_are_not_about_storage_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), storage_errors(Path("x")):
        raise RuntimeError("shapes do not match")
