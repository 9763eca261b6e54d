"""Writing files so that a kill, a crash or a full disk never leaves half of one behind.

Who calls this: the run folder, checkpoints and everything that writes a file for people.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from g2rpo_trainer.errors import StorageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
TORCH_WRITER = ("PytorchStreamWriter", "inline_container")
"""What a RuntimeError of torch.save names when the disk refuses: it is no OSError."""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a refusal of the file system into a StorageError that names the path and the remedy."""
    try:
        yield
    except OSError as error:
        raise StorageError(_message(path, error)) from error
    except RuntimeError as error:
        if not any(name in str(error) for name in TORCH_WRITER):
            raise
        raise StorageError(f"{path} could not be written ({error}); {_FREE_SPACE}") from error


_FREE_SPACE = (
    "free some space or choose another folder with --runs, then start again: the run goes on from its last checkpoint"
)


def _message(path: Path, error: OSError) -> str:
    if error.errno in FULL:
        return f"{path}: no space left for it ({error.strerror}); {_FREE_SPACE}"
    return f"{path} cannot be written: {error.strerror}; make it writable for this user or choose another with --runs"


def replace_file(path: Path, content: bytes, writer: str = "partial") -> None:
    """Write `content` so that readers see the old file or the new one, also after a power cut.

    Where several processes may write the same file, each gives a `writer` of its own.
    """
    partial = path.with_name(f".{path.name}.{writer}")
    with partial.open("wb") as file:
        file.write(content)
        sync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Add one line and wait until it is on the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        sync(file.fileno())


def sync(descriptor: int) -> None:
    """Wait until a file is on the disk."""
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
