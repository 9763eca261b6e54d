"""The part of the check-up that costs nothing, on the leading rank before training: what is odd goes to the log.

Who calls this: the session. Nothing here ends a run: a resumed one finds its own checkpoints on the disk, and what
the loop itself cannot do without, the loop refuses.
"""

from __future__ import annotations

import logging
from pathlib import Path

from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.planning.checks import Check, Patient, disk, geometry, rewards, tracking
from g2rpo_trainer.planning.plan import count

logger = logging.getLogger(__name__)

STARTING: tuple[Check, ...] = (geometry, disk, rewards, tracking)


def warn_at_start(job: G2RPOJob, runs: Path) -> None:
    """Log each finding that is not OK, with its remedy."""
    patient = Patient(job, count(job), None, None, runs)
    for finding in (finding for check in STARTING for finding in check(patient)):
        if finding.level != "OK":
            logger.warning("%s: %s; %s", finding.key, finding.reason, finding.remedy)
