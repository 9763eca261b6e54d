"""Probe grids: what goes in comes out, at whole-numbered scale, with room for every caption."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from g2rpo_trainer.errors import DataError, StorageError
from g2rpo_trainer.reporting.grids import (
    BACKGROUND,
    GROWN,
    MAX_CAPTION_LINES,
    caption_font,
    plan,
    probe_grid,
    read_grid,
    wrap,
)

WORDS = st.lists(st.text("abcdefgh 的ü", min_size=1, max_size=30), max_size=12).map(" ".join)


@pytest.mark.parametrize("shape", [(1, 8, 8), (5, 16, 32), (8, 16, 32), (16, 32, 16), (2, 300, 200), (3, 1, 1)])
def test_pictures_come_out_as_they_went_in(shape: tuple[int, int, int], tmp_path: Path) -> None:
    count, height, width = shape
    images = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count))
    captions = [f"picture {i}" for i in range(count)]
    probe_grid(images, captions, tmp_path / "grid.png")
    probes = read_grid(tmp_path / "grid.png")
    assert [probe.caption for probe in probes] == captions
    for probe, image in zip(probes, images, strict=True):
        expected = np.rint(image.numpy() * 255).transpose(1, 2, 0)
        assert np.array_equal(np.asarray(probe.picture), expected)


def test_captions_may_be_in_any_language(tmp_path: Path) -> None:
    captions = ["数字 4 7", "emoji 🎈 <b>", ""]
    probe_grid(torch.zeros(3, 3, 8, 8), captions, tmp_path / "grid.png")
    assert [probe.caption for probe in read_grid(tmp_path / "grid.png")] == captions


def test_values_outside_are_clamped_and_nan_is_black(tmp_path: Path) -> None:
    values = torch.tensor([-1.0, 0.0, 0.5, 1.0, 7.0, math.nan, math.inf]).expand(1, 3, 1, 7)
    probe_grid(values, ["x"], tmp_path / "grid.png")
    row = np.asarray(read_grid(tmp_path / "grid.png")[0].picture)[0, :, 0]
    assert row.tolist() == [0, 0, 128, 255, 255, 0, 255]


def test_gradients_and_half_precision_do_not_matter(tmp_path: Path) -> None:
    images = torch.full((1, 3, 4, 4), 0.5, dtype=torch.bfloat16, requires_grad=True)
    probe_grid(images, ["x"], tmp_path / "grid.png")
    assert np.asarray(read_grid(tmp_path / "grid.png")[0].picture).min() == 128


@given(st.integers(1, 16), st.integers(1, 600), st.integers(1, 600), st.lists(WORDS, min_size=16, max_size=16))
def test_nothing_overlaps_and_everything_is_inside(count: int, height: int, width: int, captions: list[str]) -> None:
    layout = plan(count, height, width, captions[:count])
    sheet = layout.size(count)
    boxes = [layout.box(i) for i in range(count)]
    assert layout.scale >= 1
    assert layout.tile == (width * layout.scale, height * layout.scale)
    assert max(layout.tile) <= max(GROWN, height, width)
    for x, y, w, _ in boxes:
        assert 0 <= x <= x + max(w, layout.cell[0]) <= sheet[0]
        assert 0 <= y <= y + layout.cell[1] <= sheet[1]
    cells = {(x // (layout.cell[0] + 12), y // (layout.cell[1] + 12)) for x, y, _, _ in boxes}
    assert len(cells) == count


@given(WORDS, st.integers(160, 400))
def test_captions_fit_their_cell(caption: str, width: int) -> None:
    lines = wrap(caption, width, caption_font())
    assert 1 <= len(lines) <= MAX_CAPTION_LINES
    assert all(caption_font().getlength(line) <= width for line in lines)
    shown = " ".join(lines)
    assert shown == " ".join(caption.split()) or shown.endswith("…") or "…" in shown


def test_captions_are_written_below_their_pictures(tmp_path: Path) -> None:
    probe_grid(torch.ones(2, 3, 16, 16), ["short", ""], tmp_path / "grid.png")
    layout = plan(2, 16, 16, ["short", ""])
    sheet = np.asarray(Image.open(tmp_path / "grid.png").convert("L"))
    inked = []
    for index in range(2):
        x, y, width, height = layout.box(index)
        inked.append(int((sheet[y + height : y + layout.cell[1], x : x + width] < 128).sum()))
    assert inked[0] > 20
    assert inked[1] == 0
    assert BACKGROUND == "white"


@pytest.mark.parametrize(("shape", "captions"), [
    ((0, 3, 8, 8), 0), ((2, 3, 8, 8), 1), ((2, 1, 8, 8), 2), ((3, 8, 8), 3), ((1, 3, 0, 8), 1),
])  # fmt: skip
def test_other_shapes_are_refused(shape: tuple[int, ...], captions: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\[N, 3, H, W\] with N captions"):
        probe_grid(torch.zeros(shape), ["x"] * captions, tmp_path / "grid.png")


def test_the_file_is_replaced_whole(tmp_path: Path) -> None:
    for value in (0.0, 1.0):
        probe_grid(torch.full((1, 3, 4, 4), value), ["x"], tmp_path / "grid.png")
    assert [file.name for file in tmp_path.iterdir()] == ["grid.png"]
    assert np.asarray(read_grid(tmp_path / "grid.png")[0].picture).min() == 255
    with pytest.raises(StorageError, match="gone"):
        probe_grid(torch.zeros(1, 3, 4, 4), ["x"], tmp_path / "gone" / "grid.png")


def test_a_foreign_picture_is_one_probe(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "foreign.png")
    probes = read_grid(tmp_path / "foreign.png")
    assert [(probe.caption, probe.picture.size) for probe in probes] == [("foreign", (20, 10))]


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_torn_picture_is_a_data_error(keep: int, tmp_path: Path) -> None:
    probe_grid(torch.rand(4, 3, 32, 32), ["x"] * 4, tmp_path / "grid.png")
    whole = (tmp_path / "grid.png").read_bytes()
    (tmp_path / "grid.png").write_bytes(whole[:keep])
    with pytest.raises(DataError, match=r"grid\.png cannot be read as a picture"):
        read_grid(tmp_path / "grid.png")
