"""metrics.jsonl read back after anything that may happen to it, and the curve files written from it."""

from __future__ import annotations

import csv
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from g2rpo_trainer.errors import DataError, StorageError
from g2rpo_trainer.journal import IterationRecord
from g2rpo_trainer.reporting.charts import LIGHT, PLACEHOLDERS
from g2rpo_trainer.reporting.curves import read_records, write_curve_csv, write_curve_svg

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"


def lines(records: list[IterationRecord]) -> bytes:
    return b"".join(record.model_dump_json().encode() + b"\n" for record in records)


def test_what_was_written_is_read(make: Any, tmp_path: Path) -> None:
    records = make.rising_run(6, 3)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines(records))
    assert read_records(path) == records


def test_a_line_torn_at_any_byte_costs_that_line_only(make: Any, tmp_path: Path) -> None:
    records = [make.record(0), make.record(1)]
    whole, start = lines(records), len(lines(records[:1]))
    path = tmp_path / "metrics.jsonl"
    for cut in range(start, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert read_records(path) == records[:1], cut
    path.write_bytes(whole[:-1])
    assert read_records(path) == records


def test_a_line_torn_within_a_letter_is_torn(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines([make.record(0)]) + '{"iteration": "ü'.encode()[:-1])
    assert len(read_records(path)) == 1


@pytest.mark.parametrize(("damage", "reason"), [
    (b'{"iteration": 1, "ti\n', "EOF while parsing"),
    (b"\0\0\0\0\n", "expected value"),
    (b'{"iteration": 1}\n', "time: Field required"),
])  # fmt: skip
def test_damage_before_the_end_is_named(make: Any, tmp_path: Path, damage: bytes, reason: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines([make.record(0)]) + damage + lines([make.record(2)]))
    with pytest.raises(DataError, match=rf"metrics.jsonl, line 2: .*{reason}"):
        read_records(path)


def test_a_whole_last_line_that_is_wrong_is_damage_not_a_tear(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines([make.record(0)]) + b'{"iteration": 1}\n')
    with pytest.raises(DataError, match="line 2"):
        read_records(path)


def test_an_unknown_key_is_damage(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    text = make.record(0).model_dump_json()
    path.write_text(text[:-1] + ',"colour":"red"}\n' + text + "\n")
    with pytest.raises(DataError, match="line 1: colour"):
        read_records(path)


def test_blank_lines_and_an_empty_file_hold_nothing(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"")
    assert read_records(path) == []
    path.write_bytes(b"\n" + lines([make.record(0)]) + b"\n")
    assert len(read_records(path)) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metrics\.jsonl: No such file"):
        read_records(tmp_path / "metrics.jsonl")


def test_numbers_that_are_none_survive(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines([make.record(1, policy=make.policy(grad_norm=math.nan, loss=math.inf))]))
    policy = read_records(path)[0].policy
    assert policy is not None
    assert math.isnan(policy.grad_norm)
    assert policy.loss == math.inf


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_every_number(make: Any, tmp_path: Path) -> None:
    records = make.rising_run(20, 10)
    write_curve_csv(records, tmp_path / "curve.csv")
    rows = table(tmp_path / "curve.csv")
    assert [int(row["iteration"]) for row in rows] == list(range(21))
    for row, record in zip(rows, records, strict=True):
        assert float(row["step_seconds"]) == record.step_seconds
        if record.policy and record.rewards[0].anchor:
            assert float(row["ocr.anchor_mean"]) == record.rewards[0].anchor.mean
            assert float(row["ocr.anchor_std"]) == record.rewards[0].anchor.std
            assert float(row["ocr.branch_2_mean"]) == record.rewards[0].branch["2"].mean
            assert float(row["clip_high"]) == record.policy.clip_high
        for evaluation in record.evaluation:
            for name, spread in evaluation.rewards.items():
                assert float(row[f"{name}.{evaluation.split}_mean"]) == spread.mean
    assert rows[5]["reader.eval_mean"] == ""
    assert rows[0]["grad_norm"] == ""


def test_columns_are_the_same_whatever_the_order_of_events(make: Any, tmp_path: Path) -> None:
    write_curve_csv(make.rising_run(), tmp_path / "curve.csv")
    header = (tmp_path / "curve.csv").read_text().splitlines()[0].split(",")
    assert header == [
        "iteration", "time", "clip_low", "clip_high", "ratio_mean", "ratio_std", "grad_norm", "loss", "images",
        "model_calls", "step_seconds", "ocr.anchor_mean", "ocr.anchor_std", "ocr.branch_1_mean", "ocr.branch_2_mean",
        "ocr.eval_mean", "ocr.unseen_mean", "reader.eval_mean", "reader.unseen_mean",
    ]  # fmt: skip


def test_what_is_no_number_is_an_empty_cell(make: Any, tmp_path: Path) -> None:
    write_curve_csv([make.record(1, policy=make.policy(grad_norm=math.nan))], tmp_path / "curve.csv")
    assert table(tmp_path / "curve.csv")[0]["grad_norm"] == ""


@pytest.mark.parametrize("write", [write_curve_csv, write_curve_svg])
def test_files_are_replaced_whole(make: Any, tmp_path: Path, write: Any) -> None:
    path = tmp_path / "curve"
    path.write_text("what was there")
    write(make.rising_run(5, 5), path)
    assert "what was there" not in path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["curve"]


@pytest.mark.parametrize("write", [write_curve_csv, write_curve_svg])
def test_a_folder_that_is_gone_is_a_storage_error(make: Any, tmp_path: Path, write: Any) -> None:
    with pytest.raises(StorageError, match="gone"):
        write([make.record(1)], tmp_path / "gone" / "curve")


def drawn(path: Path, gid: str) -> list[tuple[float, float]]:
    """The points of a curve in the picture: its markers, else the corners of its line."""
    group = next(element for element in ET.parse(path).iter(f"{SVG}g") if element.get("id") == gid)
    markers = [(float(use.get("x", "")), float(use.get("y", ""))) for use in group.iter(f"{SVG}use")]
    paths = [element.get("d", "") for element in group.findall(f"{SVG}path")]
    corners = re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", paths[0]) if paths else []
    return markers or [(float(x), float(y)) for x, y in corners]


def test_the_picture_is_800_by_400_and_needs_nothing_else(make: Any, tmp_path: Path) -> None:
    write_curve_svg(make.rising_run(), tmp_path / "curve.svg")
    root = ET.parse(tmp_path / "curve.svg").getroot()
    assert (root.get("width"), root.get("height"), root.get("viewBox")) == ("800", "400", "0 0 800 400")
    assert not list(root.iter(f"{SVG}text"))
    assert all(element.get(HREF, "#").startswith("#") for element in root.iter())


def test_heights_in_the_picture_are_the_scores(make: Any, tmp_path: Path) -> None:
    """One map from numbers to units must fit both rewards: taken from two points, tried on all others."""
    records = make.rising_run()
    write_curve_svg(records, tmp_path / "curve.svg")
    evaluated = [record for record in records if record.evaluation]
    points = [p for name in ("ocr", "reader") for p in drawn(tmp_path / "curve.svg", f"{name}-eval")]
    data = [(r.iteration, r.evaluation[0].rewards[name].mean) for name in ("ocr", "reader") for r in evaluated]
    assert len(points) == len(data)
    (x0, y0), (x1, y1) = points[0], points[4]
    (i0, v0), (i1, v1) = data[0], data[4]
    for (x, y), (i, v) in zip(points, data, strict=True):
        assert x == pytest.approx(x0 + (x1 - x0) * (i - i0) / (i1 - i0), abs=1e-3)
        assert y == pytest.approx(y0 + (y1 - y0) * (v - v0) / (v1 - v0), abs=1e-3)
    assert y1 < y0, "higher scores are further up"


def test_raw_points_are_all_there(make: Any, tmp_path: Path) -> None:
    write_curve_svg(make.rising_run(), tmp_path / "curve.svg")
    assert len(drawn(tmp_path / "curve.svg", "ocr-raw")) == 40
    assert len(drawn(tmp_path / "curve.svg", "ocr-smooth")) >= 2


def style(path: Path, gid: str) -> str:
    """How the line of a curve is drawn."""
    group = next(element for element in ET.parse(path).iter(f"{SVG}g") if element.get("id") == gid)
    return group.findall(f"{SVG}path")[0].get("style", "")


def test_held_out_rewards_are_dashed_and_trained_ones_are_not(make: Any, tmp_path: Path) -> None:
    write_curve_svg(make.rising_run(), tmp_path / "curve.svg")
    assert "dasharray" in style(tmp_path / "curve.svg", "reader-eval")
    assert "dasharray" not in style(tmp_path / "curve.svg", "ocr-eval")
    assert style(tmp_path / "curve.svg", "ocr-smooth") != style(tmp_path / "curve.svg", "reader-eval")


def test_the_picture_has_a_white_ground_and_real_colours(make: Any, tmp_path: Path) -> None:
    write_curve_svg(make.rising_run(), tmp_path / "curve.svg")
    text = (tmp_path / "curve.svg").read_text()
    ground = re.search(r'<path d="M 0 400 \nL 800 400[^"]*" style="fill: (#\w+)', text)
    assert ground is not None
    assert ground.group(1) == "#ffffff"
    assert LIGHT["s1"] in text
    assert not [color for color in PLACEHOLDERS.values() if color in text]


def test_a_long_run_is_a_small_picture(make: Any, tmp_path: Path) -> None:
    records = [make.record(i, rewards=[make.reward("ocr", (i * 7919 % 1000) / 1000, {})]) for i in range(1, 5000)]
    write_curve_svg(records, tmp_path / "curve.svg")
    assert len(drawn(tmp_path / "curve.svg", "ocr-raw")) == 600
    assert (tmp_path / "curve.svg").stat().st_size < 200_000


def test_the_picture_is_the_same_each_time(make: Any, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        write_curve_svg(make.rising_run(), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_young_run_has_a_picture(make: Any, tmp_path: Path, count: int) -> None:
    write_curve_svg(make.rising_run()[:count], tmp_path / "curve.svg")
    assert ET.parse(tmp_path / "curve.svg").getroot().tag == f"{SVG}svg"
