"""Whose fault it is: the loss of another rank is told apart from what goes wrong here."""

from __future__ import annotations

from datetime import timedelta

import pytest
from torch import distributed

from g2rpo_api.contract import ExitCode
from g2rpo_trainer.engine import peers_needed
from g2rpo_trainer.environment import LOOPBACK, free_port
from g2rpo_trainer.errors import PeerLostError


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("[pair.cc:561] Connection closed by peer [10.0.0.7]:4711", ". This is typically caused by"),
        ("[pair.cc:545] Read error [10.0.0.7]:1: Connection reset by peer", ". Check the logs"),
        (
            "NCCL error in: x.cpp:1, remote process exited or there was a network error, NCCL version 2.29",
            "\nLast error:",
        ),
    ],
)
def test_a_rank_that_is_gone_is_a_lost_peer_and_the_library_is_quoted(text: str, more: str) -> None:
    with pytest.raises(PeerLostError) as error, peers_needed(3):
        raise RuntimeError(text + more)
    assert error.value.exit_code == ExitCode.PEER_LOST
    assert str(error.value).startswith("rank 3 lost another rank")
    assert str(error.value).endswith(f": {text}")
    assert isinstance(error.value.__cause__, RuntimeError)


def test_ranks_that_nobody_else_comes_to_meet_have_lost_their_peers() -> None:
    with pytest.raises(PeerLostError, match="rank 1"), peers_needed(1):
        distributed.TCPStore(LOOPBACK, free_port(), 2, False, timedelta(seconds=1))


def test_the_first_rank_that_waits_in_vain_has_lost_its_peers() -> None:
    with pytest.raises(PeerLostError, match="rank 0"), peers_needed(0):
        distributed.TCPStore(LOOPBACK, free_port(), 2, True, timedelta(seconds=1), wait_for_workers=True)


@pytest.mark.parametrize(
    "mine",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("NCCL error in: x.cpp:1, invalid usage, Duplicate GPU detected"),
        RuntimeError("[enforce fail at device.cc:84] Unable to find address for: eth9"),
        ValueError("Connection closed by peer"),
    ],
)
def test_what_goes_wrong_here_stays_what_it_is(mine: Exception) -> None:
    with pytest.raises(type(mine)) as error, peers_needed(0):
        raise mine
    assert error.value is mine
