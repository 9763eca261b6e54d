"""The command as people start it: real processes, real signals, the shipped model and reward."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from g2rpo_api.contract import ExitCode

ITERATIONS = 10
CHECKPOINT_EVERY = 5
DIFFERS_BY_NATURE = {"time", "seconds", "step_seconds", "spent", "attempt"}


def computed(diary: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: entry[key] for key in entry.keys() - DIFFERS_BY_NATURE} for entry in diary]


def exported(run: Path) -> dict[str, Tensor]:
    return load_file(run / "export" / "transformer" / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def uninterrupted(trainer: Any) -> str:
    """Ten iterations on two ranks."""
    assert (trainer.training["iterations"], trainer.training["checkpoint"]["everyIterations"]) == (10, 5)
    trainer.start(trainer.job("whole", 2)).finish()
    return "whole"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_any_moment_a_run_goes_on_bit_by_bit(trainer: Any, uninterrupted: str) -> None:
    job = trainer.job("killed", 2)
    process = trainer.start(job)
    process.until(lambda: len(trainer.diary("killed")) > CHECKPOINT_EVERY + 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.popen.communicate()
    trainer.start(job).finish()
    assert [entry["iteration"] for entry in trainer.diary("killed")] == list(range(ITERATIONS + 1))
    assert trainer.diary("killed")[-1]["attempt"] == 2
    assert computed(trainer.diary("killed")) == computed(trainer.diary(uninterrupted))
    resumed, whole = exported(trainer.runs / "killed"), exported(trainer.runs / uninterrupted)
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_rank_with_two_prompts_equals_two_ranks_with_one_to_rounding(trainer: Any, uninterrupted: str) -> None:
    trainer.start(trainer.job("alone", 1)).finish()
    one, two = trainer.diary("alone"), trainer.diary(uninterrupted)
    for alone, pair in zip(one[:2], two[:2], strict=True):
        assert alone["model_calls"] == pair["model_calls"]
        assert alone["images"] == pair["images"]
        assert (alone["world_size"], pair["world_size"]) == (1, 2)
        for mine, theirs in zip(alone["rewards"], pair["rewards"], strict=True):
            assert mine["anchor"] == pytest.approx(theirs["anchor"], abs=1e-4)
            assert mine["branch"]["2"] == pytest.approx(theirs["branch"]["2"], abs=1e-4)
    looks = [[diary[0]["evaluation"][0]["appearance"], diary[1]["appearance"]] for diary in (one, two)]
    for alone, pair in zip(*looks, strict=True):
        assert alone == pytest.approx(pair, abs=1e-4)
    assert one[1]["policy"]["grad_norm"] == pytest.approx(two[1]["policy"]["grad_norm"], rel=1e-2)
    final, expected = exported(trainer.runs / "alone"), exported(trainer.runs / uninterrupted)
    learning_rate = 1e-4
    # Adam moves a weight by at most about its learning rate a step, whatever rounding says of its gradient's sign
    most = 2 * ITERATIONS * 2 * learning_rate
    assert all((final[name] - expected[name]).abs().max() < most for name in expected)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sigterm_saves_exits_with_75_and_the_same_command_goes_on(trainer: Any) -> None:
    lora = {"family": "SD3", "path": "builtin:miniature", "maxSequenceLength": 8, "train": {"type": "LoRA"}}
    job = trainer.job("stopped", 2, model=lora)
    process = trainer.start(job)
    process.until(lambda: len(trainer.diary("stopped")) > 2)
    process.popen.send_signal(signal.SIGTERM)
    output = process.finish(ExitCode.CHECKPOINTED)
    assert "goes on from there" in output
    done = len(trainer.diary("stopped")) - 1
    assert (trainer.runs / "stopped" / "checkpoints" / f"iter-{done:06d}" / "manifest.json").is_file()
    word = process.said()
    assert (word.exit_code, word.message) == (75, f"stopped with a checkpoint of iteration {done} of 10")
    assert (word.progress.phase, word.progress.checkpoint.iteration) == ("Training", done)
    trainer.start(job).finish()
    assert [entry["iteration"] for entry in trainer.diary("stopped")] == list(range(ITERATIONS + 1))
    assert (trainer.runs / "stopped" / "export" / "pytorch_lora_weights.safetensors").is_file()


def files_of_at_most_4_mib() -> None:
    """The kernel then refuses the shards of a checkpoint, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * 2**20, resource.RLIM_INFINITY))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_full_disk_is_code_6_loses_nothing_and_with_room_the_same_command_goes_on(trainer: Any) -> None:
    job = trainer.job("full", iterations=2, checkpoint={"everyIterations": 1})
    process = trainer.start(job, preexec_fn=files_of_at_most_4_mib)
    assert "free some space" in process.finish(ExitCode.STORAGE)
    assert [entry["iteration"] for entry in trainer.diary("full")] == [0, 1]
    assert (process.said().exit_code, process.said().progress.iteration) == (ExitCode.STORAGE, 1)
    trainer.start(job).finish()
    assert [entry["iteration"] for entry in trainer.diary("full")] == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("size", [2, 4])
def test_a_rank_that_dies_ends_the_others_and_is_told_with_its_signal(trainer: Any, size: int) -> None:
    name = f"bereft-{size}"
    prompts = trainer.training["prompts"] | {"perIteration": size}
    process = trainer.start(trainer.job(name, size, iterations=10_000, prompts=prompts))
    process.until(lambda: len(trainer.diary(name)) > 1)
    ranks = process.ranks()
    assert len(ranks) == size
    os.kill(ranks[1], signal.SIGKILL)
    output = process.finish(128 + signal.SIGKILL)
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
    word = process.said()
    assert (word.exit_code, word.rank) == (137, 1)
    assert word.message == "rank 1 was killed by signal 9 (SIGKILL): often memory exhausted"
    assert word.message in output
    assert word.progress.iteration == trainer.diary(name)[-1]["iteration"], "rank 0 still told how far it had got"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_torchrun_starts_the_same_ranks(trainer: Any) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "g2rpo_trainer"]
    process = trainer.start(trainer.job("torchrun", 2, iterations=1), command=torchrun)
    process.finish()
    assert [entry["world_size"] for entry in trainer.diary("torchrun")] == [2, 2]
    assert (process.said().rank, process.said().message) == (0, "done after iteration 1 of 1")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_port_answers_while_the_run_lasts(trainer: Any) -> None:
    process = trainer.start(trainer.job("served", iterations=10_000))
    where = process.address()
    process.until(lambda: len(trainer.diary("served")) > 1)
    with urllib.request.urlopen(f"{where}/metrics") as answer:
        assert b"g2rpo_trainer_iterations_planned 10000.0" in answer.read()
    with urllib.request.urlopen(f"{where}/progress") as answer:
        progress = json.load(answer)
    assert progress["job"] == "served"
    assert progress["iteration"] >= 0
    for accept, kind in (("text/html,*/*", "text/html; charset=utf-8"), ("*/*", "application/octet-stream")):
        asked = urllib.request.Request(f"{where}/report.html", headers={"Accept": accept})
        with urllib.request.urlopen(asked) as answer:
            assert answer.headers["Content-Type"] == kind
            assert b"</html>" in answer.read()
    process.popen.send_signal(signal.SIGINT)
    process.finish(ExitCode.CHECKPOINTED)


@pytest.fixture
def tmp_job(trainer: Any) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str, **training: Any) -> tuple[int, str]:
        process = trainer.start(trainer.job("small", **training), *arguments)
        output, _ = process.popen.communicate()
        return process.popen.returncode, output

    return run


def test_a_mistake_is_answered_with_code_2_before_anything_heavy_is_imported(
    tmp_job: Callable[..., tuple[int, str]],
) -> None:
    code, output = tmp_job("--check", iterations=0, sampling={"steps": 4, "hight": 16, "width": 32})
    assert code == ExitCode.INVALID_SPEC
    assert "spec.training.iterations" in output
    assert "height" in output


@pytest.mark.slow
def test_check_says_what_the_job_will_do(tmp_job: Callable[..., tuple[int, str]]) -> None:
    code, output = tmp_job("--check")
    assert code == ExitCode.OK
    assert "model calls" in output.lower()


def test_a_missing_model_is_code_3_and_names_the_key(trainer: Any, tmp_path: Path) -> None:
    missing = trainer.training["model"] | {"path": str(tmp_path / "nowhere")}
    process = trainer.start(trainer.job("modelless", model=missing))
    assert "spec.training.model.path" in process.finish(ExitCode.MISSING_DATA)
    assert process.said().message.startswith("spec.training.model.path")


def test_a_run_folder_that_cannot_be_made_is_code_6(tmp_job: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, output = tmp_job("--runs", str(tmp_path / "file"))
    assert code == ExitCode.STORAGE
    assert "--runs" in output


def test_a_last_word_that_cannot_be_written_changes_nothing(trainer: Any, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere" / "log"
    process = trainer.start(trainer.job("mute", iterations=0), G2RPO_TERMINATION_LOG=str(nowhere))
    assert str(nowhere) in process.finish(ExitCode.INVALID_SPEC)


def test_the_command_line_is_explained() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "g2rpo_trainer", "--help"], capture_output=True, text=True, check=True
    )
    words = shown.stdout.split()
    assert all(str(int(code)) in words for code in ExitCode), "every exit code"
