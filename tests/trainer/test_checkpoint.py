from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from g2rpo_trainer.checkpoint import (
    BEST,
    LATEST,
    MANIFEST,
    CheckpointStore,
    DamagedCheckpointError,
    TrainState,
    saved_at,
    verified_manifest,
)
from g2rpo_trainer.errors import StorageError

SHARDS = {"a.bin": b"weights" * 100, "deep/b.bin": b"moments" * 50}


def state(iteration: int) -> TrainState:
    return TrainState(iteration=iteration, world_size=1, zero_stage=0, nonfinite_in_a_row=0, versions={"torch": "0"})


def write_shards(folder: Path, name: str) -> None:
    for shard, content in SHARDS.items():
        path = folder / name / shard
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path, keep_last=2, is_writer=True, barrier=lambda: None)


def test_what_was_saved_is_found_whole(store: CheckpointStore) -> None:
    store.save(state(3), write_shards)
    assert store.newest() == ("iter-000003", state(3))
    folder = store.folder / "iter-000003"
    assert {name: (folder / name).read_bytes() for name in SHARDS} == SHARDS


def test_when_it_was_saved_is_known(store: CheckpointStore) -> None:
    before = time.time()
    store.save(state(3), write_shards)
    assert before - 1 <= saved_at(store.folder, 3) <= time.time() + 1


def test_an_empty_folder_has_no_checkpoint(store: CheckpointStore) -> None:
    assert store.newest() is None


def test_the_last_n_are_kept_and_the_pointer_names_the_newest(store: CheckpointStore) -> None:
    for iteration in (9, 10, 100):
        store.save(state(iteration), write_shards)
    names = sorted(path.name for path in store.folder.iterdir())
    assert names == ["iter-000010", "iter-000100", LATEST]
    assert (store.folder / LATEST).read_text() == "iter-000100\n"


def test_the_best_outlives_the_last_n_until_there_is_a_better_one(store: CheckpointStore) -> None:
    for iteration, best in ((1, 1), (2, 1), (3, 1), (4, 1), (5, 5)):
        store.save(state(iteration), write_shards, best)
        assert (store.folder / BEST).read_text() == f"iter-00000{best}\n"
        kept = {path.name for path in store.folder.glob("iter-*")}
        assert kept == {f"iter-00000{i}" for i in {best, max(1, iteration - 1), iteration}}


def test_a_best_one_that_was_lost_is_not_pointed_at(store: CheckpointStore) -> None:
    store.save(state(4), write_shards, 2)
    assert not (store.folder / BEST).exists()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
@pytest.mark.parametrize("file", ["a.bin", "deep/b.bin", MANIFEST])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    store: CheckpointStore, damage: Callable[[Path], None], file: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(state(1), write_shards)
    store.save(state(2), write_shards)
    damage(store.folder / "iter-000002" / file)
    found = store.newest()
    assert found == ("iter-000001", state(1))
    assert "iter-000002 is damaged" in caplog.text


def test_a_manifest_says_which_file_differs(store: CheckpointStore) -> None:
    store.save(state(1), write_shards)
    truncate(store.folder / "iter-000001" / "a.bin")
    with pytest.raises(DamagedCheckpointError, match=r"a\.bin has 699 bytes instead of 700"):
        verified_manifest(store.folder / "iter-000001")


def test_a_writer_that_dies_midway_leaves_the_earlier_checkpoint_and_the_next_save_succeeds(
    store: CheckpointStore,
) -> None:
    class KilledError(Exception):
        pass

    def killed_midway(folder: Path, name: str) -> None:
        (folder / name).mkdir()
        (folder / name / "a.bin").write_bytes(b"half")
        raise KilledError

    store.save(state(1), write_shards)
    with pytest.raises(KilledError):
        store.save(state(2), killed_midway)
    assert store.newest() == ("iter-000001", state(1))
    store.save(state(2), write_shards)
    assert store.newest() == ("iter-000002", state(2))


def test_saving_the_same_iteration_again_replaces_it(store: CheckpointStore) -> None:
    store.save(state(1), write_shards)
    store.save(state(1), write_shards)
    assert store.newest() == ("iter-000001", state(1))


@pytest.mark.parametrize(
    "refusal",
    [
        OSError(28, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/0"),
        RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 4093184 vs 4093076"),
    ],
)
def test_a_full_disk_is_a_storage_error_and_costs_no_earlier_checkpoint(
    store: CheckpointStore, refusal: Exception
) -> None:
    def refused(folder: Path, name: str) -> None:
        raise refusal

    store.save(state(1), write_shards)
    with pytest.raises(StorageError, match="free some space"):
        store.save(state(2), refused)
    assert store.newest() == ("iter-000001", state(1))


def test_ranks_that_do_not_lead_write_shards_and_name_nothing(tmp_path: Path) -> None:
    meetings: list[None] = []
    follower = CheckpointStore(tmp_path, keep_last=1, is_writer=False, barrier=lambda: meetings.append(None))
    follower.save(state(1), write_shards)
    assert [path.name for path in tmp_path.iterdir()] == [".partial-iter-000001"]
    assert len(meetings) == 3
