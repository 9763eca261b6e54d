"""From a job's settings to the algorithm that obeys them.

Who calls this: the composition root, and whoever tries an algorithm without a run. Nothing is decided here but
which field gets which setting.
"""

from __future__ import annotations

import torch
from torch import Tensor

from g2rpo_api.algorithm import FlowGRPOSettings, G2RPOSettings
from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.algorithms.flow_grpo import FlowGRPO, SlidingWindow
from g2rpo_trainer.algorithms.g2rpo import G2RPO
from g2rpo_trainer.algorithms.surrogate import UpdateSettings
from g2rpo_trainer.flow.schedule import Grid


def build_algorithm(training: TrainingSpec, grid: Grid) -> G2RPO | FlowGRPO:
    """The algorithm with the job's settings."""
    settings = training.algorithm.settings
    update = UpdateSettings(settings.clip_range, settings.kl_beta, settings.update, training.optimizer.max_batch)
    weights = torch.tensor([reward.weight for reward in training.rewards if reward.role == "Train"])
    if isinstance(settings, G2RPOSettings):
        return _g2rpo(settings, grid, training.seed, weights, update)
    return _flow_grpo(settings, grid, training.seed, weights, update)


def _g2rpo(settings: G2RPOSettings, grid: Grid, seed: int, weights: Tensor, update: UpdateSettings) -> G2RPO:
    return G2RPO(
        grid=grid,
        seed=seed,
        group_size=settings.group_size,
        steps=tuple(settings.steps()),
        granularities=settings.granularities,
        law=settings.noise.law,
        eta=settings.noise.level,
        weights=weights,
        aggregate=settings.aggregate,
        advantage_clip=settings.advantage_clip,
        zero_variance_tolerance=settings.zero_variance_tolerance,
        update=update,
    )


def _flow_grpo(settings: FlowGRPOSettings, grid: Grid, seed: int, weights: Tensor, update: UpdateSettings) -> FlowGRPO:
    window = settings.window
    return FlowGRPO(
        grid=grid,
        seed=seed,
        group_size=settings.group_size,
        shared_start=settings.initial_noise == "Shared",
        window=SlidingWindow(window.size, window.stride, window.move_every_iterations) if window else None,
        train_fraction=settings.train_fraction,
        law=settings.noise.law,
        eta=settings.noise.level,
        weights=weights,
        advantage_clip=settings.advantage_clip,
        zero_variance_tolerance=settings.zero_variance_tolerance,
        update=update,
    )
