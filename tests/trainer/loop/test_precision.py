"""Training in bfloat16: what is computed in 16 bits, and what stays in 32, at every ZeRO stage."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from g2rpo_trainer.engine import Engine, World
from g2rpo_trainer.optimizer_settings import OptimizerSettings

STAGES = [0, 1, 2, 3]
RATE = 1e-4
X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    """A frozen layer as a base model has, in 16 bits, and trained ones as adapters are, in 32."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.base = nn.Linear(8, 8).bfloat16().requires_grad_(False)
        self.down, self.up = nn.Linear(8, 4, bias=False), nn.Linear(4, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def engine_of(world: World, stage: int, compute: torch.dtype = torch.bfloat16) -> tuple[Engine, Network]:
    settings = OptimizerSettings(RATE, (0.9, 0.999), 1e-8, 0.0, 1e9, stage)
    network = Network()
    return Engine(network, settings, world, compute), network


def by_torch() -> tuple[Tensor, dict[str, Tensor]]:
    """The output under torch's own autocast, and the trained weights after a step of its AdamW."""
    network = Network()
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=RATE, weight_decay=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        y = network(X)
    y.float().square().sum().backward()
    optimizer.step()
    return y.detach(), {name: p.detach() for name, p in trained.items()}


@pytest.mark.parametrize("stage", STAGES)
def test_the_forward_is_that_of_autocast(stage: int, world: World) -> None:
    engine, _ = engine_of(world, stage)
    with torch.no_grad():
        y = engine.forward(X)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, by_torch()[0])


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_is_that_of_adamw_on_whole_weights(stage: int, world: World) -> None:
    engine, network = engine_of(world, stage)
    before = {name: p.clone() for name, p in Network().named_parameters() if p.requires_grad}
    engine.backward(engine.forward(X).float().square().sum())
    assert engine.step().applied
    with engine.whole_weights():
        after = {name: p.detach().clone() for name, p in network.named_parameters() if p.requires_grad}
    for name, wanted in by_torch()[1].items():
        assert after[name].dtype == torch.float32
        assert torch.allclose(after[name], wanted, atol=RATE / 50)
        moved = (after[name] - before[name]).abs()
        assert (moved > RATE / 2).float().mean() > 0.9, "16 bits would have lost a step so small beside a weight"


@pytest.mark.parametrize("stage", STAGES)
def test_without_it_everything_is_computed_in_32_bits(stage: int, world: World) -> None:
    settings = OptimizerSettings(RATE, (0.9, 0.999), 1e-8, 0.0, 1e9, stage)
    network = Network().float()
    wanted = network(X).detach()
    with torch.no_grad():
        y = Engine(network, settings, world).forward(X)
    assert y.dtype == torch.float32
    assert torch.equal(y, wanted)
