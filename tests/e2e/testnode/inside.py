"""Network, processes and mounts of the node's own: a command runs in them, and with it everything ends.

The kernel kills all that is in the namespace of processes when its first one ends, however it ends, and forgets
network and mounts with the last: neither Ctrl-C nor SIGKILL leaves anything. Only cgroups stay; they are removed here.

Who calls this: the command line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from testcluster.rundir import base_folder, remove_dead
from testnode.able import NAMESPACES
from testnode.facts import API_IP, BRIDGE, CONTROLLERS, DNS_IP, INSIDE, NODE_IP


def run(command: Sequence[str]) -> int:
    """Run a command in namespaces of its own; its exit code."""
    group = f"g2rpo-testnode-{os.getpid()}"
    first = [sys.executable, "-m", "testnode", "init", "--", *command]
    process = subprocess.Popen([*NAMESPACES, *first], env={**os.environ, INSIDE: group})
    try:
        return wait_through_interrupts(process)
    finally:
        remove_group(group)
        remove_dead(base_folder())


def wait_through_interrupts(process: subprocess.Popen[bytes]) -> int:
    """Wait; a Ctrl-C reaches the command by itself, SIGTERM is passed on."""
    signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGTERM))
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def init(command: Sequence[str]) -> int:
    """Be the first process: set the network up, start the command, reap whoever ends; the command's exit code."""
    make_network()
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
