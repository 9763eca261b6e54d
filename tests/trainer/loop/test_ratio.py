"""Weights that did not change are as likely as before, exactly, also where the transformer computes in 16 bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.build import Built

MODELS = {
    "SD3": {},
    "SD3 guided": {"sampling.guidanceScale": 2.5},
    "FLUX.1-dev": {"model.family": "Flux1", "sampling.guidanceScale": 3.5},
    "FLUX.1-schnell": {"model.family": "Flux1"},
}


@pytest.mark.parametrize("train", ["LoRA", "Full"])
@pytest.mark.parametrize("name", MODELS)
# the norms of queries and keys are trained, so in float32; torch has no fused kernel for that, and says so
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_in_16_bits_the_ratio_of_unchanged_weights_is_1_and_likelihoods_have_32(
    name: str,
    train: str,
    job: Callable[..., G2RPOJob],
    open_run: Callable[..., Built],
    flux_folders: Mapping[str, Path],
) -> None:
    changes: dict[str, Any] = {"model.precision": "BFloat16", "model.train": {"type": train}} | MODELS[name]
    if name.startswith("FLUX"):
        changes |= {"model.path": str(flux_folders[name.removeprefix("FLUX.1-")])}
    run = open_run(job(changes)).run
    batch = run.batch(1)
    policy = run.model.on([prompt.text for prompt in batch.prompts])
    experience = run.algorithm.collect(policy, batch, run.scorer)
    for transition in experience.transitions:
        tensors = (transition.x, transition.x_next, transition.log_prob, transition.advantage)
        assert {tensor.dtype for tensor in tensors} == {torch.float32}
    losses = list(run.algorithm.losses(policy, experience))
    assert len(losses) == 2
    for loss in losses:
        assert loss.value.dtype == torch.float32
        assert torch.equal(loss.stats.ratio, torch.ones_like(loss.stats.ratio))
        assert loss.stats.surrogate == pytest.approx(-loss.stats.advantage.mean().item())
