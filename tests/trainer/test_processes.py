"""The command as people and clusters start it: real processes, real signals, the shipped model and reward."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from g2rpo_api.contract import ExitCode
from g2rpo_trainer.launch import RankEnvironment

ITERATIONS = 10
CHECKPOINT_EVERY = 5
DIFFERS_BY_NATURE = {"time", "seconds", "step_seconds", "attempt"}
PATIENCE_SECONDS = 240
COMMAND = [sys.executable, "-m", "g2rpo_trainer"]
TRAINING: dict[str, Any] = {
    "iterations": ITERATIONS,
    "model": {"family": "SD3", "path": "builtin:miniature", "maxSequenceLength": 8, "train": {"type": "Full"}},
    "prompts": {"path": "builtin:numbers", "perIteration": 2},
    "sampling": {"steps": 4, "shift": 1.0, "height": 16, "width": 32},
    "algorithm": {"type": "G2RPO", "g2rpo": {"groupSize": 4, "stochasticSteps": 2, "granularities": [1, 2]}},
    "rewards": [
        {"name": "paddle", "type": "PaddleOCR"},
        {"name": "dddd", "type": "DdddOCR", "role": "HeldOut"},
    ],
    "checkpoint": {"everyIterations": CHECKPOINT_EVERY},
    "evaluation": {"everyIterations": 5, "maxPrompts": 3},
}


def job_file(folder: Path, name: str, processes: int, **training: Any) -> Path:
    path = folder / f"{name}.yaml"
    document = {
        "apiVersion": "g2rpo.dev/v1alpha1",
        "kind": "G2RPOJob",
        "metadata": {"name": name},
        "spec": {"workers": {"processesPerNode": processes}, "training": TRAINING | training},
    }
    path.write_text(yaml.safe_dump(document))
    return path


def environment() -> dict[str, str]:
    """This process's, but for what makes a process a rank: another test may be one."""
    mine = RankEnvironment.alone().variables()
    return {name: value for name, value in os.environ.items() if name not in mine}


def start(job: Path, runs: Path, *arguments: str) -> subprocess.Popen[str]:
    """In a process group of its own, so that everything it started can be killed at once."""
    return subprocess.Popen(
        [*COMMAND, str(job), "--runs", str(runs), "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=environment(),
    )


def finish(process: subprocess.Popen[str], expected: int = ExitCode.OK) -> str:
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == expected, output
    return output


def diary(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def computed(run: Path) -> list[dict[str, Any]]:
    return [{key: entry[key] for key in entry.keys() - DIFFERS_BY_NATURE} for entry in diary(run)]


def exported(run: Path) -> dict[str, Tensor]:
    return load_file(run / "export" / "transformer" / "diffusion_pytorch_model.safetensors")


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Watch the run folder; the test fails when the process ends or nothing happens for long."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < give_up, "nothing happened"
        os.sched_yield()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def uninterrupted(runs: Path) -> Path:
    """Ten iterations on two ranks, told over HTTP while they happened."""
    finish(start(job_file(runs, "whole", 2), runs))
    return runs / "whole"


@pytest.mark.timeout(900)
def test_killed_at_any_moment_a_run_goes_on_bit_by_bit(runs: Path, uninterrupted: Path) -> None:
    job = job_file(runs, "killed", 2)
    process = start(job, runs)
    until(lambda: len(diary(runs / "killed")) > CHECKPOINT_EVERY + 2, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finish(start(job, runs))
    assert [entry["iteration"] for entry in diary(runs / "killed")] == list(range(ITERATIONS + 1))
    assert diary(runs / "killed")[-1]["attempt"] == 2
    assert computed(runs / "killed") == computed(uninterrupted)
    resumed, whole = exported(runs / "killed"), exported(uninterrupted)
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.timeout(600)
def test_one_rank_with_two_prompts_equals_two_ranks_with_one_to_rounding(runs: Path, uninterrupted: Path) -> None:
    finish(start(job_file(runs, "alone", 1), runs))
    for alone, pair in zip(diary(runs / "alone")[:2], diary(uninterrupted)[:2], strict=True):
        assert alone["model_calls"] == pair["model_calls"]
        assert alone["images"] == pair["images"]
        assert (alone["world_size"], pair["world_size"]) == (1, 2)
        for mine, theirs in zip(alone["rewards"], pair["rewards"], strict=True):
            assert mine["anchor"] == pytest.approx(theirs["anchor"], abs=1e-4)
            assert mine["branch"]["2"] == pytest.approx(theirs["branch"]["2"], abs=1e-4)
    first, second = diary(runs / "alone")[1]["policy"], diary(uninterrupted)[1]["policy"]
    assert first["grad_norm"] == pytest.approx(second["grad_norm"], rel=1e-2)
    final, expected = exported(runs / "alone"), exported(uninterrupted)
    learning_rate = 1e-4
    # Adam moves a weight by at most about its learning rate a step, whatever rounding says of its gradient's sign
    most = 2 * ITERATIONS * 2 * learning_rate
    assert all((final[name] - expected[name]).abs().max() < most for name in expected)


@pytest.mark.timeout(600)
def test_sigterm_saves_exits_with_75_and_the_same_command_goes_on(runs: Path) -> None:
    lora = {"family": "SD3", "path": "builtin:miniature", "maxSequenceLength": 8, "train": {"type": "LoRA"}}
    job = job_file(runs, "stopped", 2, model=lora)
    process = start(job, runs)
    until(lambda: len(diary(runs / "stopped")) > 2, process)
    process.send_signal(signal.SIGTERM)
    output = finish(process, ExitCode.CHECKPOINTED)
    assert "goes on from there" in output
    done = len(diary(runs / "stopped")) - 1
    assert (runs / "stopped" / "checkpoints" / f"iter-{done:06d}" / "manifest.json").is_file()
    finish(start(job, runs))
    assert [entry["iteration"] for entry in diary(runs / "stopped")] == list(range(ITERATIONS + 1))
    assert (runs / "stopped" / "export" / "pytorch_lora_weights.safetensors").is_file()


def files_of_at_most_4_mib() -> None:
    """The kernel then refuses the shards of a checkpoint, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * 2**20, resource.RLIM_INFINITY))


@pytest.mark.timeout(300)
def test_a_full_disk_is_code_6_loses_nothing_and_with_room_the_same_command_goes_on(runs: Path) -> None:
    job = job_file(runs, "full", 1, iterations=2, checkpoint={"everyIterations": 1})
    command = [*COMMAND, str(job), "--runs", str(runs), "--port", "0"]
    refused = subprocess.run(
        command, preexec_fn=files_of_at_most_4_mib, capture_output=True, text=True, check=False, env=environment()
    )
    assert refused.returncode == ExitCode.STORAGE, refused.stderr
    assert "free some space" in refused.stderr
    assert [entry["iteration"] for entry in diary(runs / "full")] == [0, 1]
    finish(start(job, runs))
    assert [entry["iteration"] for entry in diary(runs / "full")] == [0, 1, 2]


@pytest.mark.timeout(300)
def test_a_rank_that_dies_ends_the_others_and_its_code_is_told(runs: Path) -> None:
    process = start(job_file(runs, "bereft", 2, iterations=10_000), runs)
    until(lambda: len(diary(runs / "bereft")) > 1, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 2
    os.kill(int(children[1]), signal.SIGKILL)
    finish(process, 128 + signal.SIGKILL)
    assert not any(Path(f"/proc/{child}").exists() for child in children)


@pytest.mark.timeout(300)
def test_torchrun_starts_the_same_ranks(runs: Path) -> None:
    job = job_file(runs, "torchrun", 2, iterations=1)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "g2rpo_trainer"]
    finish(
        subprocess.Popen(
            [*torchrun, str(job), "--runs", str(runs), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )
    )
    assert [entry["world_size"] for entry in diary(runs / "torchrun")] == [2, 2]


@pytest.mark.timeout(300)
def test_the_port_answers_while_the_run_lasts(runs: Path) -> None:
    process = start(job_file(runs, "served", 1, iterations=10_000), runs)
    assert process.stdout is not None
    where = next(line for line in process.stdout if "metrics at " in line).rpartition("metrics at ")[2].strip()
    until(lambda: len(diary(runs / "served")) > 1, process)
    with urllib.request.urlopen(where) as answer:
        assert b"g2rpo_trainer_iterations_total 10000.0" in answer.read()
    with urllib.request.urlopen(where.replace("/metrics", "/progress")) as answer:
        progress = json.load(answer)
    assert progress["job"] == "served"
    assert progress["iteration"] >= 0
    process.send_signal(signal.SIGINT)
    finish(process, ExitCode.CHECKPOINTED)


@pytest.fixture
def tmp_job(tmp_path: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    def run(*arguments: str, **training: Any) -> tuple[int, str]:
        done = subprocess.run(
            [*COMMAND, str(job_file(tmp_path, "small", 1, **training)), *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            env=environment(),
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_mistake_is_answered_with_code_2_before_anything_heavy_is_imported(
    tmp_job: Callable[..., tuple[int, str]],
) -> None:
    code, output = tmp_job("--check", iterations=0, sampling={"steps": 4, "hight": 16, "width": 32})
    assert code == ExitCode.INVALID_SPEC
    assert "spec.training.iterations" in output
    assert "height" in output


def test_check_says_what_the_job_will_do(tmp_job: Callable[..., tuple[int, str]]) -> None:
    code, output = tmp_job("--check")
    assert code == ExitCode.OK
    assert "model calls" in output.lower()


def test_a_missing_model_is_code_3_and_names_the_key(tmp_job: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    missing = TRAINING["model"] | {"path": str(tmp_path / "nowhere")}
    code, output = tmp_job("--runs", str(tmp_path), "--port", "0", model=missing)
    assert code == ExitCode.MISSING_DATA
    assert "spec.training.model.path" in output


def test_a_run_folder_that_cannot_be_made_is_code_6(tmp_job: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, output = tmp_job("--runs", str(tmp_path / "file"), "--port", "0")
    assert code == ExitCode.STORAGE
    assert "--runs" in output
