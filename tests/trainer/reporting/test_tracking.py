"""What TensorBoard and Weights & Biases are told, read back from the files that their own libraries write."""

from __future__ import annotations

import json
import logging
import math
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from wandb.proto.wandb_internal_pb2 import Record

from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import parse_job
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.journal import IterationRecord
from g2rpo_trainer.monitoring.scalars import evaluation_scalars, scalars
from g2rpo_trainer.monitoring.tracking import Tracking, open_tracking

BLOCK, HEADER = 32768, 7
"""Bytes of the log that W&B writes: blocks, and what stands before each piece of a record in them."""
WHOLE, FIRST, LAST = 1, 2, 4
PROBES = torch.linspace(0, 1, 2 * 3 * 8 * 16).reshape(2, 3, 8, 16)


def job(tracking: dict[str, Any]) -> G2RPOJob:
    return parse_job(
        {
            "apiVersion": "g2rpo.dev/v1alpha1",
            "kind": "G2RPOJob",
            "metadata": {"name": "told"},
            "spec": {
                "training": {
                    "iterations": 8,
                    "model": {"family": "SD3", "path": "builtin:miniature", "train": {"type": "LoRA"}},
                    "prompts": {"path": "builtin:numbers"},
                    "sampling": {"height": 16, "width": 32},
                    "algorithm": {"type": "G2RPO"},
                    "rewards": [{"name": "ocr", "type": "PaddleOCR"}],
                    "tracking": tracking,
                }
            },
        }
    )


BOTH = job({"tensorboard": True, "wandb": {"project": "numbers", "mode": "Offline", "tags": ["a", "b"]}})


@pytest.fixture
def records(make: Any) -> list[IterationRecord]:
    """Nine records, of which 0, 4 and 8 were evaluated."""
    return list(make.rising_run(8, 4))


def attempt(folder: Path, kept: list[IterationRecord], told: list[IterationRecord], end: bool = True) -> Tracking:
    """An attempt that takes up `kept`, tells the rest and ends, or is killed."""
    tracking = open_tracking(BOTH, folder, kept)
    for record in told:
        if record.evaluation:
            tracking.pictures(record.iteration, PROBES)
        tracking.record(record)
    if end:
        tracking.close()
    return tracking


def drawn_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Curves by name, as TensorBoard draws them."""
    reader = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    return {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def synced(folder: Path) -> Iterator[Record]:
    """What `wandb sync` would send, over all attempts, each of which has ended."""
    for path in sorted((folder / "wandb").glob("offline-run-*/run-*.wandb")):
        deadline = time.monotonic() + 60
        while "exit" not in (kinds := [record.WhichOneof("record_type") for record in written(path)]):
            assert time.monotonic() < deadline, f"{path} holds {Counter(kinds)} and no end"
        yield from written(path)


def written(path: Path) -> list[Record]:
    """What W&B's process has written to the file so far; it writes on for a moment when the run has ended."""
    return [Record.FromString(piece) for piece in log_records(path.read_bytes())]


def log_records(content: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log after a header of as many bytes as one of a piece has."""
    position, parts = HEADER, b""
    while position + HEADER <= len(content):
        if BLOCK - position % BLOCK < HEADER:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        piece = content[position + HEADER : position + HEADER + length]
        if len(piece) < length:
            return
        position += HEADER + length
        parts = piece if kind in (WHOLE, FIRST) else parts + piece
        if kind in (WHOLE, LAST):
            yield parts


def history(folder: Path) -> list[dict[str, Any]]:
    """Points by their names, with the step of each."""
    rows = []
    for record in synced(folder):
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            rows.append({name: json.loads(value) for name, value in items.items()})
    return rows


def test_every_number_of_a_record_has_a_name(make: Any) -> None:
    record = make.record(3, evaluation=[make.evaluation(20, unseen=True, reader=make.hits(5, 20))])
    found = scalars(record)
    assert found["rewards/ocr/anchor/mean"] == 0.5
    assert found["rewards/ocr/branch/2/mean"] == 0.4
    assert found["evaluation/unseen/rewards/reader/mean"] == 0.25
    assert found["policy/steps/1/ratio_absdev"] == 0.004
    assert found["seconds/train"] == 0.25
    assert found["model_calls"] == 1000
    assert not found.keys() & {"iteration", "time"}
    assert evaluation_scalars(record).keys() == {name for name in found if name.startswith("evaluation/")}


def test_tensorboard_draws_every_point_once(tmp_path: Path, records: list[IterationRecord]) -> None:
    attempt(tmp_path, [], records)
    curves = drawn_curves(tmp_path)
    assert [step for step, _ in curves["rewards/ocr/anchor/mean"]] == list(range(1, 9))
    for record in records:
        for name, value in scalars(record).items():
            (point,) = (drawn for step, drawn in curves[name] if step == record.iteration)
            assert point == pytest.approx(value, rel=1e-6), name
    reader = EventAccumulator(str(tmp_path / "tensorboard"))
    reader.Reload()
    pictures = {tag: [event.step for event in reader.Images(tag)] for tag in reader.Tags()["images"]}
    assert pictures == {"probes": [0, 4, 8]}


def test_iterations_that_are_computed_again_are_not_drawn_twice(tmp_path: Path, records: list[IterationRecord]) -> None:
    attempt(tmp_path, [], records[:7], end=False)  # told up to 6, killed; the checkpoint is of iteration 4
    attempt(tmp_path, records[:5], records[5:])
    for curve in drawn_curves(tmp_path).values():
        assert max(Counter(step for step, _ in curve).values()) == 1
    assert [step for step, _ in drawn_curves(tmp_path)["policy/loss"]] == list(range(1, 9))


def test_weights_and_biases_is_told_every_point_once(tmp_path: Path, records: list[IterationRecord]) -> None:
    attempt(tmp_path, [], records)
    rows = history(tmp_path)
    assert [row["_step"] for row in rows] == list(range(9))
    for record, row in zip(records, rows, strict=True):
        assert {name: row[name] for name in scalars(record)} == pytest.approx(scalars(record))
    pictures = [row["_step"] for row in rows if any(name.startswith("probes") for name in row)]
    assert pictures == [0, 4, 8]


def test_all_attempts_are_one_run_there_without_doubled_points(tmp_path: Path, records: list[IterationRecord]) -> None:
    attempt(tmp_path, [], records[:7])
    attempt(tmp_path, records[:5], records[5:])
    runs = [record.run for record in synced(tmp_path) if record.WhichOneof("record_type") == "run"]
    assert len({run.run_id for run in runs}) == 1
    assert {(run.project, run.display_name, tuple(run.tags)) for run in runs} == {("numbers", "told", ("a", "b"))}
    assert [row["_step"] for row in history(tmp_path)] == list(range(9))


def test_two_run_folders_are_two_runs_there(tmp_path: Path, records: list[IterationRecord]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        attempt(tmp_path / name, [], records[:1])
    ids = {name: json.loads((tmp_path / name / "wandb" / "g2rpo.json").read_text())["id"] for name in ("a", "b")}
    assert ids["a"] != ids["b"]


def test_a_last_evaluation_of_a_told_iteration_reaches_both(
    tmp_path: Path, records: list[IterationRecord], make: Any
) -> None:
    attempt(tmp_path, [], records[:7])
    tracking = open_tracking(BOTH, tmp_path, records[:7])
    tracking.pictures(6, PROBES)
    tracking.amend(records[6].model_copy(update={"evaluation": [make.evaluation(80, ocr=make.spread(0.75))]}))
    tracking.close()
    assert drawn_curves(tmp_path)["evaluation/eval/rewards/ocr/mean"][-1] == (6, 0.75)
    assert [row["_step"] for row in history(tmp_path)] == list(range(7))
    summaries = [record.summary for record in synced(tmp_path) if record.WhichOneof("record_type") == "summary"]
    told = {item.key or "/".join(item.nested_key): item.value_json for s in summaries for item in s.update}
    assert json.loads(told["evaluation/eval/rewards/ocr/mean"]) == 0.75


def test_numbers_that_are_not_finite_end_nothing(tmp_path: Path, make: Any) -> None:
    record = make.record(1, policy=make.policy(grad_norm=math.nan, loss=math.inf))
    attempt(tmp_path, [], [record])
    assert math.isnan(drawn_curves(tmp_path)["policy/grad_norm"][0][1])
    assert history(tmp_path)[0]["rewards/ocr/anchor/mean"] == 0.5


class Broken:
    """A service that is out of order."""

    def __init__(self) -> None:
        self.asked = 0

    def record(self, record: IterationRecord) -> None:
        self.asked += 1
        raise ConnectionError("no route to host")

    def amend(self, record: IterationRecord) -> None: ...

    def pictures(self, iteration: int, images: Tensor) -> None: ...

    def close(self) -> None:
        raise AssertionError("it was to be left alone")


class Fine(Broken):
    """One that works."""

    def record(self, record: IterationRecord) -> None:
        self.asked += 1

    def close(self) -> None:
        self.asked += 100


def test_a_service_that_fails_is_warned_of_once_and_left_alone(
    records: list[IterationRecord], caplog: pytest.LogCaptureFixture
) -> None:
    broken, fine = Broken(), Fine()
    tracking = Tracking({"spec.a": lambda: broken, "spec.b": lambda: fine})
    with caplog.at_level(logging.WARNING):
        for record in records[:3]:
            tracking.record(record)
        tracking.close()
    assert (broken.asked, fine.asked) == (1, 103)
    assert [entry.getMessage() for entry in caplog.records] == [
        "spec.a: ConnectionError: no route to host; the run goes on without it"
    ]


def test_a_service_that_cannot_be_opened_ends_nothing(
    tmp_path: Path,
    records: list[IterationRecord],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        tracking = open_tracking(job({"tensorboard": True, "wandb": {}}), tmp_path, [])
        tracking.record(records[0])
        tracking.close()
    said = [entry.getMessage() for entry in caplog.records]
    assert len(said) == 2
    assert said[0].startswith("spec.training.tracking.tensorboard: ")
    assert said[1].startswith("spec.training.tracking.wandb: PermissionError: WANDB_API_KEY is not set; ")


@pytest.mark.parametrize(
    ("extra", "tracking"), [("tensorboard", {"tensorboard": True}), ("wandb", {"wandb": {"mode": "Offline"}})]
)
def test_a_library_that_is_not_installed_is_an_error_before_the_first_picture(
    extra: str, tracking: dict[str, Any], tmp_path: Path, hidden: Callable[[str], None]
) -> None:
    hidden(extra)
    with pytest.raises(DataError, match=rf"tracking\.{extra}: .*trainer-{extra}\.txt.*--extras {extra}"):
        open_tracking(job(tracking), tmp_path, [])


def test_nothing_is_asked_for_unless_the_job_does(tmp_path: Path) -> None:
    open_tracking(job({}), tmp_path, []).close()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a library look as if it were not installed."""

    def hide(library: str) -> None:
        loaded = [name for name in sys.modules if name.partition(".")[0] == library]
        for name in [*loaded, f"g2rpo_trainer.monitoring.{library}_sink", "torch.utils.tensorboard"]:
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setitem(sys.modules, library, None)

    return hide
