"""A folder and a loopback network for each cluster that runs on this machine.

Who calls this: controlplane, at the start. A cluster gets a number that no other living one has; from it follow
its folder and its network 127.N.0.0/16: addresses of every pod are its own, and fixed ports never collide.
Its business ends there: what lies in the folder and listens in the network is the caller's.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from testcluster.locks import try_lock

FIRST_NET, LAST_NET = 16, 239
PROBE_PORT = 6443


@dataclass(frozen=True)
class RunDir:
    """What a cluster owns while its process lives: `lock` is an open file."""

    number: int
    folder: Path
    lock: int

    @property
    def address(self) -> str:
        """Where the control plane listens."""
        return f"127.{self.number}.255.1"

    @property
    def fake_pods(self) -> str:
        """Addresses of pods on fake nodes, as the first address and the length of the prefix."""
        return f"127.{self.number}.0.1/17"

    def process_address(self, index: int) -> str:
        """Address number `index` (from 0) of those for nodes and pods that are processes."""
        if not 0 <= index < 120 * 250:
            raise ValueError(f"there are {120 * 250} addresses for processes; number {index} is none of them")
        return f"127.{self.number}.{128 + index // 250}.{1 + index % 250}"

    def release(self) -> None:
        """Remove the folder and let others have the number."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.lock)


def base_folder() -> Path:
    """The folder of this user's clusters; PermissionError if somebody else made it."""
    base = Path(tempfile.gettempdir()) / f"g2rpo-testcluster-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    if base.is_symlink() or base.stat().st_uid != os.getuid():
        raise PermissionError(f"{base} belongs to somebody else; remove it or set TMPDIR to another folder")
    return base


def claim() -> RunDir:
    """Take the first free number, and remove what killed runs left behind."""
    base = base_folder()
    remove_dead(base)
    for number in range(FIRST_NET, LAST_NET + 1):
        lock = try_lock(base / f"{number}.lock")
        if lock is None:
            continue
        run = RunDir(number, base / str(number), lock)
        if listens_nobody(run.address):
            run.folder.mkdir(mode=0o700)
            return run
        os.close(lock)
    raise RuntimeError(f"{LAST_NET - FIRST_NET + 1} clusters run on this machine already; stop some")


def remove_dead(base: Path) -> None:
    """Remove the folders whose process has ended."""
    for folder in [path for path in base.iterdir() if path.is_dir()]:
        lock = try_lock(base / f"{folder.name}.lock")
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def listens_nobody(address: str) -> bool:
    """Whether nobody (another user's cluster, or a dying one) serves at the address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, PROBE_PORT))
        except OSError:
            return False
        return True
