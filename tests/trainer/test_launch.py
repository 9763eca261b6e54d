"""The launcher with ranks that are a line of Python each: who is waited for, who is killed, what is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from g2rpo_api.contract import ExitCode
from g2rpo_api.progress import ProgressReport, TerminationReport
from g2rpo_trainer.launch import exit_code, most_telling

PATIENCE_SECONDS = 60
LAUNCHER = """
import sys
from g2rpo_trainer.environment import LOOPBACK, Nodes
from g2rpo_trainer.launch import launch
command, count, rank, processes = sys.argv[1], *map(int, sys.argv[2:])
report = launch([sys.executable, "-c", command], Nodes(count, rank, LOOPBACK, 29500).places(processes))
print(report.model_dump_json(by_alias=True))
sys.exit(report.exit_code)
"""
RANK = """
import json, os, signal, sys, time
rank, here = int(os.environ["RANK"]), os.environ["HERE"]
def touch(name): open(os.path.join(here, name), "w").close()
def is_there(name): return os.path.exists(os.path.join(here, name))
def wait(name):
    while not is_there(name): time.sleep(0.01)
def say(**report): open(os.environ["G2RPO_TERMINATION_LOG"], "w").write(json.dumps(report))
"""
Launch = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launch]:
    started: list[subprocess.Popen[str]] = []

    def launch(program: str, processes: int = 2, nodes: int = 1, node: int = 0) -> subprocess.Popen[str]:
        arguments = [RANK + program, str(nodes), str(node), str(processes)]
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"HERE": str(tmp_path)},
        )
        started.append(process)
        return process

    yield launch
    for process in started:
        process.kill()
        process.communicate()


def report(process: subprocess.Popen[str]) -> TerminationReport:
    """What the launcher answered, which is also its exit code."""
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    said = TerminationReport.model_validate_json(output.splitlines()[-1])
    assert process.returncode == said.exit_code
    return said


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up, "nothing happened"
        os.sched_yield()


def test_ranks_know_their_place_among_all_machines(launcher: Launch, tmp_path: Path) -> None:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    program = f"open(f'{{here}}/{{rank}}', 'w').write(json.dumps([os.environ[name] for name in {names}]))"
    assert report(launcher(program, processes=2, nodes=3, node=1)).exit_code == 0
    told = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert told == {
        "2": ["2", "6", "0", "127.0.0.1", "29500"],
        "3": ["3", "6", "1", "127.0.0.1", "29500"],
    }


def test_all_well_is_told_by_the_lowest_rank_with_its_progress(launcher: Launch) -> None:
    progress = {
        "job": "numbers", "attempt": 1, "phase": "Finished", "iteration": 4, "total": 4, "percent": 100.0,
        "etaSeconds": 0.0, "beat": 1.7e9,
    }  # fmt: skip
    program = f"say(exitCode=0, rank=rank, message=f'done by {{rank}}', progress={progress} if rank == 0 else None)"
    said = report(launcher(program))
    assert (said.exit_code, said.rank, said.message) == (0, 0, "done by 0")
    assert said.progress == ProgressReport.model_validate(progress)


def test_the_first_failure_ends_the_others_and_is_told(launcher: Launch) -> None:
    program = """
if rank == 1:
    wait("0")
    say(exitCode=4, rank=1, message="the reward does not answer")
    sys.exit(4)
touch("0")
time.sleep(600)
"""
    said = report(launcher(program))
    assert (said.exit_code, said.rank, said.message) == (4, 1, "the reward does not answer")


def test_ranks_that_cannot_end_are_killed_after_a_grace(launcher: Launch) -> None:
    program = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
touch(str(rank))
wait(str(1 - rank))
if rank == 1: os.kill(os.getpid(), signal.SIGKILL)
time.sleep(600)
"""
    process = launcher(program)
    said = report(process)
    assert (said.exit_code, said.rank) == (137, 1)
    assert said.message == "rank 1 was killed by signal 9 (SIGKILL): often memory exhausted"


def test_a_rank_that_only_lost_another_one_is_not_what_is_told(launcher: Launch) -> None:
    program = """
if rank == 1:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which it gets when the other one ends
    touch("1")
wait("1")
say(exitCode=7 - rank, rank=rank, message=str(rank))
sys.exit(7 - rank)
"""
    said = report(launcher(program))
    assert (said.exit_code, said.rank) == (6, 1)


def test_a_rank_that_notices_the_loss_of_another_before_its_process_is_gone_is_not_blamed(launcher: Launch) -> None:
    program = """
if rank == 0:
    wait("1")
    say(exitCode=7, rank=0, message="lost another rank")
    sys.exit(7)
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, lambda *_: signal.setitimer(signal.ITIMER_REAL, 1.0))
signal.signal(signal.SIGALRM, die)
touch("1")
time.sleep(600)
"""
    said = report(launcher(program))
    assert (said.exit_code, said.rank) == (137, 1)


def test_ranks_that_are_killed_after_the_grace_are_not_blamed_either(launcher: Launch) -> None:
    program = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
touch(str(rank))
wait(str(1 - rank))
if rank == 0: sys.exit(7)
time.sleep(600)
"""
    said = report(launcher(program))
    assert (said.exit_code, said.rank) == (7, 0)


def test_a_rank_that_ends_without_a_word_is_told_by_its_code(launcher: Launch) -> None:
    said = report(launcher("sys.exit(3)", processes=1, nodes=2, node=1))
    assert (said.exit_code, said.rank) == (3, 1)
    assert said.message == "rank 1 ended with exit code 3 and did not say why"


def test_what_a_rank_said_before_it_was_killed_does_not_count(launcher: Launch) -> None:
    program = "say(exitCode=0, rank=rank, message='done'); os.kill(os.getpid(), signal.SIGSEGV)"
    said = report(launcher(program, processes=1, nodes=2))
    assert (said.exit_code, said.message) == (139, "rank 0 was killed by signal 11 (SIGSEGV)")


SAVES_SLOWLY = """
def save(*_):
    touch(f"asked-{rank}")
    if rank == 0: wait("saved")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
touch(f"ready-{rank}")
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all_ranks_and_the_slowest_is_given_time_to_save(
    launcher: Launch, tmp_path: Path, number: signal.Signals
) -> None:
    process = launcher(SAVES_SLOWLY)
    until(lambda: all((tmp_path / f"ready-{rank}").exists() for rank in (0, 1)))
    process.send_signal(number)
    until(lambda: all((tmp_path / f"asked-{rank}").exists() for rank in (0, 1)))
    deadline = time.monotonic() + 6  # longer than ranks may take after a failure, which a saved checkpoint is not
    until(lambda: time.monotonic() > deadline)
    (tmp_path / "saved").touch()
    assert report(process).exit_code == ExitCode.CHECKPOINTED


def test_a_second_signal_is_not_argued_with(launcher: Launch, tmp_path: Path) -> None:
    process = launcher(SAVES_SLOWLY)
    until(lambda: all((tmp_path / f"ready-{rank}").exists() for rank in (0, 1)))
    process.send_signal(signal.SIGTERM)
    until(lambda: (tmp_path / "asked-0").exists())
    process.send_signal(signal.SIGTERM)
    assert report(process).exit_code == 137


def test_ranks_that_do_not_listen_yet_are_stopped_at_once_and_lose_nothing(launcher: Launch, tmp_path: Path) -> None:
    process = launcher("touch(f'ready-{rank}'); time.sleep(600)")
    until(lambda: all((tmp_path / f"ready-{rank}").exists() for rank in (0, 1)))
    process.send_signal(signal.SIGTERM)
    said = report(process)
    assert (said.exit_code, said.message) == (75, "rank 0 was stopped before it had anything to save")


def test_ranks_do_not_outlive_their_launcher(launcher: Launch, tmp_path: Path) -> None:
    program = """
from g2rpo_trainer.launch import follow_launcher
follow_launcher()
touch(f"{os.getpid()}.pid")
time.sleep(600)
"""
    process = launcher(program)
    until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    process.kill()
    until(lambda: not any(Path(f"/proc/{path.stem}").exists() for path in tmp_path.glob("*.pid")))


def codes(*returncodes: int) -> dict[int, int]:
    return {rank: exit_code(code, told=False) for rank, code in enumerate(returncodes)}


@pytest.mark.parametrize(
    ("returncodes", "told"),
    [
        ([0, 0], (0, 0)),
        ([0, 75], (1, 75)),
        ([75, 0], (0, 75)),
        ([75, 1], (1, 1)),
        ([1, -9], (1, 137)),
        ([-9, 1], (0, 137)),
        ([1, 4], (1, 4)),
        ([7, 1], (1, 1)),
        ([7, 7, -9], (2, 137)),
        ([-6, -6, -11], (2, 139)),
        ([-6, 7, 1], (2, 1)),
        ([7, 75], (0, 7)),
    ],
)
def test_the_code_that_says_most_is_told(returncodes: list[int], told: tuple[int, int]) -> None:
    assert most_telling(codes(*returncodes)) == told


@pytest.mark.parametrize(
    ("returncode", "told", "code"),
    [(0, False, 0), (4, True, 4), (-15, True, 75), (-15, False, 143), (-9, True, 137)],
)
def test_exit_codes_are_the_shells(returncode: int, told: bool, code: int) -> None:
    assert exit_code(returncode, told) == code


def test_a_launcher_that_cannot_start_ranks_leaves_none_behind(tmp_path: Path) -> None:
    """The second rank's program is not there."""
    program = LAUNCHER.replace('[sys.executable, "-c", command]', '["/nowhere/at/all"]')
    done: Any = subprocess.run(
        [sys.executable, "-c", program, "", "1", "0", "2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "/nowhere/at/all" in done.stderr
