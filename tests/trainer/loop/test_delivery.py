"""What a finished run hands over: weights that the stock pipeline draws with, and a card that tells how."""

from __future__ import annotations

import logging
import re
import shutil
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
from g2rpo_trainer.evaluation import Evaluator
from g2rpo_trainer.journal import EvaluationEntry, Spread
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
MakeJob = Callable[..., G2RPOJob]
OpenRun = Callable[..., Built]
BEST = [0.9, 0.2, 0.8, 0.3, 0.4]
"""Evaluations before the first iteration and after each: the second is best, since untrained weights do not count."""


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


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations as in `BEST`, whatever the pictures."""
    left = list(BEST)

    def scores(_: Evaluator) -> list[EvaluationEntry]:
        mean = left.pop(0) if left else 0.1
        spread = Spread(mean=mean, std=0.1, min=0.0, max=1.0)
        return [EvaluationEntry(split="eval", prompts=3, rewards={"brightness": spread})]

    monkeypatch.setattr(Evaluator, "scores", scores)


def exported(spec: G2RPOJob, built: Built, folder: Path) -> dict[str, torch.Tensor]:
    """Train and deliver; the weights that were handed over. The run folder gets out of the way."""
    assert train(built.run, built.state)
    deliver(spec, RunFolder(folder), built)
    (file,) = (folder / "export" / "transformer").glob("*.safetensors")
    return load_file(file)


def equal(some: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(weight, others[name]) for name, weight in some.items())


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id=""),
        pytest.param({"ema": {"decay": 0.5}}, id="mean", marks=pytest.mark.slow),
        pytest.param({"deepspeed.zeroStage": 2}, id="sharded", marks=pytest.mark.slow),
    ],
)
def test_the_best_is_handed_over_where_it_is_kept(
    more: dict[str, Any], job: MakeJob, open_run: OpenRun, folder: Path, judged: None
) -> None:
    every = {"evaluation.everyIterations": 1, "checkpoint.everyIterations": 4, "checkpoint.keepLast": 1, **more}
    kept = job(every | {"iterations": 4, "checkpoint.keepBest": True})
    best = exported(kept, open_run(kept), folder)
    card = (folder / "export" / "README.md").read_text(encoding="utf-8")
    assert "trained for 2 iterations" in card
    assert "Training went on to iteration 4; this one was evaluated best." in card
    assert "| brightness | train | eval, 3 | 0.9000 | 0.8000 |" in card
    assert "the stock pipeline with these weights draws the trainer's picture" in card
    drawn, shown = folder / "samples" / "iter-000002.png", folder / "export" / "after.png"
    assert shown.read_bytes() == drawn.read_bytes()
    folder.rename(folder.with_name("kept"))
    for iterations, same in ((2, True), (4, False)):
        plain = job(every | {"iterations": iterations})
        assert equal(best, exported(plain, open_run(plain), folder)) == same
        folder.rename(folder.with_name(f"plain-{iterations}"))


def test_a_best_one_that_is_gone_is_told_and_the_last_is_handed_over(
    job: MakeJob, open_run: OpenRun, folder: Path, judged: None, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"evaluation.everyIterations": 1, "checkpoint": {"everyIterations": 4, "keepLast": 1, "keepBest": True}}
    spec = job(changes)
    built = open_run(spec)
    assert train(built.run, built.state)
    (shard,) = (folder / "checkpoints" / "iter-000002").glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        deliver(spec, RunFolder(folder), built)
    assert "iter-000002 is damaged" in caplog.text
    assert "iteration 2, whose evaluation was best, is gone: the last is exported" in caplog.text
    assert "trained for 4 iterations" in (folder / "export" / "README.md").read_text(encoding="utf-8")


def test_an_earlier_checkpoint_is_handed_over_by_a_copy_of_the_run_that_ends_there(
    job: MakeJob, open_run: OpenRun, folder: Path
) -> None:
    """The commands of docs/resume.md."""
    whole = job({"iterations": 4})
    last = exported(whole, open_run(whole), folder)
    shutil.copytree(folder, folder.with_name("whole"))
    shutil.rmtree(folder / "checkpoints" / "iter-000004")
    half = job({"iterations": 2})
    earlier = exported(half, open_run(half), folder)
    folder.rename(folder.with_name("half"))
    fresh = exported(half, open_run(half), folder)
    assert equal(earlier, fresh)
    assert not equal(earlier, last)
