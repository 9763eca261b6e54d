"""Files of stretches: however a parameter was cut when it was written, any other stretch of it can be read."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_trainer.errors import DataError
from g2rpo_trainer.shards import Shards, Stretch, write_shard

LENGTH = 12
WHOLE = torch.arange(LENGTH, dtype=torch.float32)
cuts = st.sets(st.integers(1, LENGTH - 1)).map(lambda points: [0, *sorted(points), LENGTH])


def write(folder: Path, points: list[int], kind: str = "weight") -> None:
    for rank, (start, end) in enumerate(pairwise(points)):
        write_shard(folder / f"rank-{rank:05d}.safetensors", [Stretch("w", kind, start, WHOLE[start:end])], {"r": rank})


@given(written=cuts, read=cuts)
def test_any_stretch_is_read_from_whatever_was_written(
    tmp_path_factory: pytest.TempPathFactory, written: list[int], read: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    write(folder, written)
    with Shards(folder) as shards:
        assert shards.headers == [{"r": rank} for rank in range(len(written) - 1)]
        for start, end in pairwise(read):
            into = Stretch("w", "weight", start, torch.full((end - start,), torch.nan))
            shards.read(into)
            assert torch.equal(into.values, WHOLE[start:end])


def test_reading_into_a_view_changes_what_it_is_a_view_of(tmp_path: Path) -> None:
    write(tmp_path, [0, 5, LENGTH])
    flat = torch.zeros(2 * LENGTH, requires_grad=True)
    with Shards(tmp_path) as shards:
        shards.read(Stretch("w", "weight", 3, flat.detach()[10:14]))
    assert flat.tolist() == [0.0] * 10 + [3.0, 4.0, 5.0, 6.0] + [0.0] * (2 * LENGTH - 14)


def test_names_may_hold_what_separates_them(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.safetensors", [Stretch("odd:name:7", "weight", 0, WHOLE)], {})
    into = Stretch("odd:name:7", "weight", 0, torch.zeros(LENGTH))
    with Shards(tmp_path) as shards:
        shards.read(into)
    assert torch.equal(into.values, WHOLE)


@pytest.mark.parametrize(
    "into",
    [
        Stretch("w", "weight", 6, torch.zeros(LENGTH)),
        Stretch("other", "weight", 0, torch.zeros(LENGTH)),
        Stretch("w", "exp_avg", 0, torch.zeros(LENGTH)),
    ],
)
def test_what_is_not_there_is_told(tmp_path: Path, into: Stretch) -> None:
    write(tmp_path, [0, LENGTH])
    with Shards(tmp_path) as shards, pytest.raises(DataError, match=rf"{into.name} \({into.kind}\).*another model"):
        shards.read(into)


def test_an_empty_share_is_a_file_too(tmp_path: Path) -> None:
    write_shard(tmp_path / "deep" / "a.safetensors", [], {"step": 4})
    with Shards(tmp_path / "deep") as shards:
        assert shards.headers == [{"step": 4}]


def test_nothing_in_a_file_is_code(tmp_path: Path) -> None:
    write(tmp_path, [0, LENGTH])
    content = (tmp_path / "rank-00000.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert len(content) == 8 + length + 4 * LENGTH, "a header, then the numbers"
