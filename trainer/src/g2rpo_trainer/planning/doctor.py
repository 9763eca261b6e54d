"""The check-up: all questions about a job, those that need no weights and those that need them.

Who calls this: `__main__` for `--check`, on one process. Heavy libraries are imported here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.planning.checks import CHECKS, Patient
from g2rpo_trainer.planning.findings import Finding
from g2rpo_trainer.planning.footprint import footprint
from g2rpo_trainer.planning.memory import estimate
from g2rpo_trainer.planning.plan import Plan
from g2rpo_trainer.planning.sketch import sketch

logger = logging.getLogger(__name__)


def examine(job: G2RPOJob, counted: Plan, runs: Path, card_bytes: int | None) -> Patient:
    """Everything that the checks look at, without loading weights.

    Args:
        job: what shall be trained.
        counted: its plan.
        runs: folder of run folders.
        card_bytes: memory of a GPU; None asks the one that is here, if there is one.
    """
    drawn, ranks = sketch(job.spec.training), counted.ranks
    if drawn is None:
        return Patient(job, counted, None, card_bytes or present_card(), runs)
    counted = replace(counted, footprint=footprint(job.spec.training, ranks, drawn.files))
    return Patient(job, counted, estimate(drawn, ranks), card_bytes or present_card(), runs)


def findings_of(patient: Patient) -> Iterator[Finding]:
    """The answers of all checks."""
    for check in CHECKS:
        yield from check(patient)


def present_card(index: int = 0) -> int | None:
    """Memory of a GPU that is here; None where there is none."""
    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(index).total_memory)
