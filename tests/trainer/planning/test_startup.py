"""What a start tells of memory by itself: what cannot fit is refused, what may not is in the log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from diffusers import FluxTransformer2DModel

from g2rpo_api.errors import SpecError
from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import parse_job
from g2rpo_trainer import session
from g2rpo_trainer.environment import RankEnvironment, Surroundings
from g2rpo_trainer.lastword import LastWord
from g2rpo_trainer.planning.findings import error, fine
from g2rpo_trainer.planning.startup import refuse_what_cannot_fit, tell_finding
from g2rpo_trainer.planning.utilisation import dry_run
from g2rpo_trainer.stopping import StopRequest

TIB = 2**40


@pytest.fixture
def job(flux_folders: Mapping[str, Path]) -> G2RPOJob:
    return trained(str(flux_folders["dev"]))


def trained(path: str) -> G2RPOJob:
    training: dict[str, Any] = {
        "iterations": 1,
        "model": {"family": "Flux1", "path": path, "maxSequenceLength": 16, "train": {"type": "Full"}},
        "prompts": {"path": "builtin:numbers", "perIteration": 4},
        "sampling": {"height": 32, "width": 32, "steps": 4},
        "algorithm": {"type": "G2RPO", "g2rpo": {"groupSize": 2, "stochasticSteps": 1}},
        "rewards": [{"name": "a", "type": "JPEG"}],
    }
    spec = {"training": training}
    return parse_job({"apiVersion": "g2rpo.dev/v1alpha1", "kind": "G2RPOJob", "metadata": {"name": "a"}, "spec": spec})


@pytest.fixture
def stays(flux_folders: Mapping[str, Path]) -> int:
    """A little less than what does, whatever is computed: weights and Adam's two moments, in 32 bits."""
    network = FluxTransformer2DModel.from_pretrained(flux_folders["dev"] / "transformer")
    return 3 * 4 * sum(weight.numel() for weight in network.parameters())


def test_weights_and_moments_that_are_more_than_the_card_has_are_refused(job: G2RPOJob, stays: int) -> None:
    with pytest.raises(SpecError) as refused:
        refuse_what_cannot_fit(job.spec.training, 1, int(0.8 * stays))
    (problem,) = refused.value.problems
    assert problem.key == "memory of a rank"
    assert "zeroStage" in problem.hint


def test_what_could_just_fit_or_cannot_be_told_is_not(job: G2RPOJob, stays: int) -> None:
    refuse_what_cannot_fit(job.spec.training, 1, 2 * stays)
    refuse_what_cannot_fit(job.spec.training, 1, None)
    refuse_what_cannot_fit(trained("black-forest-labs/FLUX.1-dev").spec.training, 1, 1)


def test_a_rank_refuses_before_it_meets_the_others(
    job: G2RPOJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "present_card", lambda index: 1000)
    monkeypatch.setattr(session, "log_to", lambda *_: None)
    monkeypatch.setattr(session.World, "join", lambda *_: pytest.fail("met"))
    around = Surroundings.read({}, tmp_path, 0)
    with pytest.raises(SpecError, match="memory of a rank"):
        session.run_job(job, RankEnvironment.alone(), around, StopRequest(), LastWord())


@pytest.mark.parametrize(("card", "level"), [(1000, "Error"), (TIB, "OK")])
def test_the_dry_run_beside_the_training_says_what_the_check_up_says(job: G2RPOJob, card: int, level: str) -> None:
    (found,) = dry_run(job, 2, card, operations=False)
    assert found["memory"]["key"] == "memory of a rank"
    assert found["memory"]["level"] == level
    assert "during the" in found["memory"]["reason"]
    assert bool(found["memory"]["remedy"]) == (level == "Error")


def test_a_model_that_is_not_here_yet_gives_nothing_to_run() -> None:
    assert list(dry_run(trained("org/model"), 2, TIB, operations=True)) == []


def test_an_error_is_logged_as_one_with_its_remedy_and_what_is_well_is_not(caplog: pytest.LogCaptureFixture) -> None:
    tell_finding(fine("a", "well"))
    tell_finding(error("memory of a rank", "90 GiB at most", "train LoRA", 2))  # type: ignore[arg-type]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "memory of a rank: 90 GiB at most; train LoRA"
