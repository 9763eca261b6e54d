"""`python -m testnode COMMAND`: a Kubernetes node on this machine, in namespaces of its own; root, on Linux.

    able            says what keeps this machine from being a node; exit code 69 (EX_UNAVAILABLE) if anything does
    prepare         the same, after installing Debian packages that are missing
    binaries        builds what is missing
    run -- COMMAND  runs a command in fresh namespaces; nothing that it started outlives it
    up              a node to play with, until Ctrl-C

Who calls this: the Makefile and people.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from testcluster import binaries
from testnode import able, inside
from testnode.facts import INSIDE

if TYPE_CHECKING:
    from testnode.node import Node


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m testnode", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("command", choices=("able", "prepare", "binaries", "run", "init", "up"))
    found.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return found


def tell_obstacles() -> int:
    """Print each; EX_UNAVAILABLE if there is one."""
    found = list(able.obstacles())
    for obstacle in found:
        print(f"g2rpo: this machine cannot be a node: {obstacle}", file=sys.stderr)
    return os.EX_UNAVAILABLE if found else 0


def up() -> int:
    """Run a node until Ctrl-C or SIGTERM."""
    from testnode.node import Node

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    try:
        with Node.started() as node:
            node.volume("runs")
            print(f"a node is up; in another terminal: sh {write_entry(node)}", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass
    return 0


def write_entry(node: Node) -> Path:
    """A script that runs a shell in the caller's folder where the node can be reached, and ctr fills its images."""
    path = node.folder / "enter.sh"
    first = f"grep -qsz {INSIDE}={os.environ[INSIDE]} /proc/$pid/environ && grep -qs '^NSpid:.*\\s1$' /proc/$pid/status"
    path.write_text(
        f"for pid in $(pgrep -f 'testnode init'); do {first} && break; done\n"
        f'exec nsenter --target $pid --net --pid --mount env --chdir "$PWD" KUBECONFIG={node.kubeconfig} '
        f"CONTAINERD_ADDRESS={node.socket} CONTAINERD_NAMESPACE=k8s.io "
        f'PATH={node.programs["kubectl"].parent}:$PATH bash "$@"\n'
    )
    return path


def main() -> int:
    arguments = parser().parse_args()
    rest = arguments.rest[1:] if arguments.rest[:1] == ["--"] else arguments.rest
    if arguments.command == "init":
        return inside.init(rest)
    if arguments.command == "binaries":
        for name, path in (binaries.ensure() | binaries.ensure(binaries.NODE)).items():
            print(f"{name:<24} {path}")
        return 0
    if arguments.command == "up" and INSIDE in os.environ:
        return up()
    if arguments.command == "prepare":
        able.prepare()
    failed = tell_obstacles()
    if failed or arguments.command in ("able", "prepare"):
        return failed
    return inside.run(rest if arguments.command == "run" else [sys.executable, "-m", "testnode", "up"])


if __name__ == "__main__":
    sys.exit(main())
