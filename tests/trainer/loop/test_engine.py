"""One rank of the engine against AdamW and clipping by formula, at every ZeRO stage."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from g2rpo_api.training import EMASpec
from g2rpo_trainer.engine import Engine, World
from g2rpo_trainer.optimizer_settings import OptimizerSettings

STAGES = [0, 1, 2, 3]
SETTINGS = {"learning_rate": 0.1, "betas": (0.8, 0.9), "epsilon": 1e-6, "weight_decay": 0.03, "gradient_clip": 0.5}


class Weights(nn.Module):
    """Losses are linear in the weights, so that their gradient is what is put in."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.5, -1.0, 2.0]))

    def forward(self, gradient: Tensor) -> Tensor:
        return (self.w * gradient).sum()


def engine_of(world: World, stage: int, ema: EMASpec | None = None, **offload: bool) -> tuple[Engine, Weights]:
    module = Weights()
    return Engine(module, OptimizerSettings(**SETTINGS, zero_stage=stage, **offload), world, ema=ema), module


def step(engine: Engine, gradient: np.ndarray) -> None:
    engine.backward(engine.forward(torch.tensor(gradient, dtype=torch.float32)))
    engine.step()


def weights(engine: Engine, module: Weights) -> np.ndarray:
    with engine.whole_weights():
        return module.w.detach().double().numpy().copy()


class ByFormula:
    """AdamW as arXiv 1711.05101 writes it, after clipping the whole gradient by its norm."""

    def __init__(self) -> None:
        self.w = np.array([0.5, -1.0, 2.0])
        self.m, self.v, self.t = np.zeros(3), np.zeros(3), 0

    def step(self, gradient: np.ndarray, rate: float = SETTINGS["learning_rate"]) -> float:
        norm = float(np.sqrt((gradient**2).sum()))
        gradient = gradient * min(1.0, SETTINGS["gradient_clip"] / (norm + 1e-6))
        beta1, beta2 = SETTINGS["betas"]
        self.t += 1
        self.m = beta1 * self.m + (1 - beta1) * gradient
        self.v = beta2 * self.v + (1 - beta2) * gradient**2
        m, v = self.m / (1 - beta1**self.t), self.v / (1 - beta2**self.t)
        self.w = self.w * (1 - rate * SETTINGS["weight_decay"])
        self.w = self.w - rate * m / (np.sqrt(v) + SETTINGS["epsilon"])
        return norm


GRADIENTS = [np.array(g) for g in ([3.0, 4.0, 0.0], [0.1, -0.2, 0.05], [-1.0, 0.0, 2.0])]


@pytest.mark.parametrize("stage", STAGES)
def test_steps_are_clipped_adamw(world: World, stage: int) -> None:
    engine, module = engine_of(world, stage)
    formula = ByFormula()
    for gradient in GRADIENTS:
        norm = formula.step(gradient)
        engine.backward(engine.forward(torch.tensor(gradient, dtype=torch.float32)))
        report = engine.step()
        assert report.applied
        assert report.grad_norm == pytest.approx(norm, rel=1e-5)
        assert weights(engine, module) == pytest.approx(formula.w, rel=1e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_losses_between_steps_add_up(world: World, stage: int) -> None:
    engine, module = engine_of(world, stage)
    formula = ByFormula()
    formula.step(sum(GRADIENTS))
    for gradient in GRADIENTS:
        engine.backward(engine.forward(torch.tensor(gradient, dtype=torch.float32)))
    engine.step()
    assert weights(engine, module) == pytest.approx(formula.w, rel=1e-5)


OFFLOADED = [
    (1, {"offload_optimizer": True}),
    (2, {"offload_optimizer": True}),
    (3, {"offload_optimizer": True}),
    (3, {"offload_parameters": True}),
    (3, {"offload_optimizer": True, "offload_parameters": True}),
]


@pytest.mark.parametrize(("stage", "offload"), OFFLOADED)
def test_what_is_offloaded_takes_the_same_steps_and_is_saved_alike(
    world: World, stage: int, offload: dict[str, bool], tmp_path: Path
) -> None:
    engine, module = engine_of(world, stage, **offload)
    formula = ByFormula()
    for gradient in GRADIENTS:
        for part in (0.25, 0.75):
            engine.backward(engine.forward(torch.tensor(part * gradient, dtype=torch.float32)))
        report = engine.step()
        assert report.applied
        assert report.grad_norm == pytest.approx(formula.step(gradient), rel=1e-5)
        engine.backward(nan_gradient(engine))
        assert not engine.step().applied
        assert weights(engine, module) == pytest.approx(formula.w, rel=1e-5)
        engine.save(tmp_path, "here")
        engine, module = engine_of(world, 0) if gradient is GRADIENTS[0] else engine_of(world, stage, **offload)
        engine.load(tmp_path, "here")
    assert weights(engine, module) == pytest.approx(formula.w, rel=1e-5)


def infinite_gradient(engine: Engine) -> Tensor:
    return engine.forward(torch.tensor([1.0, math.inf, 1.0]))


def nan_gradient(engine: Engine) -> Tensor:
    return engine.forward(torch.tensor([1.0, math.nan, 1.0]))


def infinite_loss_with_a_finite_gradient(engine: Engine) -> Tensor:
    return engine.forward(torch.tensor([1.0, 1.0, 1.0])) + math.inf


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("bad", [infinite_gradient, nan_gradient, infinite_loss_with_a_finite_gradient])
def test_a_step_that_is_not_finite_changes_nothing_and_the_next_one_is_as_if_it_had_not_been(
    world: World, stage: int, bad: Callable[[Engine], Tensor]
) -> None:
    engine, module = engine_of(world, stage)
    formula = ByFormula()
    formula.step(GRADIENTS[0])
    engine.backward(engine.forward(torch.tensor(GRADIENTS[0], dtype=torch.float32)))
    engine.step()
    engine.backward(bad(engine))
    assert not engine.step().applied
    assert weights(engine, module) == pytest.approx(formula.w, rel=1e-5)
    formula.step(GRADIENTS[1])
    engine.backward(engine.forward(torch.tensor(GRADIENTS[1], dtype=torch.float32)))
    assert engine.step().applied
    assert weights(engine, module) == pytest.approx(formula.w, rel=1e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_a_loaded_engine_goes_on_bit_by_bit(world: World, stage: int, tmp_path: Path) -> None:
    first, module = engine_of(world, stage)
    step(first, GRADIENTS[0])
    first.save(tmp_path, "here")
    step(first, GRADIENTS[1])
    second, copy = engine_of(world, stage)
    second.load(tmp_path, "here")
    step(second, GRADIENTS[1])
    assert np.array_equal(weights(first, module), weights(second, copy))


@pytest.mark.parametrize("stage", STAGES)
def test_each_step_has_the_learning_rate_that_was_set_last_also_after_loading(
    world: World, stage: int, tmp_path: Path
) -> None:
    engine, module = engine_of(world, stage)
    formula = ByFormula()
    for gradient, rate in zip(GRADIENTS, (0.01, 0.3, 0.002), strict=True):
        engine.set_learning_rate(rate)
        step(engine, gradient)
        formula.step(gradient, rate)
        engine.save(tmp_path, "here")
        engine, module = engine_of(world, stage)
        engine.load(tmp_path, "here")
    assert weights(engine, module) == pytest.approx(formula.w, rel=1e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_a_mean_is_kept_beside_the_weights_and_saved_with_them(world: World, stage: int, tmp_path: Path) -> None:
    def mean_of(engine: Engine, module: Weights) -> np.ndarray:
        with engine.mean_weights():
            return weights(engine, module)

    spec = EMASpec(decay=0.5, every_iterations=1)
    engine, module = engine_of(world, stage, spec)
    plain, same_module = engine_of(world, stage)
    seen = []
    for iteration, gradient in enumerate(GRADIENTS, start=1):
        step(engine, gradient)
        step(plain, gradient)
        engine.update_mean(iteration)
        seen.append(weights(engine, module))
        assert np.array_equal(seen[-1], weights(plain, same_module)), "training does not know of the mean"
    # the first update takes the weights, the second keeps 2 / 11 of the mean, the third 3 / 12
    expected = 3 / 12 * (2 / 11 * seen[0] + 9 / 11 * seen[1]) + 9 / 12 * seen[2]
    assert mean_of(engine, module) == pytest.approx(expected, rel=1e-5)
    assert np.array_equal(weights(engine, module), seen[-1])
    engine.save(tmp_path, "here")
    again, copy = engine_of(world, stage, spec)
    again.load(tmp_path, "here")
    assert np.array_equal(mean_of(again, copy), mean_of(engine, module))
    for one in (engine, again):
        step(one, GRADIENTS[0])
        one.update_mean(4)
    assert np.array_equal(mean_of(again, copy), mean_of(engine, module))


@pytest.mark.parametrize(("stage", "other"), [(0, 3), (3, 0), (2, 3), (3, 1)])
def test_a_mean_is_taken_up_at_another_stage(world: World, stage: int, other: int, tmp_path: Path) -> None:
    spec = EMASpec(decay=0.5)
    first, module = engine_of(world, stage, spec)
    for iteration, gradient in enumerate(GRADIENTS, start=1):
        step(first, gradient)
        first.update_mean(iteration)
    first.save(tmp_path, "here")
    second, copy = engine_of(world, other, spec)
    second.load(tmp_path, "here")
    with first.mean_weights(), second.mean_weights():
        mean, taken_up = weights(first, module), weights(second, copy)
    assert np.array_equal(mean, taken_up)
    assert not np.array_equal(mean, weights(first, module))
    assert np.array_equal(weights(first, module), weights(second, copy))


def test_without_a_mean_the_weights_are_themselves(world: World) -> None:
    engine, module = engine_of(world, 0)
    step(engine, GRADIENTS[0])
    engine.update_mean(1)
    with engine.mean_weights():
        assert np.array_equal(weights(engine, module), module.w.detach().double().numpy())


def test_one_rank_agrees_with_itself(world: World) -> None:
    assert (world.rank, world.size) == (0, 1)
    assert world.any(True)
    assert not world.any(False)
    assert world.gather({"a": 1}) == [{"a": 1}]
    world.barrier()


@pytest.mark.parametrize("stage", STAGES)
def test_three_weights_take_no_buffer_for_millions(world: World, stage: int) -> None:
    before = {id(found) for found in gc.get_objects()}
    engine, module = engine_of(world, stage)
    step(engine, GRADIENTS[0])
    engine.backward(engine.forward(torch.tensor(GRADIENTS[1], dtype=torch.float32)))
    new = [found for found in gc.get_objects() if type(found) is Tensor and id(found) not in before]
    assert max(tensor.untyped_storage().nbytes() for tensor in [*new, module.w]) < 2**20
