"""Two ranks that share the weights: each keeps the mean of its share, through a stop and back."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from g2rpo_api.contract import ExitCode

SHARDED: dict[str, Any] = {
    "deepspeed": {"zeroStage": 3},
    "ema": {"decay": 0.5},
    "optimizer": {"warmupIterations": 3, "schedule": "Cosine"},
    "iterations": 6,
}


def exported(run: Path) -> dict[str, Tensor]:
    return load_file(next((run / "export").rglob("*.safetensors")))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_was_stopped_exports_the_mean_of_one_that_was_not(trainer: Any) -> None:
    trainer.start(trainer.job("whole", 2, **SHARDED)).finish()
    job = trainer.job("halves", 2, **SHARDED)
    process = trainer.start(job)
    process.until(lambda: len(trainer.diary("halves")) > 3)
    process.popen.send_signal(signal.SIGTERM)
    process.finish(ExitCode.CHECKPOINTED)
    trainer.start(job).finish()
    halves, whole = (exported(trainer.runs / name) for name in ("halves", "whole"))
    assert all(torch.equal(halves[name], whole[name]) for name in whole)
    updates = {name: [entry["policy"] for entry in trainer.diary(name)[1:]] for name in ("halves", "whole")}
    assert updates["halves"] == updates["whole"], "loss and learning rate of every iteration among them"
    assert [update["learning_rate"] for update in updates["whole"][:4]] == pytest.approx(
        [1e-4 / 3, 2e-4 / 3, 1e-4, 1e-4]
    )
    spent = [entry["spent"] for entry in trainer.diary("halves")]
    assert all(s["rank_seconds"] == pytest.approx(2 * s["seconds"]) for s in spent)
    assert [s["seconds"] for s in spent] == sorted(s["seconds"] for s in spent)
