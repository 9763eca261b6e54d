"""The part of the check-up that costs nothing, before training: what is odd goes to the log, what cannot be is refused.

Who calls this: the session. A resumed run finds its own checkpoints on the disk, and what the loop itself cannot do
without, the loop refuses: only memory that is too small whatever happens ends a run here. What a dry run tells of it
comes later, from `utilisation.py`.
"""

from __future__ import annotations

import logging
from pathlib import Path

from g2rpo_api.errors import SpecError, SpecProblem
from g2rpo_api.job import G2RPOJob
from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.planning.checks import REMEDIES, Check, Patient, disk, geometry, rewards, tracking
from g2rpo_trainer.planning.estimates import TOLERANCE
from g2rpo_trainer.planning.findings import Finding
from g2rpo_trainer.planning.memory import resident
from g2rpo_trainer.planning.model_files import read_model
from g2rpo_trainer.planning.plan import count
from g2rpo_trainer.planning.sizes import size_text
from g2rpo_trainer.resources import resolve

logger = logging.getLogger(__name__)

STARTING: tuple[Check, ...] = (geometry, disk, rewards, tracking)


def warn_at_start(job: G2RPOJob, runs: Path) -> None:
    """Log each finding that is not OK, with its remedy."""
    patient = Patient(job, count(job), None, None, runs)
    for finding in (finding for check in STARTING for finding in check(patient)):
        tell_finding(finding)


def tell_finding(finding: Finding) -> None:
    """Log it, with its remedy, unless all is well."""
    if finding.level != "OK":
        level = logging.ERROR if finding.level == "Error" else logging.WARNING
        logger.log(level, "%s: %s; %s", finding.key, finding.reason, finding.remedy)


def refuse_what_cannot_fit(training: TrainingSpec, ranks: int, card_bytes: int | None) -> None:
    """Weights, moments and rewards stay on the card from beginning to end: they are summed up, nothing is run.

    Args:
        training: of a model in a folder; of a hub id nothing is known yet.
        ranks: that train it.
        card_bytes: memory of a GPU; None where there is none.

    Raises:
        SpecError: they are more than the card has, by more than such a sum is ever off.
    """
    folder = Path(resolve(training.model.path))
    if card_bytes is None or not folder.is_dir():
        return
    stays = sum(resident(training, ranks, read_model(folder)).values())
    if stays > card_bytes * (1 + TOLERANCE):
        found = f"{size_text(stays)} that stay throughout, before anything is computed"
        allowed = f"the card's {size_text(card_bytes)}"
        hint = f"{REMEDIES['optimizer step']}; docs/out-of-memory.md says what each saves"
        raise SpecError([SpecProblem("memory of a rank", found, allowed, hint)])
