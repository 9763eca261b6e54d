"""The pictures of a page: the right ones beside each other, and as they were."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from g2rpo_trainer.reporting.grids import probe_grid
from g2rpo_trainer.reporting.pictures import MAX_MOMENTS, PAIR_PIXELS, data_uri, gallery


def grid(folder: Path, iteration: int, captions: Sequence[str] = ("one", "two"), size: int = 8) -> None:
    """Every picture has its iteration as brightness, the second one a red tint."""
    images = torch.full((len(captions), 3, size, size), iteration / 255)
    images[1:, 0] = 1.0
    probe_grid(images, captions, folder / f"iter-{iteration:06d}.png")


def pixels(uri: str) -> np.ndarray:
    head, _, body = uri.partition(",")
    assert head in {"data:image/png;base64", "data:image/jpeg;base64"}
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


def test_before_and_after_are_the_first_and_the_last(tmp_path: Path) -> None:
    for iteration in (0, 20, 100):
        grid(tmp_path, iteration)
    found = gallery(tmp_path, 100)
    assert (found.first, found.last) == (0, 100)
    assert [pair.caption for pair in found.pairs] == ["one", "two"]
    assert pixels(found.pairs[0].before.uri).max() == 0
    assert (pixels(found.pairs[0].after.uri) == 100).all()
    assert (pixels(found.pairs[1].after.uri)[..., 0] == 255).all()


def test_pictures_say_what_they_are(tmp_path: Path) -> None:
    grid(tmp_path, 0)
    grid(tmp_path, 20)
    pair = gallery(tmp_path, 20).pairs[0]
    assert (pair.before.alt, pair.after.alt) == ("one, before training", "one, after iteration 20")


def test_the_strip_has_a_few_moments_in_order(tmp_path: Path) -> None:
    for iteration in range(0, 200, 10):
        grid(tmp_path, iteration)
    moments = gallery(tmp_path, 190).moments
    iterations = [moment.iteration for moment in moments]
    assert len(moments) == MAX_MOMENTS
    assert (iterations[0], iterations[-1]) == (0, 190)
    assert iterations == sorted(iterations)
    for moment in moments:
        first = moment.pictures[0]
        assert first is not None
        assert (pixels(first.uri) == moment.iteration).all()


def test_pictures_of_a_lost_attempt_are_not_shown(tmp_path: Path) -> None:
    for iteration in (0, 20, 40):
        grid(tmp_path, iteration)
    assert [moment.iteration for moment in gallery(tmp_path, 30).moments] == [0, 20]


def test_one_grid_has_no_after(tmp_path: Path) -> None:
    grid(tmp_path, 0)
    found = gallery(tmp_path, 0)
    assert found.pairs == ()
    assert len(found.moments) == 1


def test_probes_that_changed_are_compared_by_caption(tmp_path: Path) -> None:
    grid(tmp_path, 0, ("one", "two", "three"))
    grid(tmp_path, 20, ("three", "four"))
    found = gallery(tmp_path, 20)
    assert [pair.caption for pair in found.pairs] == ["three"]
    assert found.captions == ("three", "four")
    assert [[picture is not None for picture in moment.pictures] for moment in found.moments] == [
        [True, False], [True, True],
    ]  # fmt: skip


@pytest.mark.parametrize("missing", [True, False])
def test_no_pictures_no_gallery(tmp_path: Path, missing: bool) -> None:
    folder = tmp_path / "samples" if missing else tmp_path
    found = gallery(folder, 10)
    assert (found.pairs, found.moments, found.unreadable) == ((), (), ())


def test_a_torn_grid_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    for iteration in (0, 20):
        grid(tmp_path, iteration)
    (tmp_path / "iter-000010.png").write_bytes((tmp_path / "iter-000000.png").read_bytes()[:60])
    found = gallery(tmp_path, 20)
    assert [moment.iteration for moment in found.moments] == [0, 20]
    assert len(found.unreadable) == 1
    assert "iter-000010.png" in found.unreadable[0]


def test_other_files_do_not_disturb(tmp_path: Path) -> None:
    grid(tmp_path, 0)
    (tmp_path / "notes.png").write_text("no picture")
    (tmp_path / ".iter-000020.png.partial").write_text("half")
    assert gallery(tmp_path, 99).unreadable == ()


def test_small_pictures_are_lossless_and_large_ones_shrink() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    assert (pixels(data_uri(Image.fromarray(noise), PAIR_PIXELS)) == noise).all()
    large = Image.fromarray(np.full((1024, 2048, 3), 90, dtype=np.uint8))
    shrunk = pixels(data_uri(large, PAIR_PIXELS))
    assert shrunk.shape == (PAIR_PIXELS // 2, PAIR_PIXELS, 3)
    assert np.abs(shrunk.astype(int) - 90).max() <= 2
    assert large.size == (2048, 1024)


def test_tiny_pictures_are_enlarged_pixel_by_pixel(tmp_path: Path) -> None:
    for iteration in (0, 10):
        grid(tmp_path, iteration, size=16)
    assert gallery(tmp_path, 10).pairs[0].after.pixelated
    for iteration in (0, 10):
        grid(tmp_path, iteration, size=512)
    assert not gallery(tmp_path, 10).pairs[0].after.pixelated
