"""What a finished run hands over: weights that the stock pipeline draws with, and a card that tells how."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.build import Built
from g2rpo_trainer.delivery import deliver
from g2rpo_trainer.loop import train
from g2rpo_trainer.models.loading import compute_precision
from g2rpo_trainer.runfolder import RunFolder
from g2rpo_trainer.verification import ALLOWED, compared, drawn_by_trainer, verify

JOBS: dict[str, dict[str, Any]] = {
    "SD3": {},
    "SD3, adapters, guided": {"model.train": {"type": "LoRA"}, "sampling.guidanceScale": 2.0},
    "SD3, mean weights": {"ema": {"decay": 0.5}, "sampling.shiftRule": "Model"},
    "SD3, sharded": {"deepspeed.zeroStage": 3},
    "FLUX.1-dev, adapters, 16 bits": {
        "model.train": {"type": "LoRA"},
        "model.precision": "BFloat16",
        "sampling.guidanceScale": 3.5,
    },
    "FLUX.1-schnell, truncated": {"sampling.truncateTimestep": True, "sampling.shift": 3.0},
}
Deliver = Callable[..., tuple[G2RPOJob, Built, Path]]


@pytest.fixture
def delivered(
    job: Callable[..., G2RPOJob], open_run: Callable[..., Built], folder: Path, flux_folders: Mapping[str, Path]
) -> Deliver:
    """Train an iteration, far, and deliver: the job, what was built, the export."""

    def run(name: str) -> tuple[G2RPOJob, Built, Path]:
        changes = JOBS[name] | {"iterations": 1, "optimizer.learningRate": 0.01}
        if name.startswith("FLUX.1"):
            model = re.match(r"FLUX.1-(\w+)", name)
            assert model is not None
            changes |= {"model.family": "Flux1", "model.path": str(flux_folders[model[1]])}
        spec = job(changes)
        built = open_run(spec)
        assert train(built.run, built.state)
        deliver(spec, RunFolder(folder), built)
        return spec, built, folder / "export"

    return run


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_the_stock_pipeline_draws_the_trainers_picture(
    name: str, delivered: Deliver, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, built, export = delivered(name)
    compute = compute_precision(spec.spec.training.model)
    verdict = verify(built.run, built.source, export, drawn_by_trainer(built.run), compute)
    if "mean" not in name:  # the run itself goes on with its last weights
        assert verdict.problem is None
        assert verdict.difference is not None
        assert verdict.difference <= (1e-5 if compute == torch.float32 else ALLOWED[compute])
    card = (export / "README.md").read_text(encoding="utf-8")
    assert "the stock pipeline with these weights draws the trainer's picture" in card
    assert "warning" not in capsys.readouterr().out.replace("may not be", "") or "mean" in name


def test_other_weights_are_noticed_and_kept(
    delivered: Deliver, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    _, built, export = delivered("SD3")
    (file,) = (export / "transformer").glob("*.safetensors")
    save_file({key: 1.05 * weight for key, weight in load_file(file).items()}, file, {"format": "pt"})
    verdict = verify(built.run, built.source, export, drawn_by_trainer(built.run), torch.float32)
    assert verdict.difference is not None
    assert verdict.difference > ALLOWED[torch.float32]
    assert verdict.problem is not None
    assert "differs from the trainer's" in verdict.problem
    assert "may not be what was trained" in capsys.readouterr().out
    assert any(record.levelno == logging.WARNING for record in caplog.records)
    assert file.is_file()


def test_weights_that_cannot_be_loaded_are_told_and_do_not_end_the_run(delivered: Deliver) -> None:
    _, built, export = delivered("SD3")
    (file,) = (export / "transformer").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    verdict = verify(built.run, built.source, export, drawn_by_trainer(built.run), torch.float32)
    assert verdict.difference is None
    assert verdict.problem is not None
    assert verdict.problem.startswith("the stock pipeline could not draw with it")


@pytest.mark.parametrize(("shift", "fine"), [(0.0, True), (9e-4, True), (2e-3, False)])
def test_a_difference_counts_from_what_rounding_may_do(shift: float, fine: bool) -> None:
    picture = torch.full((1, 3, 4, 4), 0.5)
    verdict = compared(picture, picture + shift, ALLOWED[torch.float32])
    assert (verdict.problem is None) == fine
    assert verdict.difference == pytest.approx(shift, abs=1e-6)


@pytest.mark.parametrize("name", ["SD3", "SD3, adapters, guided", "FLUX.1-schnell, truncated"])
def test_the_cards_program_draws(name: str, delivered: Deliver) -> None:
    spec, built, export = delivered(name)
    text = (export / "README.md").read_text(encoding="utf-8")
    program = text.partition("```python\n")[2].partition("```")[0]
    program = program.replace("path/of/this/folder", str(export))
    program = program.replace("path/of/the/base/model", str(built.source.folder)).replace(
        "your prompt", "the number 4 7"
    )
    done: dict[str, Any] = {}
    exec(program, done)
    sampling = spec.spec.training.sampling
    assert done["picture"].size == (sampling.width, sampling.height)
    levels = done["pipeline"].scheduler.sigmas.tolist()
    assert levels == pytest.approx(built.run.evaluator.grid.sigmas, abs=1e-4)


def test_the_card_is_one_that_the_hub_understands(delivered: Deliver) -> None:
    _, _, export = delivered("SD3, adapters, guided")
    card = ModelCard.load(export / "README.md")
    assert card.data.library_name == "diffusers"
    assert card.data.pipeline_tag == "text-to-image"
    assert "lora" in card.data.tags
    pictures = set(re.findall(r"!\[[^]]*\]\(([^)]+)\)", card.text))
    assert pictures == {"curve.svg", "before.png", "after.png"}
    assert all((export / name).stat().st_size > 0 for name in pictures)
