"""The check-up of jobs with one thing wrong each."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from g2rpo_api.contract import ExitCode
from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import parse_job
from g2rpo_trainer.planning import checks
from g2rpo_trainer.planning.checks import CHECKS, Patient
from g2rpo_trainer.planning.estimates import MemoryEstimate
from g2rpo_trainer.planning.findings import Finding
from g2rpo_trainer.planning.plan import count
from g2rpo_trainer.planning.startup import warn_at_start

GIBI = 2**30


def job(changes: dict[str, Any] | None = None) -> G2RPOJob:
    """A right job on the shipped model; `changes` by dotted path below spec.training."""
    training: dict[str, Any] = {
        "iterations": 100,
        "model": {"family": "SD3", "path": "builtin:miniature", "train": {"type": "Full"}},
        "prompts": {"path": "builtin:numbers", "perIteration": 4},
        "sampling": {"height": 16, "width": 32},
        "algorithm": {"type": "G2RPO", "g2rpo": {"groupSize": 8}},
        "rewards": [{"name": "a", "type": "PaddleOCR"}, {"name": "b", "type": "DdddOCR", "role": "HeldOut"}],
    }
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        target = training
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    return parse_job(
        {
            "apiVersion": "g2rpo.dev/v1alpha1",
            "kind": "G2RPOJob",
            "metadata": {"name": "checked"},
            "spec": {"training": training},
        }
    )


def needs(gibi: float, phase: str = "update") -> MemoryEstimate:
    return MemoryEstimate({"transformer": 0}, {phase: int(gibi * GIBI), "other": 0}, encoding=0)


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(job(), count(job()), needs(10), 80 * GIBI, tmp_path)


def changed(patient: Patient, changes: dict[str, Any]) -> Patient:
    return replace(patient, job=job(changes), plan=count(job(changes)))


def found(patient: Patient) -> list[Finding]:
    return [finding for check in CHECKS for finding in check(patient)]


def trouble(patient: Patient) -> Finding:
    """The one finding that is not OK."""
    (one,) = (finding for finding in found(patient) if finding.level != "OK")
    assert one.remedy, "it says what to do"
    return one


def test_nothing_is_wrong_with_a_right_job(patient: Patient) -> None:
    assert {finding.level for finding in found(patient)} == {"OK"}


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"algorithm.g2rpo.groupSize": 2}, "spec.training.algorithm.g2rpo.groupSize", "2 members"),
        ({"rewards": [{"name": "a", "type": "PaddleOCR"}]}, "spec.training.rewards", "no reward of role HeldOut"),
        ({"tracking": {"wandb": {}}}, "spec.training.tracking.wandb", "WANDB_API_KEY is not set"),
    ],
)
def test_what_is_odd_is_warned_of_with_its_key(
    changes: dict[str, Any], key: str, said: str, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    one = trouble(changed(patient, changes))
    assert (one.level, one.key, one.exit_code) == ("Warning", key, ExitCode.OK)
    assert said in one.reason


def test_a_key_in_the_environment_or_an_offline_run_is_well(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k")
    assert list(checks.tracking(changed(patient, {"tracking": {"wandb": {}}}))) == []
    monkeypatch.delenv("WANDB_API_KEY")
    assert list(checks.tracking(changed(patient, {"tracking": {"wandb": {"mode": "Offline"}}}))) == []


def test_prompt_files_that_are_missing_are_errors_of_data(patient: Patient) -> None:
    one = trouble(changed(patient, {"prompts.path": "nowhere.txt"}))
    assert (one.level, one.key, one.exit_code) == ("Error", "spec.training.prompts.path", ExitCode.MISSING_DATA)
    assert one.remedy.startswith("give a file")


@pytest.mark.parametrize(
    ("gibi", "level"), [(10, "OK"), (67, "OK"), (69, "Warning"), (80, "Warning"), (91, "Warning"), (93, "Error")]
)
def test_memory_is_judged_within_what_the_estimate_may_be_off(gibi: float, level: str, patient: Patient) -> None:
    """15 % to both sides of 80 GiB: 68 and 92."""
    (one,) = checks.memory(replace(patient, estimate=needs(gibi)))
    assert one.level == level
    assert one.exit_code == (ExitCode.INVALID_SPEC if level == "Error" else ExitCode.OK)


@pytest.mark.parametrize(
    ("phase", "knob"),
    [
        ("rollout", "sampling.maxBatch"),
        ("decoding", "sampling.maxDecodeBatch"),
        ("update", "gradientCheckpointing"),
        ("optimizer step", "zeroStage"),
    ],
)
def test_the_remedy_is_for_the_worst_phase(phase: str, knob: str, patient: Patient) -> None:
    (one,) = checks.memory(replace(patient, estimate=needs(100, phase)))
    assert knob in one.remedy


def test_without_a_card_memory_is_told_and_not_judged(patient: Patient) -> None:
    (one,) = checks.memory(replace(patient, estimate=needs(1000), card_bytes=None))
    assert one.level == "OK"
    assert "1000.0 GiB" in one.reason


def test_a_model_of_unknown_size_is_warned_of(patient: Patient) -> None:
    one = trouble(replace(patient, estimate=None))
    assert (one.level, one.key) == ("Warning", "memory of a rank")


def test_a_disk_that_is_too_small_is_an_error_of_storage(patient: Patient) -> None:
    parts = patient.plan.footprint
    assert parts is not None
    one = trouble(replace(patient, plan=replace(patient.plan, footprint=replace(parts, checkpoint=2**60))))
    assert (one.level, one.exit_code) == ("Error", ExitCode.STORAGE)
    assert one.key == str(patient.runs)


def test_the_disk_is_that_of_the_folder_that_will_be_made(patient: Patient, tmp_path: Path) -> None:
    (one,) = checks.disk(replace(patient, runs=tmp_path / "not" / "yet"))
    assert (one.level, one.key) == ("OK", str(tmp_path))


def test_room_is_for_one_checkpoint_more_than_is_kept_and_the_export(patient: Patient) -> None:
    parts = patient.plan.footprint
    assert parts is not None
    rounded = replace(parts, checkpoint=GIBI, trained_parameters=GIBI // 8)
    (one,) = checks.disk(replace(patient, plan=replace(patient.plan, footprint=rounded)))
    assert one.reason.startswith("4.5 GiB"), "3 kept and one being written, and half a GiB of weights"


def test_at_the_start_what_is_odd_goes_to_the_log_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        warn_at_start(job(), tmp_path)
        assert caplog.records == []
        warn_at_start(job({"algorithm.g2rpo.groupSize": 2}), tmp_path)
    (record,) = caplog.records
    assert record.getMessage().startswith("spec.training.algorithm.g2rpo.groupSize: 2 members")
    assert "set it to 4 or more" in record.getMessage()
