"""What is whole at a time under ZeRO-3, of a chain of layers whose sums are made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from g2rpo_trainer.planning import gathering as module
from g2rpo_trainer.planning.dryrun import fake, memory_of
from g2rpo_trainer.planning.gathering import gathering

SIDE = 1000
LAYER = SIDE * SIDE
"""Numbers of a layer; those that travel have 2 bytes, those that have arrived 4."""
ROW = 4 * SIDE
"""Bytes of what a layer gives for one row; its bias is as many, and too small to be split."""


def peak(layers: int, *, ahead: int, monkeypatch: pytest.MonkeyPatch, live: int = 10**9) -> int:
    monkeypatch.setattr(module, "PREFETCHED", ahead)
    monkeypatch.setattr(module, "LIVE", live)
    with torch.device("meta"):
        chain = nn.Sequential(*(nn.Linear(SIDE, SIDE) for _ in range(layers)))
    with FakeTensorMode(), torch.no_grad():
        fake(chain)
        x = torch.empty(1, SIDE)
        with gathering(chain, torch.bfloat16):
            return memory_of(lambda: chain(x), [*chain.parameters(), x]).peak


def test_all_are_whole_at_once_where_so_many_are_gathered_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    found = peak(5, ahead=10 * LAYER, monkeypatch=monkeypatch)
    # the first one is there, its buffer gone, when the others come through one of theirs
    assert 0 <= found - LAYER * (4 + 4 * (2 + 4)) <= 2 * ROW


@pytest.mark.parametrize("layers", [2, 5])
def test_two_are_while_one_is_gathered_ahead(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = peak(layers, ahead=1, monkeypatch=monkeypatch)
    # its own buffer is let go when a layer computes, before that of the next one is made
    assert 0 <= found - LAYER * (4 + 2 + 4) <= 2 * ROW


def test_no_more_are_than_may_be_live(monkeypatch: pytest.MonkeyPatch) -> None:
    found = peak(9, ahead=10 * LAYER, live=3 * LAYER, monkeypatch=monkeypatch)
    # three that have arrived, two of them through a buffer that is there until the second is used
    assert 0 <= found - LAYER * (3 * 4 + 2 * 2) <= LAYER * (4 + 2)


def test_one_is_where_nothing_is_gathered_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    found = peak(5, ahead=0, monkeypatch=monkeypatch)
    assert 0 <= found - LAYER * (2 + 4) <= 2 * ROW


def test_afterwards_nothing_is_left_on_the_network() -> None:
    chain = nn.Sequential(nn.Linear(SIDE, SIDE))
    with gathering(chain, torch.bfloat16):
        assert chain[0]._forward_pre_hooks
    assert not chain[0]._forward_pre_hooks
    assert not chain._forward_pre_hooks
