"""Allocations of computations that are simple enough to be counted by hand, and of real ones as torch reports them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from g2rpo_trainer.planning.dryrun import Memory, fake, flops_of, fused_attention, memory_of

FLOAT = 4
ROWS, WIDTH = 32, 64


def in_sizes_only(act: Callable[[], object]) -> Memory:
    with FakeTensorMode():
        return memory_of(act, ())


def test_what_is_let_go_makes_room() -> None:
    def chain() -> None:
        x = torch.empty(ROWS, WIDTH)
        for _ in range(5):
            x = x + 1

    assert in_sizes_only(chain) == Memory(peak=2 * ROWS * WIDTH * FLOAT, kept=0)


def test_views_and_changes_in_place_cost_nothing() -> None:
    def views() -> None:
        x = torch.empty(ROWS, WIDTH)
        x.t().reshape(WIDTH, ROWS)
        x.add_(1).relu_()

    assert in_sizes_only(views).peak == ROWS * WIDTH * FLOAT


def test_what_is_kept_is_told() -> None:
    kept: list[Tensor] = []
    found = in_sizes_only(lambda: kept.append(torch.empty(ROWS, dtype=torch.bfloat16)))
    assert found == Memory(peak=2 * ROWS, kept=2 * ROWS)


def test_a_layer_keeps_its_input_and_its_gradient_takes_what_its_weight_takes() -> None:
    with torch.device("meta"):
        layer = nn.Linear(WIDTH, WIDTH, bias=False)
    with FakeTensorMode():
        fake(layer)
        found = memory_of(lambda: layer(torch.empty(ROWS, WIDTH)).sum().backward(), layer.parameters())
    assert found.kept == WIDTH * WIDTH * FLOAT, "the gradient"


@pytest.mark.parametrize("blocks", [2, 6])
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_a_real_network_allocates_what_the_dry_run_says(
    blocks: int, checkpointed: bool, compute: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    # oneDNN's scratch memory hangs on the processor's instructions and the number of threads
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)

    def make(device: str) -> nn.ModuleList:
        with torch.device(device):
            return nn.ModuleList(
                nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
                for _ in range(blocks)
            )

    def run(network: nn.ModuleList) -> None:
        x = torch.zeros(8 * ROWS, WIDTH)
        with torch.autocast("cpu", torch.bfloat16, enabled=compute == torch.bfloat16, cache_enabled=False):
            for block in network:
                x = x + (checkpoint(block, x, use_reentrant=False) if checkpointed else block(x))
        x.float().square().mean().backward()

    real = make("cpu")
    drawn = make("meta")
    with FakeTensorMode():
        fake(drawn)
        planned = memory_of(lambda: run(drawn), drawn.parameters())
    assert planned.peak == pytest.approx(measured_peak(lambda: run(real)), rel=0.02)


def measured_peak(act: Callable[[], object]) -> int:
    """Bytes at once, by torch's own account of its allocator."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        act()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def test_attention_is_counted_without_its_matrix() -> None:
    heads, tokens, width = 2, 512, 8

    def attend() -> None:
        q = torch.empty(1, heads, tokens, width, dtype=torch.bfloat16)
        functional.scaled_dot_product_attention(q, q, q)

    with FakeTensorMode():
        assert flops_of(attend) == 4 * heads * tokens**2 * width, "two products of a multiply-add each"
        assert memory_of(attend, ()).peak < heads * tokens**2 * 2 / 4


def test_attention_is_itself_again_afterwards() -> None:
    before = functional.scaled_dot_product_attention
    with pytest.raises(ZeroDivisionError), fused_attention():
        raise ZeroDivisionError
    assert functional.scaled_dot_product_attention is before


def test_a_product_is_two_operations_an_element() -> None:
    with FakeTensorMode():
        assert flops_of(lambda: torch.empty(3, 5) @ torch.empty(5, 7)) == 2 * 3 * 5 * 7
