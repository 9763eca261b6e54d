"""Everything that is told of a run while it runs: the diary, the curves, the pictures, the terminal, the port.

Who calls this: the loop, on every rank; only the leading one says anything.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from g2rpo_api import contract
from g2rpo_api.job import G2RPOJob
from torch import Tensor

from g2rpo_trainer.curves import write_curve_csv
from g2rpo_trainer.journal import IterationRecord
from g2rpo_trainer.runfolder import RunFolder, TakenUp


class Publisher:
    def __init__(self, folder: RunFolder, lead: bool) -> None:
        self._folder = folder
        self._lead = lead
        self._records: list[IterationRecord] = []

    @classmethod
    def create(cls, job, folder, lead): return cls(folder, lead)

    @contextmanager
    def serving(self, port):
        yield

    def start(self, taken_up: TakenUp) -> None:
        self._records = list(taken_up.records)

    def publish(self, record: IterationRecord) -> None:
        if not self._lead:
            return
        self._folder.append(record)
        self._records.append(record)
        r = record
        print(r.iteration, [ (e.name, round(e.anchor.mean,3) if e.anchor else None, {k: round(v.mean,3) for k,v in e.branch.items()}) for e in r.rewards],
          r.policy and (round(r.policy.grad_norm,3), round(r.policy.clip_low+r.policy.clip_high,3), round(r.policy.approx_kl,8)), {k: round(v,2) for k,v in r.seconds.items()}, round(r.step_seconds,2), r.model_calls, flush=True)
        for e in r.evaluation: print("   ", e.split, {k: round(v.mean,3) for k,v in e.rewards.items()}, flush=True)

    def pictures(self, iteration: int, images: Tensor) -> None: ...
    def checkpointed(self, iteration: int) -> None: ...
    def finish(self, done: bool) -> None: ...
