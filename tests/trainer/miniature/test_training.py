"""The training script, a few steps from end to end, and its parts against closed forms."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import pytest
import torch
from torch import nn

from g2rpo_trainer.miniature.folder import write_card, write_folder
from g2rpo_trainer.miniature.glyphs import render_batch
from g2rpo_trainer.miniature.measuring import Legibility, Measurement, load, read, sample
from g2rpo_trainer.miniature.recipe import MODEL_FOLDER, Recipe, Schedule, numbers
from g2rpo_trainer.miniature.training import draw, optimise, rate, train

BRIEF = Recipe(
    seed=3,
    renders_per_number=2,
    vae=Schedule(steps=6, batch=8, learning_rate=2e-3, warmup_steps=2),
    flow=Schedule(steps=6, batch=8, learning_rate=2e-3, warmup_steps=2),
    kl_weight=1e-3,
)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_few_steps_write_a_folder_of_the_same_layout_that_loads_and_draws(tmp_path: Path) -> None:
    lines: list[str] = []
    pipeline = train(BRIEF, lines.append)
    write_folder(pipeline, tmp_path)
    unread = Legibility(likelihood=0.0, exact=0.0, held_out_exact=0.0)
    write_card(tmp_path, BRIEF, Measurement(unread, unread))
    assert files(tmp_path) == files(MODEL_FOLDER)
    assert lines[-1].startswith("flow 6/6 loss")
    images = sample(load(tmp_path), ["47", "90"], seed=0)
    assert torch.allclose(images, sample(pipeline_of(pipeline), ["47", "90"], seed=0), atol=1e-5)


def pipeline_of(pipeline: object) -> object:
    pipeline.set_progress_bar_config(disable=True)  # type: ignore[attr-defined]
    return pipeline


def test_the_same_recipe_gives_the_same_weights() -> None:
    first, second = (train(BRIEF, lambda _: None) for _ in range(2))
    for ours, theirs in zip(first.transformer.parameters(), second.transformer.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert first.vae.config.scaling_factor == second.vae.config.scaling_factor


def test_only_training_numbers_are_drawn() -> None:
    renders = draw(BRIEF)
    training, unseen = numbers()
    assert renders.images.shape == (160, 3, 16, 32)
    assert renders.texts == [f"the number {number[0]} {number[1]}" for number in training]
    assert not {f"the number {number[0]} {number[1]}" for number in unseen} & set(renders.texts)
    assert renders.number.bincount().tolist() == [2] * 80


def test_renders_are_legible_to_both_readers() -> None:
    training, unseen = numbers()
    texts = training + unseen
    legibility = read(render_batch(texts, Random(5)), texts)
    assert legibility.likelihood > 0.99
    assert legibility.exact > 0.98
    assert legibility.held_out_exact > 0.97


def test_ink_stays_inside_the_picture_and_darker_than_the_paper() -> None:
    images = render_batch(numbers()[0] * 4, Random(6))[:, 0]
    edge = torch.cat([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], dim=1)
    paper, ink = images.flatten(1).amax(1), images.flatten(1).amin(1)
    assert (paper - ink).min() > 0.3
    assert (paper[:, None] - edge).max() < 0.5 * (paper - ink).max()


@pytest.mark.parametrize(("step", "share"), [(0, 0.1), (9, 1.0), (10, 1.0), (60, 0.5), (110, 0.0)])
def test_the_rate_rises_linearly_and_falls_by_a_cosine(step: int, share: float) -> None:
    schedule = Schedule(steps=110, batch=1, learning_rate=1.0, warmup_steps=10)
    assert rate(schedule, step) == pytest.approx(share, abs=1e-12)
    assert math.isclose(rate(schedule, 10 + 25), 0.5 + math.sqrt(0.125), rel_tol=1e-9)


def test_optimise_finds_the_least_squares_line_and_ends_in_evaluation_mode() -> None:
    torch.manual_seed(0)
    line = nn.Linear(1, 1)
    x = torch.linspace(-1, 1, 32)[:, None]
    schedule = Schedule(steps=300, batch=32, learning_rate=0.1, warmup_steps=5)
    optimise([line], schedule, lambda: nn.functional.mse_loss(line(x), 3 * x - 1), lambda *_: None)
    assert line.weight.item() == pytest.approx(3, abs=0.02)
    assert line.bias.item() == pytest.approx(-1, abs=0.02)
    assert not line.training
