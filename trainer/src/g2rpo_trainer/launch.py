"""How a machine starts its ranks and waits for them.

Who calls this: `__main__`, where one machine has several ranks or several machines train together. torchrun
can start the ranks instead. The launcher is ours and small because exit codes are a contract: torchrun
answers 1 whatever its workers say.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from g2rpo_api import contract
from g2rpo_api.contract import ExitCode
from g2rpo_api.progress import TerminationReport
from g2rpo_trainer.environment import RankEnvironment
from g2rpo_trainer.lastword import heard

GRACE_SECONDS = 5.0
"""How long ranks may take to end after another one failed."""
POLL_SECONDS = 0.1
LAUNCHED = "G2RPO_LAUNCHED"
"""Set in ranks that `launch` started."""
PR_SET_PDEATHSIG = 1
"""Linux: the signal to get when the parent dies."""
NO_FAILURE = (ExitCode.CHECKPOINTED, ExitCode.OK)
ECHOES = (128 + signal.SIGABRT, ExitCode.PEER_LOST)
"""How ranks end that lost another one: some libraries abort the process."""
TELLING = (ExitCode.BUG, *ECHOES, *NO_FAILURE)
"""Exit codes that say less than any other, and each less than the one before."""
HINTS: dict[int, str] = {signal.SIGKILL: ": often memory exhausted", signal.SIGBUS: ": often /dev/shm exhausted"}


def launch(command: Sequence[str], places: Sequence[RankEnvironment], log: Path | None = None) -> TerminationReport:
    """Run `command` as several ranks of this machine and wait for all.

    SIGTERM and SIGINT reach the ranks as SIGTERM, so that they save a checkpoint; a second one kills
    them. When a rank fails the others are told to end and, after a grace, killed, since they would
    wait for it in a collective.

    Args:
        command: what each rank runs.
        places: of the ranks.
        log: where the first rank's last word goes, so that it is there even if this process is killed; None: nowhere.

    Returns:
        The last word of the first rank that failed (as a shell has it, a rank killed by signal N ends with
        128 + N), or that the first rank of this machine ended well; with the progress that rank 0 reported.
    """
    with tempfile.TemporaryDirectory(prefix="g2rpo-ranks-") as folder:
        words = {place.rank: Path(folder) / f"{place.rank}.json" for place in places}
        words[places[0].rank] = log or words[places[0].rank]
        ranks = Ranks()
        try:
            ranks.start(command, places, words)
            rank, code = ranks.wait()
        finally:
            ranks.kill()
        lead = heard(words[places[0].rank])
        said = heard(words[rank])
    if said is None or said.exit_code != code:
        said = TerminationReport(exit_code=code, rank=rank, message=_silent_end(rank, code))
        print(said.message, file=sys.stderr)
    return said.model_copy(update={"progress": lead.progress if lead else None})


class Ranks:
    """The processes of this machine's ranks."""

    def __init__(self) -> None:
        """None is running, but signals are kept for them from now on."""
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._asked = 0
        self._told = 0
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)

    def start(self, command: Sequence[str], places: Sequence[RankEnvironment], words: Mapping[int, Path]) -> None:
        """One process a place; its last word goes to the file in `words`."""
        for place in places:
            own = {LAUNCHED: "1", contract.ENV_TERMINATION_LOG: str(words[place.rank])}
            self._processes[place.rank] = subprocess.Popen(command, env=os.environ | place.variables() | own)

    def wait(self) -> tuple[int, int]:
        """Rank and exit code of the first failure, after all ranks have ended; of the lowest rank where none failed.

        A rank may notice the loss of another one before that one's process is gone: it is blamed only when
        nobody else fails within the grace.
        """
        blamed: tuple[int, int] | None = None
        deadline = math.inf
        while True:
            ended = self._ended()
            failed = {rank: code for rank, code in ended.items() if code not in NO_FAILURE}
            if failed and blamed is None:
                deadline = time.monotonic() + GRACE_SECONDS
                self._tell()
            if failed and (blamed is None or blamed[1] in ECHOES) and time.monotonic() < deadline:
                blamed = most_telling(failed)
            if len(ended) == len(self._processes):
                return blamed or most_telling(ended)
            self._hand_on()
            if time.monotonic() > deadline:
                self.kill()
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """End those that still run, at once."""
        for process in self._processes.values():
            process.kill()

    def _tell(self) -> None:
        """Ask all to save what they have, and to end."""
        self._told += 1
        for process in self._processes.values():
            process.terminate()

    def _ask(self, *_: object) -> None:
        self._asked += 1

    def _hand_on(self) -> None:
        """The first signal asks, any further one kills."""
        if self._asked > self._told:
            self.kill() if self._told else self._tell()

    def _ended(self) -> dict[int, int]:
        """Exit codes of those that have ended."""
        codes = {rank: process.poll() for rank, process in self._processes.items()}
        return {rank: exit_code(code, self._told > 0) for rank, code in codes.items() if code is not None}


def exit_code(returncode: int, told: bool) -> int:
    """As a shell has it, a process killed by signal N ends with 128 + N.

    A rank that was told to stop before it listened to signals had nothing to save: it may as well have.
    """
    if told and returncode == -signal.SIGTERM:
        return ExitCode.CHECKPOINTED
    return returncode if returncode >= 0 else 128 - returncode


def most_telling(codes: Mapping[int, int]) -> tuple[int, int]:
    """The rank, and its code, that says most about why ranks ended."""
    return min(codes.items(), key=lambda item: (TELLING.index(item[1]) if item[1] in TELLING else -1, item[0]))


def _silent_end(rank: int, code: int) -> str:
    """What can be said of a rank that did not say it."""
    if code == ExitCode.CHECKPOINTED:
        return f"rank {rank} was stopped before it had anything to save"
    if code <= 128:
        return f"rank {rank} ended with exit code {code} and did not say why"
    number = code - 128
    name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
    return f"rank {rank} was killed by signal {number} ({name}){HINTS.get(number, '')}"


def follow_launcher() -> None:
    """In a rank that `launch` started: leave Ctrl-C to the launcher, and stop when it dies."""
    if LAUNCHED in os.environ:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
