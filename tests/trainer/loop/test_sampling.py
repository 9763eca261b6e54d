"""`g2rpo-sample` on a run folder: base and tuned pictures of the same noise, by the stock pipeline."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from PIL import Image

from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.build import Built
from g2rpo_trainer.delivery import deliver
from g2rpo_trainer.loop import train
from g2rpo_trainer.reporting.grids import read_grid
from g2rpo_trainer.runfolder import RunFolder
from g2rpo_trainer.sampling.__main__ import main


@pytest.fixture
def run_folder(
    request: pytest.FixtureRequest, job: Callable[..., G2RPOJob], open_run: Callable[..., Built], folder: Path
) -> Path:
    """A finished run that changed the weights a lot."""
    far = {"iterations": 2, "optimizer.learningRate": 0.02, "evaluation.steps": 3, "sampling.shift": 2.0}
    spec = job(far | {"model.train": {"type": getattr(request, "param", "Full")}})
    built = open_run(spec)
    train(built.run, built.state)
    deliver(spec, RunFolder(folder), built)
    return folder


def pixels(path: Path) -> Any:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(float)


@pytest.mark.parametrize("run_folder", ["Full", "LoRA"], indirect=True)
def test_base_and_tuned_are_drawn_side_by_side(
    run_folder: Path, pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "pictures"
    texts = ("the number 4 7", "the number 0 3")
    asked = [word for text in texts for word in ("--prompt", text)]
    assert main(["--run", str(run_folder), *asked, "--seeds", "5", "6", "--output", str(output)]) == 0
    assert str(output / "grid.png") in capsys.readouterr().out
    singles = [f"{i:03d}-seed{seed}-{side}.png" for i in (0, 1) for seed in (5, 6) for side in ("base", "tuned")]
    assert sorted(path.name for path in output.iterdir()) == sorted([*singles, "grid.png"])

    pairs = read_grid(output / "grid.png")
    assert [pair.caption for pair in pairs] == [f"{text} (seed {seed})" for text in texts for seed in (5, 6)]
    pair = np.asarray(pairs[3].picture).astype(float)
    assert np.array_equal(pair[:, :32], pixels(output / "001-seed6-base.png"))
    assert np.array_equal(pair[:, -32:], pixels(output / "001-seed6-tuned.png"))
    assert np.abs(pair[:, :32] - pair[:, -32:]).mean() > 1

    stock = DiffusionPipeline.from_pretrained(pipeline_folder, local_files_only=True)
    stock.scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0)
    by_hand = stock(
        texts[1],
        height=16,
        width=32,
        sigmas=[1, 2 / 3, 1 / 3],
        guidance_scale=1.0,
        max_sequence_length=8,
        generator=torch.Generator().manual_seed(6),
    ).images[0]
    assert np.abs(np.asarray(by_hand).astype(float) - pixels(output / "001-seed6-base.png")).max() <= 1


def test_another_size_steps_and_a_file_of_prompts(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("the number 1 1\nthe number 2 2\n", encoding="utf-8")
    words = ["--prompts", str(tmp_path / "some.txt"), "--height", "20", "--width", "16", "--steps", "2"]
    assert main(["--run", str(run_folder), *words, "--output", str(tmp_path / "o")]) == 0
    assert pixels(tmp_path / "o" / "001-seed0-tuned.png").shape == (20, 16, 3)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--prompt", "a", "--height", "18"], 3, "--height, --width: 18x32 pixels; this model needs multiples of 4"),
        ([], 3, "nothing to draw: give --prompt TEXT"),
        (["--prompts", "/nowhere.txt"], 3, "--prompts: there is no file /nowhere.txt"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    words: list[str],
    code: int,
    message: str,
    run_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--run", str(run_folder), *words, "--output", str(tmp_path / "o")]) == code
    assert message in capsys.readouterr().err


def test_a_folder_that_is_no_run_and_a_run_without_an_export_are_told_apart(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--prompt", "a", "--output", str(tmp_path / "o")]
    assert main(["--run", str(tmp_path), *words]) == 3
    assert "is not a run folder, it has no job.yaml" in capsys.readouterr().err
    shutil.rmtree(run_folder / "export")
    assert main(["--run", str(run_folder), *words]) == 3
    assert "export is missing: a run exports its weights when it is done" in capsys.readouterr().err


@pytest.mark.parametrize("run_folder", ["Full", "LoRA"], indirect=True)
def test_a_torn_export_is_told(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file,) = (run_folder / "export").rglob("*.safetensors")
    file.write_bytes(b"torn")
    assert main(["--run", str(run_folder), "--prompt", "a", "--output", str(tmp_path / "o")]) == 3
    assert "cannot be loaded" in capsys.readouterr().err
