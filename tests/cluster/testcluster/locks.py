"""File locks that end with the process that holds them, and the folder of everything that is cached.

Who calls this: binaries (one build at a time) and rundir (which runs are alive).
Its business ends there: it knows neither builds nor clusters.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]


def say(text: str) -> None:
    """Tell the person at the terminal what takes so long."""
    print(f"g2rpo: {text}", file=sys.stderr, flush=True)


def try_lock(path: Path) -> int | None:
    """An open file that holds the lock, or None while another process holds it.

    The lock is released when the number is closed or the process ends, however it ends: children do not inherit it.
    """
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    return held


@contextmanager
def locked(path: Path, waiting_for: str) -> Iterator[None]:
    """Hold the lock for a block, and say what is waited for when another process has it."""
    held = try_lock(path)
    if held is None:
        say(f"waiting for {waiting_for}")
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(held)


def cache_folder() -> Path:
    """Where what is built or installed once per machine is kept; the checkout's `.uv/cache` if a home is read-only."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "g2rpo"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        pass
    else:
        if os.access(home, os.W_OK):
            return home
    fallback = CHECKOUT / ".uv/cache/g2rpo"
    fallback.mkdir(parents=True, exist_ok=True)
    return fallback
