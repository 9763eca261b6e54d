from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from g2rpo_api.errors import SpecError
from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import load_job, parse_job
from g2rpo_api.progress import StoppedReport
from g2rpo_trainer.errors import DataError, StorageError
from g2rpo_trainer.journal import IterationRecord, SpentEntry
from g2rpo_trainer.runfolder import RunFolder

SAMPLE = Path(__file__).parents[2] / "manifests" / "samples" / "miniature-g2rpo.yaml"


def job(**training: Any) -> G2RPOJob:
    document = yaml.safe_load(SAMPLE.read_text())
    document["spec"]["training"] |= training
    return parse_job(document)


def record(iteration: int, attempt: int = 1) -> IterationRecord:
    return IterationRecord(
        iteration=iteration,
        time=float(iteration),
        attempt=attempt,
        world_size=1,
        rewards=[],
        evaluation=[],
        advantage=None,
        policy=None,
        groups=0,
        zero_variance_groups=0,
        skipped_groups=0,
        seconds={},
        step_seconds=1.0,
        model_calls=0,
        images=0,
    )


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    opened = RunFolder(tmp_path / "runs" / "miniature-g2rpo")
    opened.open(job())
    return opened


def test_the_job_lies_in_the_folder_with_every_default_spelt_out(folder: RunFolder) -> None:
    written = yaml.safe_load((folder.path / "job.yaml").read_text())
    assert written["spec"]["training"]["safety"] == {"maxNonFiniteSteps": 10}
    assert load_job(folder.path / "job.yaml").spec.training == job().spec.training


def test_a_laptops_folder_is_not_told_about_pods(tmp_path: Path) -> None:
    document = yaml.safe_load(SAMPLE.read_text())
    document["metadata"]["labels"] = {"team": "pictures"}
    document["spec"] |= {"image": "trainer:1", "policy": {"maxRestarts": 9}}
    document["spec"]["workers"] |= {"resourceName": "nvidia.com/gpu", "env": [{"name": "A", "value": "1"}]}
    full = parse_job(document)
    folder = RunFolder(tmp_path / "miniature-g2rpo")
    folder.open(full)
    written = yaml.safe_load((folder.path / "job.yaml").read_text())
    assert set(written) == {"apiVersion", "kind", "metadata", "spec"}
    assert written["metadata"] == {"name": "miniature-g2rpo"}
    assert written["spec"].keys() == {"workers", "training"}
    assert written["spec"]["workers"] == {"nodes": 1, "processesPerNode": 2}
    assert load_job(folder.path / "job.yaml").spec.training == full.spec.training
    folder.open(full)


def test_other_machines_have_the_folders_and_leave_the_job_to_the_first(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "x")
    folder.make()
    folder.make()
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoints", "samples"]


def test_opening_it_again_with_the_same_job_changes_nothing(folder: RunFolder) -> None:
    before = (folder.path / "job.yaml").read_bytes()
    folder.open(job())
    assert (folder.path / "job.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"iterations": 999},
        {"checkpoint": {"everyIterations": 1, "keepLast": 9}},
        {"evaluation": {"everyIterations": 1}},
        {"safety": {"maxNonFiniteSteps": 1}},
        {"stop": {"maxHours": 3.0, "plateau": {}}},
    ],
)
def test_what_does_not_touch_the_numbers_may_change(folder: RunFolder, changes: dict[str, Any]) -> None:
    folder.open(job(**changes))
    assert load_job(folder.path / "job.yaml").spec.training == job(**changes).spec.training


def test_another_training_is_refused_with_both_values_and_the_old_job_stays(folder: RunFolder) -> None:
    before = (folder.path / "job.yaml").read_bytes()
    with pytest.raises(SpecError) as error:
        folder.open(job(seed=5))
    (problem,) = error.value.problems
    assert problem.key == "spec.training.seed"
    assert problem.found == "5"
    assert problem.allowed.startswith("0,")
    assert "metadata.name" in problem.hint
    assert (folder.path / "job.yaml").read_bytes() == before


def test_records_come_back_in_order_and_attempts_count_up(folder: RunFolder) -> None:
    assert folder.next_attempt() == 1
    for iteration in range(4):
        folder.append(record(iteration))
    assert folder.next_attempt() == 2
    assert folder.take_up(2) == [record(0), record(1), record(2)]
    assert folder.records() == [record(0), record(1), record(2)]


def test_what_lost_iterations_took_stays_with_the_last_record_that_is_kept(folder: RunFolder) -> None:
    def spent(iteration: int) -> SpentEntry:
        return SpentEntry(seconds=10.0 * iteration, rank_seconds=20.0 * iteration)

    for iteration in range(6):
        folder.append(record(iteration).model_copy(update={"spent": spent(iteration)}))
    assert [kept.spent for kept in folder.take_up(2)] == [spent(0), spent(1), spent(5)]
    assert [kept.spent for kept in folder.take_up(2)] == [spent(0), spent(1), spent(5)]
    assert [kept.spent for kept in folder.take_up(1)] == [spent(0), spent(5)]
    folder.append(record(3, attempt=2))
    assert folder.next_attempt() == 3


def test_whoever_claims_the_folder_last_writes_and_the_others_learn_of_it(folder: RunFolder) -> None:
    first = folder.claim(3)
    first.check()
    second = folder.claim(3)
    second.check()
    with pytest.raises(StorageError, match=r"attempt 3 on .* writes nothing more"):
        first.check()
    third = RunFolder(folder.path).claim(4)
    for replaced in (first, second):
        with pytest.raises(StorageError, match="taken over by attempt 4"):
            replaced.check()
    third.check()


def test_a_folder_that_went_away_is_nobodys(folder: RunFolder) -> None:
    claim = folder.claim(1)
    (folder.path / "owner").unlink()
    with pytest.raises(StorageError, match="owner"):
        claim.check()


def test_the_last_record_can_be_put_right(folder: RunFolder) -> None:
    for iteration in range(3):
        folder.append(record(iteration))
    amended = record(2).model_copy(update={"stopped": StoppedReport(reason="Requested", message="enough")})
    folder.amend(amended)
    assert folder.records() == [record(0), record(1), amended]


def test_a_line_torn_by_a_kill_is_forgotten(folder: RunFolder) -> None:
    folder.append(record(0))
    with folder.metrics.open("a") as file:
        file.write(record(1).model_dump_json()[:40])
    assert folder.take_up(5) == [record(0)]
    assert folder.metrics.read_text() == record(0).model_dump_json() + "\n"


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(folder: RunFolder) -> None:
    folder.append(record(0))
    with folder.metrics.open("a") as file:
        file.write("{}\n")
    folder.append(record(1))
    with pytest.raises(DataError, match="2"):
        folder.records()


def test_a_folder_that_cannot_be_made_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match="runs"):
        RunFolder(tmp_path / "runs" / "x").open(job())
