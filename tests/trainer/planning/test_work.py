"""Operations and traffic of an iteration, against rules of thumb and sums made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from g2rpo_api.parse import parse_job
from g2rpo_trainer.planning.footprint import trained_parameters
from g2rpo_trainer.planning.model_files import parameters
from g2rpo_trainer.planning.plan import Plan, count
from g2rpo_trainer.planning.sketch import Sketch, sketch
from g2rpo_trainer.planning.work import CallCost, Work, call_cost, rollout_batches, sent_bytes, work

RANKS, STEPS, GROUP, STOCHASTIC = 4, 8, 3, 2


def drawn(path: Path, ranks: int = RANKS, **changes: Any) -> tuple[Sketch, Plan]:
    """A job on FLUX.1 with one prompt on each rank; `changes` by section."""
    training: dict[str, Any] = {
        "iterations": 1,
        "model": {"family": "Flux1", "path": str(path), "maxSequenceLength": 16, "train": {"type": "Full"}},
        "prompts": {"path": "builtin:numbers", "perIteration": ranks},
        "sampling": {"height": 32, "width": 64, "steps": STEPS, "maxBatch": 4},
        "algorithm": {
            "type": "G2RPO",
            "g2rpo": {"groupSize": GROUP, "stochasticSteps": STOCHASTIC, "granularities": [1]},
        },
        "rewards": [{"name": "a", "type": "PaddleOCR"}],
    }
    for name, section in changes.items():
        training[name] = training.get(name, {}) | section
    job = parse_job(
        {
            "apiVersion": "g2rpo.dev/v1alpha1",
            "kind": "G2RPOJob",
            "metadata": {"name": "counted"},
            "spec": {"workers": {"processesPerNode": ranks}, "training": training},
        }
    )
    found = sketch(job.spec.training)
    assert found is not None
    return found, count(job)


@pytest.fixture(scope="module")
def flux(flux_folders: Mapping[str, Path]) -> Path:
    return flux_folders["dev"]


def test_a_gradient_costs_two_forwards_and_checkpointing_one_more(flux: Path) -> None:
    plain = call_cost(drawn(flux)[0])
    assert plain.forward_backward == pytest.approx(3 * plain.forward, rel=0.1)
    saving = call_cost(drawn(flux, model={**drawn(flux)[0].training.model.model_dump(mode="json", by_alias=True),
                                          "gradientCheckpointing": True})[0])  # fmt: skip
    assert saving.forward == plain.forward
    assert saving.forward_backward == pytest.approx(plain.forward_backward + plain.forward, rel=0.1)


def test_a_forward_is_at_least_two_operations_a_token_and_weight_of_its_stream(flux: Path) -> None:
    """Every token meets the blocks of one stream, and at least one half of those of two."""
    sketch_, _ = drawn(flux)
    tokens = 32 // 4 * 64 // 4 + 16
    shared = {n: s for n, s in sketch_.files.transformer.items() if n.startswith("single") and "norm" not in n}
    found = call_cost(sketch_).forward
    assert 2 * tokens * parameters(shared) < found < 2 * tokens * parameters(sketch_.files.transformer) * 1.2


def test_an_iteration_is_its_calls(flux: Path) -> None:
    sketch_, plan = drawn(flux)
    done = work(sketch_, plan, CallCost(forward=10**6, forward_backward=10**3, decode=1))
    tails = sum(STEPS - 1 - k for k in range(STOCHASTIC))
    assert done.forward_flops == 10**6 * (STEPS + GROUP * tails)
    assert done.update_flops == 10**3 * STOCHASTIC
    assert done.decode_flops == 1 + GROUP * STOCHASTIC
    assert done.flops == done.forward_flops + done.update_flops + done.decode_flops


def test_seconds_are_computing_and_sending() -> None:
    done = Work(forward_flops=600, update_flops=300, decode_flops=100, sent_bytes=50)
    assert done.seconds(flops_per_second=500, utilisation=0.5, bytes_per_second=10) == 4 + 5


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_below_stage_3_gradients_go_around_twice_a_step(stage: int, flux: Path) -> None:
    sketch_, plan = drawn(flux, deepspeed={"zeroStage": stage})
    gradients = 4 * trained_parameters(sketch_.training, sketch_.files)
    assert sent_bytes(sketch_, plan) == 2 * STOCHASTIC * gradients * (RANKS - 1) // RANKS


def test_stage_3_gathers_all_weights_for_every_batch(flux: Path) -> None:
    sketch_, plan = drawn(flux, deepspeed={"zeroStage": 3})
    weights = 4 * parameters(sketch_.files.transformer)
    tails = GROUP * sum(STEPS - 1 - k for k in range(STOCHASTIC))
    batches = STEPS + -(-tails // 4)
    assert rollout_batches(sketch_, plan) == batches
    gathered = weights * (batches + 2 * STOCHASTIC)
    assert sent_bytes(sketch_, plan) == (STOCHASTIC * weights + gathered) * (RANKS - 1) // RANKS


def test_one_rank_sends_nothing(flux: Path) -> None:
    assert sent_bytes(*drawn(flux, ranks=1)) == 0


def test_larger_batches_spare_stage_3_its_gathering(flux: Path) -> None:
    small, large = (
        sent_bytes(*drawn(flux, deepspeed={"zeroStage": 3}, sampling={"height": 32, "width": 64, "steps": STEPS,
                                                                      "maxBatch": rows}))
        for rows in (4, 64)
    )  # fmt: skip
    assert large < small
