"""`python -m testcluster binaries` builds the programs; `python -m testcluster up` runs a cluster to play with.

Its fake nodes are for pods that want GPUs; pods that want none run as processes of this machine.

Who calls this: the Makefile and people.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from testcluster import binaries
from testcluster.cluster import Cluster

VOLUMES = 16


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m testcluster", description=__doc__)
    commands = found.add_subparsers(dest="command", required=True)
    commands.add_parser("binaries", help="build what is missing, then say where everything is")
    up = commands.add_parser("up", help="run a cluster until Ctrl-C")
    up.add_argument("--nodes", type=int, default=4, help="fake nodes, whose pods only seem to run (default: 4)")
    up.add_argument("--gpus", type=int, default=8, help="GPUs of each (default: 8)")
    return found


def show_binaries() -> None:
    for name, path in binaries.ensure().items():
        print(f"{name:<24} {path}")


def up(nodes: int, gpus: int) -> None:
    """Run a cluster until Ctrl-C or SIGTERM, also where a shell's background job would ignore the first."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    try:
        with Cluster.started() as cluster:
            cluster.nodes(nodes, gpus, taint=True)
            cluster.add_process_node()
            cluster.add_storage(VOLUMES)
            print(f"export KUBECONFIG={cluster.kubeconfig}")
            print(f'export PATH="{cluster.programs["kubectl"].parent}:{Path(sys.executable).parent}:$PATH"', flush=True)
            print(f"{nodes} fake nodes with {gpus} GPUs each, one node of processes; Ctrl-C ends it", file=sys.stderr)
            signal.pause()
    except KeyboardInterrupt:
        pass


def main() -> None:
    arguments = parser().parse_args()
    if arguments.command == "binaries":
        show_binaries()
    else:
        up(arguments.nodes, arguments.gpus)


if __name__ == "__main__":
    main()
