"""Where this process stands among the ranks, and how a laptop starts several.

Who calls this: `__main__`, before anything heavy is imported. On a cluster torchrun starts the ranks
and sets the same variables. The launcher is ours and small because exit codes are a contract: torchrun
answers 1 whatever its workers say.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from g2rpo_api.contract import ExitCode

LOOPBACK = "127.0.0.1"
GRACE_SECONDS = 5.0
"""How long ranks may take to end after another one failed."""
POLL_SECONDS = 0.1
LAUNCHED = "G2RPO_LAUNCHED"
"""Set in ranks that `launch` started."""
PR_SET_PDEATHSIG = 1
"""Linux: the signal to get when the parent dies."""


@dataclass(frozen=True)
class RankEnvironment:
    """The standard variables of torch.distributed."""

    rank: int
    world_size: int
    local_rank: int
    master_address: str
    master_port: int

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> RankEnvironment | None:
        """What torchrun (or `launch`) set; None where nobody started this process as a rank."""
        if "RANK" not in environment:
            return None
        return cls(
            rank=int(environment["RANK"]),
            world_size=int(environment["WORLD_SIZE"]),
            local_rank=int(environment.get("LOCAL_RANK", "0")),
            master_address=environment.get("MASTER_ADDR", LOOPBACK),
            master_port=int(environment["MASTER_PORT"]),
        )

    @classmethod
    def alone(cls) -> RankEnvironment:
        """The only rank there is."""
        return cls(0, 1, 0, LOOPBACK, free_port())

    def variables(self) -> dict[str, str]:
        """As environment variables, for a child and for libraries that read them."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(self.local_rank),
            "MASTER_ADDR": self.master_address,
            "MASTER_PORT": str(self.master_port),
        }


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `python -m g2rpo_trainer` as `processes` ranks of this machine and wait for all.

    SIGTERM and SIGINT reach the ranks as SIGTERM, so that they save a checkpoint; a second one kills
    them. When a rank fails the others are told to end and, after a grace, killed, since they would
    wait for it in a collective.

    Returns:
        The exit code of the first rank that failed, or 0.
    """
    port = free_port()
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "g2rpo_trainer", *arguments],
            env=os.environ | RankEnvironment(rank, processes, rank, LOOPBACK, port).variables() | {LAUNCHED: "1"},
        )
        for rank in range(processes)
    ]
    told = False

    def hand_on(*_: object) -> None:
        nonlocal told
        for rank in ranks:
            rank.kill() if told else rank.terminate()
        told = True

    signal.signal(signal.SIGTERM, hand_on)
    signal.signal(signal.SIGINT, hand_on)
    try:
        return _wait(ranks)
    finally:
        for rank in ranks:
            rank.kill()


def _wait(ranks: list[subprocess.Popen[bytes]]) -> int:
    """Exit code of the first failure after all ranks ended, or 0."""
    first, deadline = int(ExitCode.OK), math.inf
    while any(rank.poll() is None for rank in ranks):
        failed = [rank.returncode for rank in ranks if rank.returncode]
        if failed and first == ExitCode.OK:
            first, deadline = _telling(failed), time.monotonic() + GRACE_SECONDS
            for rank in ranks:
                rank.terminate()
        if time.monotonic() > deadline:
            for rank in ranks:
                rank.kill()
        time.sleep(POLL_SECONDS)
    return first or _telling([rank.returncode for rank in ranks])


def _telling(returncodes: Sequence[int]) -> int:
    """The code that says most: ranks that lose another one end as by a bug, a moment later.

    As a shell has it, a rank killed by signal N ends with 128 + N.
    """
    codes = [code if code >= 0 else 128 - code for code in returncodes]
    return next((code for code in codes if code not in (ExitCode.OK, ExitCode.BUG)), max(codes))


def follow_launcher() -> None:
    """In a rank that `launch` started: leave Ctrl-C to the launcher, and stop when it dies."""
    if LAUNCHED in os.environ:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
