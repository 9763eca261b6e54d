"""What the environment variables say: which rank or machine this process is, and what the pod around it wants.

Who calls this: `__main__`, before anything heavy is imported. The names are in `g2rpo_api.contract`, those
of torch.distributed beside them.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from g2rpo_api import contract
from g2rpo_api.errors import SpecError, SpecProblem
from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.errors import PeerLostError

T = TypeVar("T", int, float)
LOOPBACK = "127.0.0.1"
PORTS = range(1, 65536)
SOURCE = "environment"
"""What errors call it, as they call a job by its file."""


class Variables:
    """Variables being read; what is wrong with any of them is kept and reported at once."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """An empty variable is as good as none."""
        self._environment = {name: text for name, text in environment.items() if text}
        self._problems: list[SpecProblem] = []

    def integer(self, name: str, allowed: range, default: int | None = None) -> int:
        """A whole number; without default the variable must be there."""
        words = f"a whole number from {allowed.start} to {allowed.stop - 1}"
        return self._parsed(name, int, lambda value: value in allowed, words, default)

    def seconds(self, name: str) -> float:
        """A duration; 0 where there is none."""
        words = "a number of seconds, 0 or more"
        return self._parsed(name, float, lambda value: value >= 0 and math.isfinite(value), words, 0.0)

    def text(self, name: str, allowed: str) -> str:
        """A text that must be there."""
        if name not in self._environment:
            self._problems.append(SpecProblem(name, "nothing", allowed, "set the variable"))
        return self._environment.get(name, "")

    def path(self, name: str) -> Path | None:
        """A path, if there is one."""
        return Path(self._environment[name]) if name in self._environment else None

    def check(self) -> None:
        """Raise a SpecError with all that was wrong so far, if anything was."""
        if self._problems:
            raise SpecError(self._problems, SOURCE)

    def _parsed(
        self, name: str, parse: Callable[[str], T], fits: Callable[[T], bool], allowed: str, default: T | None
    ) -> T:
        if default is not None and name not in self._environment:
            return default
        text = self._environment.get(name, "nothing")
        value: T | None
        try:
            value = parse(text)
        except ValueError:
            value = None
        if value is not None and fits(value):
            return value
        self._problems.append(SpecProblem(name, text, allowed, "set or mend the variable"))
        return parse("0")


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
        """What torchrun (or our launcher) set; None where nobody started this process as a rank.

        Raises:
            SpecError: a variable is missing or contradicts another.
        """
        if "RANK" not in environment:
            return None
        variables = Variables(environment)
        size = variables.integer("WORLD_SIZE", range(1, 2**31))
        place = cls(
            rank=variables.integer("RANK", range(max(1, size))),
            world_size=size,
            local_rank=variables.integer("LOCAL_RANK", range(max(1, size)), default=0),
            master_address=environment.get("MASTER_ADDR") or LOOPBACK,
            master_port=variables.integer("MASTER_PORT", PORTS),
        )
        variables.check()
        return place

    @classmethod
    def alone(cls) -> RankEnvironment:
        """The only rank there is."""
        return Nodes.alone().places(1)[0]

    def variables(self) -> dict[str, str]:
        """As environment variables, for a child and for libraries that read them."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(self.local_rank),
            "MASTER_ADDR": self.master_address,
            "MASTER_PORT": str(self.master_port),
        }


@dataclass(frozen=True)
class Nodes:
    """The machines (on a cluster: pods) that train together, and which of them this is."""

    count: int
    rank: int
    """From 0."""
    master_address: str
    """Where the first of them is found."""
    master_port: int

    @classmethod
    def alone(cls) -> Nodes:
        """This machine by itself."""
        return cls(1, 0, LOOPBACK, free_port())

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Nodes:
        """What the operator, or whoever starts several machines by hand, has set.

        Raises:
            SpecError: a variable is missing or contradicts another.
        """
        variables = Variables(environment)
        count = variables.integer(contract.ENV_NODES, range(1, 2**31), default=1)
        rank = variables.integer(contract.ENV_NODE_RANK, range(max(1, count)), default=0 if count == 1 else None)
        if count == 1:
            variables.check()
            return cls.alone()
        address = variables.text("MASTER_ADDR", "host name or address of the machine whose rank is 0")
        nodes = cls(count, rank, address, variables.integer("MASTER_PORT", PORTS))
        variables.check()
        return nodes

    def places(self, processes: int) -> list[RankEnvironment]:
        """The ranks of this machine, where every machine has `processes`."""
        first, size = self.rank * processes, self.count * processes
        return [
            RankEnvironment(first + local, size, local, self.master_address, self.master_port)
            for local in range(processes)
        ]


@dataclass(frozen=True)
class Surroundings:
    """Where a run goes, and what the pod around it wants. Nothing of the latter is there on a laptop."""

    runs: Path
    """Folder of run folders."""
    port: int | None
    """Port to serve on; None is the default one, or a free one where that is taken."""
    attempt: int | None
    """Number of the attempt; None counts in the run folder."""
    stop_file: Path | None
    """File whose appearance asks to end early."""
    linger_seconds: float
    """How long a finished run waits for its last numbers to be fetched."""

    @classmethod
    def read(cls, environment: Mapping[str, str], runs: Path, port: int | None) -> Surroundings:
        """What the command line says, and what the operator has set.

        Raises:
            SpecError: a variable cannot be read.
        """
        variables = Variables(environment)
        attempt = variables.integer(contract.ENV_ATTEMPT, range(1, 2**31), default=0)
        linger = variables.seconds(contract.ENV_LINGER_SECONDS)
        variables.check()
        return cls(runs, port, attempt or None, variables.path(contract.ENV_STOP_FILE), linger)


def await_first_rank(
    place: RankEnvironment, seconds: float, pause_seconds: float = 1.0, clock: Callable[[], float] = time.monotonic
) -> None:
    """Return when the first rank listens; its machine may have no name yet, and torch would try for ever.

    Raises:
        PeerLostError: it does not within so many seconds.
    """
    until = clock() + seconds
    while True:
        try:
            socket.create_connection((place.master_address, place.master_port), timeout=5).close()
            return
        except OSError as error:
            if clock() >= until:
                where = f"{place.master_address}:{place.master_port}"
                raise PeerLostError(f"rank {place.rank} did not find rank 0 at {where}: {error}") from error
            time.sleep(pause_seconds)


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def refuse_other_nodes(job: G2RPOJob, nodes: Nodes) -> None:
    """Raise a SpecError where the job is for another number of machines than were started."""
    if job.spec.workers.nodes != nodes.count:
        wanted = job.spec.workers.nodes
        hint = (
            f"set it to {nodes.count}, or start {wanted} machines: {contract.ENV_NODES}={wanted}, on each its own "
            f"{contract.ENV_NODE_RANK} from 0 on, and on all MASTER_ADDR and MASTER_PORT of the first"
        )
        allowed = f"{nodes.count}, the number of machines that were started ({contract.ENV_NODES})"
        problem = SpecProblem("spec.workers.nodes", wanted, allowed, hint)
        raise SpecError([problem], job.metadata.name)
