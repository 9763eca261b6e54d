"""A run whose transformer is compiled learns what one without learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.build import Built
from g2rpo_trainer.loop import train
from g2rpo_trainer.models import loading
from g2rpo_trainer.models.speed import compile_blocks

MODEL: dict[str, Any] = {"model.train": {"type": "LoRA", "lora": {"rank": 4}}, "model.gradientCheckpointing": True}
ONE: dict[str, Any] = {
    "iterations": 1,
    "algorithm.g2rpo.granularities": [1],
    "algorithm.g2rpo.stochasticSteps": 1,
    "evaluation.maxPrompts": 2,
}


@pytest.fixture
def learnt(job: Callable[..., G2RPOJob], open_run: Callable[..., Built]) -> Callable[..., dict[str, torch.Tensor]]:
    """Trained weights after an iteration of a job with adapters and gradient checkpointing."""

    def trained(name: str, compiled: bool) -> dict[str, torch.Tensor]:
        torch.compiler.reset()
        spec = job(MODEL | ONE | {"model.compile": compiled})
        built = open_run(spec.model_copy(update={"metadata": spec.metadata.model_copy(update={"name": name})}))
        assert train(built.run, built.state)
        with built.run.engine.whole_weights():
            named = built.family.transformer.named_parameters()
            return {key: p.detach().clone() for key, p in named if p.requires_grad}

    return trained


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Adapters that were 0 have moved, by the learning rate of 1e-3 or so, and alike."""
    moved = [key for key, weight in one.items() if "lora_B" in key and bool(weight.abs().max() > 1e-4)]
    assert moved
    return one.keys() == other.keys() and all(bool((one[key] - other[key]).abs().mean() < 1e-4) for key in one)


# torch's tracer looks at gradients of tensors that have none, and says so
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.slow
def test_traced_blocks_learn_the_same(
    learnt: Callable[..., dict[str, torch.Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "compile_blocks", lambda transformer: compile_blocks(transformer, "aot_eager"))
    assert same(learnt("plain", False), learnt("compiled", True))
