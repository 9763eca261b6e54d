"""How long an iteration would take if the card did nothing but compute: what its utilisation (MFU) is a share of.

    python -m g2rpo_trainer.planning.utilisation JOB.yaml RANKS    prints the operations of an iteration on each rank

Who calls this: the session, on the leading rank. The dry run of a large model takes half a minute of a core, and other
attention than training's while it lasts: it is a process of its own, beside the training.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Thread

import torch

from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import load_job
from g2rpo_trainer.models.loading import compute_precision
from g2rpo_trainer.planning.cards import full_speed
from g2rpo_trainer.planning.plan import count
from g2rpo_trainer.planning.sketch import sketch
from g2rpo_trainer.planning.work import call_cost, work

logger = logging.getLogger(__name__)


def operations(job: G2RPOJob, ranks: int) -> int | None:
    """Of an iteration on each of so many ranks; None where the model is not known before it is loaded."""
    drawn = sketch(job.spec.training)
    return work(drawn, replace(count(job), ranks=ranks), call_cost(drawn)).flops if drawn else None


def measured(
    job: G2RPOJob, file: Path, ranks: int, card: str | None, tell: Callable[[str, float], object]
) -> AbstractContextManager[None]:
    """Inside, `tell` is called with the card and the seconds that an iteration's operations take at its full speed.

    It never is where the speed is not known: on another card, on none, or in float32.

    Args:
        job: what is trained.
        file: the same, as a file.
        ranks: that train it.
        card: torch's name of the first one's.
        tell: called from another thread, once.
    """
    speed = full_speed(card) if card else None
    if card is None or speed is None or compute_precision(job.spec.training.model) != torch.bfloat16:
        return nullcontext()
    return counted(file, ranks, lambda found: tell(card, found / speed))


@contextmanager
def counted(job: Path, ranks: int, tell: Callable[[int], object]) -> Iterator[None]:
    """Inside, a process beside this one counts the operations of the job in a file, and `tell` is called with them."""
    command = [sys.executable, "-m", __name__, str(job), str(ranks)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as beside:
        listener = Thread(target=_listen, args=(beside, tell), name="operations", daemon=True)
        listener.start()
        try:
            yield
        finally:
            beside.kill()
            listener.join()


def _listen(beside: subprocess.Popen[str], tell: Callable[[int], object]) -> None:
    said, errors = beside.communicate()
    if beside.returncode == 0:
        tell(int(said))
    elif beside.returncode > 0:
        logger.warning("the operations of an iteration are not known: %s", errors.strip().rpartition("\n")[2])


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 when they are printed."""
    os.nice(19)
    found = operations(load_job(Path(arguments[0])), int(arguments[1]))
    if found is None:
        print("the model is not known before it is loaded", file=sys.stderr)
        return 1
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
