"""Ending early and for good: what belongs to an end is there, whenever it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from g2rpo_api.job import G2RPOJob
from g2rpo_api.progress import StoppedReport
from g2rpo_trainer.build import Built
from g2rpo_trainer.checkpoint import saved_at
from g2rpo_trainer.evaluation import Evaluator
from g2rpo_trainer.loop import train
from g2rpo_trainer.reporting.report import render

MakeJob = Callable[..., G2RPOJob]
OpenRun = Callable[..., Built]
ENOUGH = StoppedReport(reason="Requested", message="good enough")
TOLD = {"reason": "Requested", "message": "good enough"}


def diary(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def evaluated(folder: Path) -> list[int]:
    return [entry["iteration"] for entry in diary(folder) if entry["evaluation"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "test"


@pytest.fixture
def rare(job: MakeJob) -> G2RPOJob:
    """Six iterations, evaluated at both ends, with a checkpoint after the third."""
    return job({"iterations": 6, "evaluation.everyIterations": 6, "checkpoint.everyIterations": 3})


def after(iterations: int) -> Callable[[], StoppedReport | None]:
    """Asks for the end once so many iterations are done; the loop looks once before the first and after each."""
    looks: Iterator[int] = iter(range(100))
    return lambda: ENOUGH if next(looks) >= iterations else None


def test_the_run_ends_at_the_next_boundary_with_evaluation_checkpoint_and_reason(
    rare: G2RPOJob, open_run: OpenRun, folder: Path
) -> None:
    built = open_run(rare, end=after(2))
    assert train(built.run, built.state), "an early end is an end"
    assert [entry["iteration"] for entry in diary(folder)] == [0, 1, 2]
    assert evaluated(folder) == [0, 2]
    assert [entry["stopped"] for entry in diary(folder)] == [None, None, TOLD]
    assert [path.name for path in (folder / "checkpoints").glob("iter-*")] == ["iter-000002"]
    progress = built.run.publisher.progress()  # type: ignore[union-attr]
    assert (progress.iteration, progress.total, progress.stopped) == (2, 6, ENOUGH)


def test_an_attempt_that_is_asked_at_once_ends_at_its_checkpoint(
    rare: G2RPOJob, open_run: OpenRun, folder: Path
) -> None:
    asked = iter([False] * 8 + [True])  # twice an iteration
    first = open_run(rare, lambda: next(asked))
    assert not train(first.run, first.state)
    before = diary(folder)
    assert (before[-1]["iteration"], evaluated(folder)) == (4, [0])
    again = open_run(rare, end=after(0))
    assert train(again.run, again.state)
    *earlier, last = diary(folder)
    assert earlier == before[:-1]
    assert last["stopped"] == TOLD
    assert [entry["split"] for entry in last["evaluation"]] == ["eval"]
    assert {**last, "stopped": None, "evaluation": []} == before[-1], "nothing else of the record changes"
    assert (folder / "samples" / "iter-000004.png").is_file()
    assert again.run.publisher.progress().iteration == 4  # type: ignore[union-attr]


def test_what_was_evaluated_at_the_checkpoint_is_not_evaluated_again(
    rare: G2RPOJob, open_run: OpenRun, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_run(rare, end=after(3))
    train(first.run, first.state)
    expected = diary(folder)
    again = open_run(rare, end=after(0))
    monkeypatch.setattr(Evaluator, "scores", lambda _: pytest.fail("evaluated again"))
    assert train(again.run, again.state)
    assert diary(folder) == expected


def test_a_run_that_is_asked_before_it_began_exports_the_untrained_model(
    rare: G2RPOJob, open_run: OpenRun, folder: Path
) -> None:
    built = open_run(rare, end=after(0))
    assert train(built.run, built.state)
    (only,) = diary(folder)
    assert (only["iteration"], only["stopped"], len(only["evaluation"])) == (0, TOLD, 1)


def test_a_run_that_ended_early_goes_on_when_it_is_no_longer_asked_to(
    rare: G2RPOJob, open_run: OpenRun, folder: Path
) -> None:
    first = open_run(rare, end=after(2))
    train(first.run, first.state)
    again = open_run(rare)
    assert train(again.run, again.state)
    assert [entry["iteration"] for entry in diary(folder)] == list(range(7))
    assert diary(folder)[-1]["stopped"] is None
    assert again.run.publisher.progress().stopped is None  # type: ignore[union-attr]


def test_asked_after_the_last_iteration_it_is_no_early_end(rare: G2RPOJob, open_run: OpenRun, folder: Path) -> None:
    built = open_run(rare, end=after(6))
    assert train(built.run, built.state)
    assert [entry["stopped"] for entry in diary(folder)] == [None] * 7


def test_the_report_says_that_it_ended_early_and_why(rare: G2RPOJob, open_run: OpenRun, folder: Path) -> None:
    built = open_run(rare, end=after(1))
    train(built.run, built.state)
    built.run.publisher.finish(True)  # type: ignore[union-attr]
    page = render(folder)
    assert "Training ended early after iteration 1, as requested: good enough." in page
    assert "1 of 6 iterations" in page
    assert page == (folder / "report.html").read_text()


def test_the_operators_number_of_the_attempt_is_everywhere(rare: G2RPOJob, open_run: OpenRun, folder: Path) -> None:
    built = open_run(rare, end=after(1), attempt=7)
    train(built.run, built.state)
    assert {entry["attempt"] for entry in diary(folder)} == {7}
    assert built.run.publisher.progress().attempt == 7  # type: ignore[union-attr]


def test_progress_knows_the_checkpoint_of_an_earlier_attempt(rare: G2RPOJob, open_run: OpenRun, folder: Path) -> None:
    first = open_run(rare, end=after(2))
    train(first.run, first.state)
    told = open_run(rare).run.publisher.progress().checkpoint  # type: ignore[union-attr]
    assert told is not None
    assert (told.iteration, told.time) == (2, saved_at(folder / "checkpoints", 2))


def test_curves_are_there_from_the_first_evaluation_on(rare: G2RPOJob, open_run: OpenRun, folder: Path) -> None:
    built = open_run(rare, lambda: True)
    assert not train(built.run, built.state)
    assert (folder / "curve.csv").read_text().startswith("iteration,")
    assert (folder / "curve.svg").read_text().lstrip().startswith("<")
