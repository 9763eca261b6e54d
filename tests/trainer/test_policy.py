from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from g2rpo_trainer.models.protocol import Conditioning, Forward, Usage
from g2rpo_trainer.policy import Model
from g2rpo_trainer.timing import Counter


class Toy:
    """A family whose velocity tells what it was given: x + timestep + the prompt's number."""

    pipeline = None
    transformer = nn.Identity()
    lora_targets = ()

    def __init__(self, rows_per_call: int = 1) -> None:
        self.rows_per_call = rows_per_call
        self.batches: list[int] = []

    @staticmethod
    def encode(encoders: Any, texts: Sequence[str], usage: Usage) -> Conditioning:
        return {"number": torch.tensor([float(text) for text in texts])}

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        return (1,)

    def own_shift(self, height: int, width: int) -> float:
        return 1.0

    def velocity(self, forward: Forward, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        self.batches.append(len(x))
        return x + timestep.unsqueeze(1) + conditioning["number"].unsqueeze(1)

    def decode(self, latents: Tensor) -> Tensor:
        return latents

    def save_lora(self, folder: Path) -> None:
        raise AssertionError


class Texts:
    """Texts are numbers."""

    device = torch.device("cpu")

    def conditioning(self, texts: Sequence[str]) -> Conditioning:
        return Toy.encode(None, texts, Usage(1.0, 1))


def model(toy: Toy, max_batch: int = 4, truncate: bool = False) -> Model:
    return Model(
        family=toy,
        forward=toy.transformer,
        device=torch.device("cpu"),
        latent_shape=(1,),
        max_batch=max_batch,
        truncate_timestep=truncate,
        reference=lambda: nullcontext(toy.transformer),
        texts=Texts(),
        counter=Counter(),
    )


X = torch.arange(10.0).unsqueeze(1)
SIGMA = torch.linspace(1, 0.1, 10)
PROMPT = torch.tensor([0, 1] * 5)


@torch.no_grad()
def test_rows_keep_their_own_noise_level_and_prompt_through_batches_of_bounded_size() -> None:
    toy = Toy()
    v = model(toy).on(["100", "7"]).velocity(X, SIGMA, PROMPT)
    expected = X[:, 0] + 1000 * SIGMA + torch.tensor([100.0, 7.0] * 5)
    assert torch.allclose(v[:, 0], expected)
    assert sum(toy.batches) == 10
    assert max(toy.batches) <= 4


@pytest.mark.parametrize("rows_per_call", [1, 2])
def test_rows_without_gradient_are_counted_guidance_twice(rows_per_call: int) -> None:
    built = model(Toy(rows_per_call))
    policy = built.on(["1", "2"])
    with torch.no_grad():
        policy.velocity(X, SIGMA, PROMPT)
    policy.velocity(X, SIGMA, PROMPT)
    assert built.counter.take() == 10 * rows_per_call


def test_rows_with_gradient_go_through_at_once() -> None:
    toy = Toy()
    model(toy).on(["1", "2"]).velocity(X, SIGMA, PROMPT)
    assert toy.batches == [10]


@torch.no_grad()
def test_a_truncated_timestep_is_whole() -> None:
    sigma = torch.full((1,), 0.9545)
    exact, cut = (model(Toy(), truncate=t).on(["0"]).velocity(X[:1], sigma, PROMPT[:1]) for t in (False, True))
    assert exact.item() == pytest.approx(954.5, abs=1e-3)
    assert cut.item() == 954.0
