"""Network, processes and mounts of the node's own: a command runs in them, and with it everything ends.

The kernel kills all that is in the namespace of processes when its first one ends, however it ends, and forgets
network and mounts with the last: neither Ctrl-C nor SIGKILL leaves anything that runs. Cgroups and the folder stay:
they are removed here, those of a run that was killed by the next one. Mounts hide the machine's own folders where nodes
write outside theirs (PLACES); those stay, empty.

Who calls this: the command line.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from testcluster.locks import try_lock
from testcluster.process import DEATHSIG
from testcluster.rundir import base_folder, remove_dead
from testnode.able import NAMESPACES
from testnode.facts import API_IP, BRIDGE, CONTROLLERS, DNS_IP, GROUP, INSIDE, NODE_IP, PATH, PLACES


def run(command: Sequence[str]) -> int:
    """Run a command in namespaces of its own, which end with this process; its exit code."""
    unshare = str(shutil.which(NAMESPACES[0], path=PATH))
    guarded = [sys.executable, "-I", "-S", str(DEATHSIG), str(os.getpid()), unshare, *NAMESPACES[1:]]
    first = [sys.executable, "-m", "testnode", "init", "--", *command]
    with own_group() as group:
        process = subprocess.Popen([*guarded, *first], env={**os.environ, INSIDE: group})
        return wait_through_interrupts(process)


@contextmanager
def own_group() -> Iterator[str]:
    """A name for cgroups that nobody else has; they are gone afterwards, as is what killed runs left."""
    base = base_folder()
    remove_dead_groups(base)
    group = f"{GROUP}{secrets.token_hex(4)}"
    lock = try_lock(base / f"{group}.lock")
    assert lock is not None
    try:
        yield group
    finally:
        os.close(lock)
        remove_dead_groups(base)
        remove_dead(base)


def remove_dead_groups(base: Path) -> None:
    """Remove the cgroups of runs that have ended: nobody holds their lock."""
    for path in base.glob(f"{GROUP}*.lock"):
        lock = try_lock(path)
        if lock is not None:
            remove_group(path.stem)
            path.unlink(missing_ok=True)
            os.close(lock)


def wait_through_interrupts(process: subprocess.Popen[bytes]) -> int:
    """Wait; a Ctrl-C reaches the command by itself, SIGTERM is passed on."""
    signal.signal(signal.SIGTERM, lambda *_: terminate_first(process.pid))
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def terminate_first(unshare: int) -> None:
    """SIGTERM to the first process of the namespaces: `unshare`, which started it, takes none."""
    for word in Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(word), signal.SIGTERM)


def init(command: Sequence[str]) -> int:
    """Be the first process: prepare what the node finds, start the command, reap whoever ends; the command's code."""
    make_network()
    make_places()
    child = subprocess.Popen(command)
    for number in (signal.SIGINT, signal.SIGTERM):
        # a terminal's Ctrl-C goes to the child as well; the first process must not die of it
        signal.signal(number, lambda number, _: child.send_signal(number) if number == signal.SIGTERM else None)
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status) % 256


def make_network() -> None:
    """A bridge for the pods with the addresses of the node, the API server's Service and the DNS."""
    for words in (
        "link set lo up",
        f"link add {BRIDGE} type bridge",
        f"addr add {NODE_IP}/16 dev {BRIDGE}",
        f"addr add {API_IP}/32 dev {BRIDGE}",
        f"addr add {DNS_IP}/32 dev {BRIDGE}",
        f"link set {BRIDGE} up",
    ):
        subprocess.run(["ip", *words.split()], check=True)


def make_places() -> None:
    """Memory over folders that all nodes of a machine would share, and clear of what they do not know."""
    for place in PLACES:
        Path(place).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)


def groups(name: str) -> list[Path]:
    """Folders of a cgroup, one for each hierarchy that is mounted."""
    root = Path(CONTROLLERS)
    if (root / "cgroup.controllers").exists():
        return [root / name]
    return [folder / name for folder in root.iterdir() if (folder / "cgroup.procs").exists()]


def remove_group(name: str) -> None:
    """Remove a cgroup and those below it; nobody is in them any more."""
    for group in groups(name):
        below = sorted((path for path in group.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
        for folder in [*below, group]:
            with contextlib.suppress(OSError):
                folder.rmdir()
