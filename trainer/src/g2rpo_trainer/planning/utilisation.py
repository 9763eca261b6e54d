"""What takes a dry run to know: whether a rank's memory is enough, and what its utilisation (MFU) is a share of.

    python -m g2rpo_trainer.planning.utilisation JOB.yaml RANKS CARD_BYTES [operations]

prints a line of JSON with what was found of the memory, then, where asked, one with the operations of an iteration on
each rank.

Who calls this: the session, on the leading rank, where there is a GPU. The dry run of a large model takes half a minute
of a core, and other attention than training's while it lasts: it is a process of its own, beside the loading of the
model and the training.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread
from typing import IO, Any

import torch

from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import load_job
from g2rpo_trainer.models.loading import compute_precision
from g2rpo_trainer.planning.cards import full_speed
from g2rpo_trainer.planning.checks import Patient, memory
from g2rpo_trainer.planning.findings import Finding
from g2rpo_trainer.planning.memory import estimate
from g2rpo_trainer.planning.plan import count
from g2rpo_trainer.planning.sketch import sketch
from g2rpo_trainer.planning.startup import tell_finding
from g2rpo_trainer.planning.work import call_cost, work

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Card:
    """A GPU."""

    name: str
    """As torch calls it."""
    memory: int
    """Bytes."""


def dry_run(job: G2RPOJob, ranks: int, card_bytes: int, operations: bool) -> Iterator[dict[str, Any]]:
    """What is found, each when it is; nothing where the model is not known before it is loaded."""
    drawn = sketch(job.spec.training)
    if drawn is None:
        return
    plan = replace(count(job), ranks=ranks)
    patient = Patient(job, plan, estimate(drawn, ranks), card_bytes, Path())
    yield from ({"memory": asdict(finding)} for finding in memory(patient))
    if operations:
        yield {"operations": work(drawn, plan, call_cost(drawn)).flops}


def measured(
    job: G2RPOJob, file: Path, ranks: int, card: Card | None, tell: Callable[[str, float], object]
) -> AbstractContextManager[None]:
    """Inside, memory that may not be enough for the card goes to the log, and `tell` is called with the card's name and
    the seconds that an iteration's operations take at its full speed.

    It never is where the speed is not known: on another card, on none, or in float32.

    Args:
        job: what is trained.
        file: the same, as a file.
        ranks: that train it.
        card: the first one's.
        tell: called from another thread, once.
    """
    if card is None:
        return nullcontext()
    speed = full_speed(card.name) if compute_precision(job.spec.training.model) == torch.bfloat16 else None

    def heard(found: dict[str, Any]) -> None:
        if "memory" in found:
            tell_finding(Finding(**found["memory"]))
        elif speed is not None:
            tell(card.name, found["operations"] / speed)

    return counted([str(file), str(ranks), str(card.memory), *(["operations"] if speed else [])], heard)


@contextmanager
def counted(arguments: Sequence[str], heard: Callable[[dict[str, Any]], object]) -> Iterator[None]:
    """Inside, a process beside this one makes the dry run, and `heard` is called with each line of it."""
    command = [sys.executable, "-m", __name__, *arguments]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as beside,
    ):
        listener = Thread(target=_listen, args=(beside, errors, heard), name="dry run", daemon=True)
        listener.start()
        try:
            yield
        finally:
            beside.kill()
            listener.join()


def _listen(beside: subprocess.Popen[str], errors: IO[str], heard: Callable[[dict[str, Any]], object]) -> None:
    assert beside.stdout is not None
    for line in beside.stdout:
        if line.startswith("{"):  # libraries, too, print what they have to say
            heard(json.loads(line))
    if beside.wait() > 0:
        errors.seek(0)
        logger.warning("memory and operations are not known: %s", errors.read().strip().rpartition("\n")[2])


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 when all is printed."""
    file, ranks, card_bytes, *more = arguments
    for found in dry_run(load_job(Path(file)), int(ranks), int(card_bytes), "operations" in more):
        print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    os.nice(19)
    sys.exit(main(sys.argv[1:]))
