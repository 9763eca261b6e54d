"""How several ranks end together: a failure, a signal or a death of one is the end of all, soon.

The commands are started without a launcher, as pods with one rank each: nobody else ends the ranks.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

from g2rpo_api.contract import ExitCode
from testtrainer.ranks import commands, exit_codes, on_ranks, runs, word_of

Make = Callable[..., dict[str, Any]]
Write = Callable[[dict[str, Any]], Path]
BOUND_SECONDS = 30
"""A collective would wait half an hour."""
FOREVER = 10_000
SIZES = [2, 4]


def iterations(folder: Path) -> list[int]:
    path = folder / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line)["iteration"] for line in lines if line.endswith("\n")]


def until(condition: Callable[[], bool], ranks: list[Any]) -> None:
    give_up = time.monotonic() + 120
    while not condition():
        ended = wait([process.sentinel for process in ranks], timeout=0.05)
        assert not ended, [process.exitcode for process in ranks]
        assert time.monotonic() < give_up, "nothing happened"


def end_of(ranks: list[Any], seconds: float = BOUND_SECONDS) -> list[int | None]:
    """Exit codes; a signal is told as a shell has it."""
    codes = exit_codes(ranks, seconds)
    return [128 - code if code is not None and code < 0 else code for code in codes]


@pytest.mark.parametrize("size", SIZES)
def test_a_reward_that_fails_on_one_rank_ends_all_and_only_the_culprit_is_blamed(
    document: Make, written: Write, tmp_path: Path, size: int
) -> None:
    culprit = size - 1
    job = written(document("run", 2, "LoRA", {"rank": culprit, "deed": "raise", "calls": 2}, iterations=FOREVER))
    with commands(size, job, tmp_path) as ranks:
        codes = exit_codes(ranks)
    expected = [ExitCode.PEER_LOST] * size
    expected[culprit] = ExitCode.REWARD_FAILED
    assert codes == expected
    said = word_of(tmp_path, culprit)
    assert (said.exit_code, said.rank) == (ExitCode.REWARD_FAILED, culprit)
    assert "the network is down" in said.message


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("victim", ["first", "last"])
def test_the_death_of_a_rank_ends_those_that_wait_for_it_in_a_collective(
    document: Make, written: Write, tmp_path: Path, size: int, victim: str
) -> None:
    """It hangs first, so that all others are certainly in a collective when it is killed."""
    dead = 0 if victim == "first" else size - 1
    job = written(document("run", 0, "LoRA", {"rank": dead, "deed": "hang", "calls": 2}, iterations=FOREVER))
    with commands(size, job, tmp_path) as ranks:
        until(lambda: iterations(tmp_path) == [0, 1] and waits(ranks[dead].pid), ranks)
        os.kill(ranks[dead].pid, signal.SIGKILL)
        codes = end_of(ranks)
    assert codes.pop(dead) == 128 + signal.SIGKILL
    # where the first rank is gone, c10d may abort a process that asks its store
    assert set(codes) <= {ExitCode.PEER_LOST, 128 + signal.SIGABRT}


def waits(pid: int) -> bool:
    """Whether the process's main thread sleeps in pause(2), system call 34."""
    return Path(f"/proc/{pid}/syscall").read_text().startswith("34 ")


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (2, "every rank"),
        (2, "the first"),
        pytest.param(4, "the last", marks=pytest.mark.slow),
        pytest.param(4, "every rank", marks=pytest.mark.slow),
        pytest.param(4, "the first", marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_any_rank_lets_all_save_and_the_run_goes_on_with_another_number(
    document: Make, written: Write, tmp_path: Path, size: int, told: str
) -> None:
    job = written(document("run", 3, "LoRA", iterations=FOREVER, checkpoint={"everyIterations": FOREVER}))
    with commands(size, job, tmp_path) as ranks:
        until(lambda: len(iterations(tmp_path)) > 2, ranks)
        for rank in {"every rank": range(size), "the first": [0], "the last": [size - 1]}[told]:
            os.kill(ranks[rank].pid, signal.SIGTERM)
        assert end_of(ranks) == [ExitCode.CHECKPOINTED] * size
    done = iterations(tmp_path)[-1]
    words = [word_of(tmp_path, rank).message for rank in range(size)]
    assert words[0] == f"stopped with a checkpoint of iteration {done} of {FOREVER}"
    assert words[1:] == ["stopped with a checkpoint"] * (size - 1)
    if told == "the first":
        on_ranks(1, runs, [document("run", 0, "LoRA", iterations=done + 1)], tmp_path)
        assert iterations(tmp_path) == list(range(done + 2))


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("stage", [0, *(pytest.param(stage, marks=pytest.mark.slow) for stage in (1, 2, 3))])
def test_killed_in_the_middle_of_an_iteration_a_run_goes_on_bit_by_bit(
    document: Make, written: Write, tmp_path: Path, stage: int, size: int
) -> None:
    marker = tmp_path / "marker"
    deed = {"rank": size - 1, "deed": "die", "calls": 3, "marker": str(marker)}  # an evaluation, two iterations
    job = document("run", stage, "Full" if stage % 2 else "LoRA", deed, iterations=3)
    whole = on_ranks(size, runs, [job], tmp_path / "whole")[0][0]
    marker.touch()
    with commands(size, written(job), tmp_path) as ranks:
        assert end_of(ranks, 200)[-1] == 128 + signal.SIGKILL
    assert iterations(tmp_path) == [0, 1, 2]
    marker.unlink()
    for (weights,) in on_ranks(size, runs, [job], tmp_path):
        assert {name: weight.tobytes() for name, weight in weights.items()} == {
            name: weight.tobytes() for name, weight in whole.items()
        }
