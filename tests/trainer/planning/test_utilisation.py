"""What MFU is a share of: a card's published speed, and the operations that a process beside the training counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import parse_job
from g2rpo_trainer.planning import utilisation
from g2rpo_trainer.planning.cards import full_speed
from g2rpo_trainer.planning.plan import count
from g2rpo_trainer.planning.sketch import sketch
from g2rpo_trainer.planning.utilisation import Card, measured
from g2rpo_trainer.planning.work import call_cost, work

PATIENCE_SECONDS = 240
H100 = "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(
    ("card", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        (H100, 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA B200", 2250),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
    ],
)
def test_a_card_is_known_by_the_name_that_torch_gives_it(card: str, tera: float) -> None:
    assert full_speed(card) == tera * 1e12


@pytest.mark.parametrize("card", ["NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA GB200", "NVIDIA L40", "NVIDIA H20", ""])
def test_nothing_is_made_up_for_a_card_that_is_not_known_or_shared(card: str) -> None:
    assert full_speed(card) is None


@pytest.fixture
def job(flux_folders: Mapping[str, Path]) -> G2RPOJob:
    return trained(flux_folders, "BFloat16")


def trained(folders: Mapping[str, Path], precision: str) -> G2RPOJob:
    training: dict[str, Any] = {
        "iterations": 1,
        "model": {
            "family": "Flux1", "path": str(folders["dev"]), "maxSequenceLength": 16, "train": {"type": "LoRA"},
            "precision": precision,
        },
        "prompts": {"path": "builtin:numbers", "perIteration": 4},
        "sampling": {"height": 32, "width": 64, "steps": 4},
        "algorithm": {"type": "G2RPO", "g2rpo": {"groupSize": 2, "stochasticSteps": 1}},
        "rewards": [{"name": "a", "type": "JPEG"}],
    }  # fmt: skip
    spec = {"workers": {"processesPerNode": 4}, "training": training}
    return parse_job({"apiVersion": "g2rpo.dev/v1alpha1", "kind": "G2RPOJob", "metadata": {"name": "a"}, "spec": spec})


def written(job: G2RPOJob, folder: Path) -> Path:
    path = folder / "job.yaml"
    path.write_text(json.dumps(job.model_dump(mode="json", by_alias=True)))
    return path


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_beside_a_training_memory_is_compared_with_the_card_and_operations_are_counted(
    job: G2RPOJob, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, float]] = []
    heard = Event()

    def tell(card: str, seconds: float) -> None:
        told.append((card, seconds))
        heard.set()

    with measured(job, written(job, tmp_path), 2, Card(H100, 1000), tell):
        assert heard.wait(PATIENCE_SECONDS)
    drawn = sketch(job.spec.training)
    assert drawn is not None
    by_four_ranks = work(drawn, count(job), call_cost(drawn)).flops
    assert told == [(H100, pytest.approx(2 * by_four_ranks / 989e12))]
    (logged,) = (record.getMessage() for record in caplog.records)
    assert logged.startswith("memory of a rank: ")
    assert "the card has 1000 B" in logged


def test_nothing_is_counted_where_there_is_no_card(job: G2RPOJob) -> None:
    with measured(job, Path("no such file"), 2, None, tell=lambda *_: pytest.fail("told")):
        pass


def test_what_a_library_prints_beside_is_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chatty.py").write_text("print('loading ...', '{\"operations\": 7}', sep='\\n', flush=True)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(utilisation, "__name__", "chatty")
    found: list[dict[str, Any]] = []
    heard = Event()
    with utilisation.counted([], lambda line: (found.append(line), heard.set())):
        assert heard.wait(PATIENCE_SECONDS)
    assert found == [{"operations": 7}]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """With what the process beside would be started."""
    found: list[list[str]] = []

    def noted(arguments: list[str], _: object) -> nullcontext[None]:
        found.append(arguments)
        return nullcontext()

    monkeypatch.setattr(utilisation, "counted", noted)
    return found


@pytest.mark.parametrize(
    ("card", "precision", "operations"),
    [(H100, "BFloat16", True), (H100, "Float32", False), ("NVIDIA GeForce GTX 1080", "BFloat16", False)],
)
def test_operations_are_counted_where_the_speed_is_known_and_memory_always(
    card: str, precision: str, operations: bool, flux_folders: Mapping[str, Path], asked: list[list[str]]
) -> None:
    with measured(trained(flux_folders, precision), Path("job.yaml"), 2, Card(card, 80), lambda *_: None):
        pass
    assert asked == [["job.yaml", "2", "80", *(["operations"] if operations else [])]]
