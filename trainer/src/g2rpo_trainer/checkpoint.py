"""Checkpoints: written aside, synced, summed, then named in one step; a damaged one is passed over.

Who calls this: the loop saves, build resumes. What is inside the shards is the engine's business;
here they are files with a size and a SHA-256.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from g2rpo_trainer.storage import replace_file, storage_errors, sync, sync_folder

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
LATEST = "latest"
"""File with the name of the newest checkpoint, for people and tools."""
BEST = "best"
"""The same of the one whose evaluation was best, where it is kept."""


class TrainState(BaseModel):
    """What a run is, besides weights and optimizer: all randomness is a function of seed and iteration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    iteration: int
    """Iterations that are done."""
    world_size: int
    zero_stage: int
    nonfinite_in_a_row: int
    versions: dict[str, str]
    """Libraries that wrote it."""


class ShardFile(BaseModel):
    """One file of a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """Everything that makes a checkpoint whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: TrainState
    files: list[ShardFile]


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of a run, in a folder that all ranks see."""

    folder: Path
    keep_last: int
    is_writer: bool
    """Rank 0 names and deletes; every rank writes its shards."""
    barrier: Callable[[], None]

    def save(self, state: TrainState, write_shards: Callable[[Path, str], None], best: int | None = None) -> None:
        """Write a checkpoint; `write_shards(folder, name)` puts this rank's files below folder/name.

        The checkpoint of iteration `best` outlives the number that is kept.

        Raises:
            StorageError: the disk is full or not writable; earlier checkpoints are untouched.
        """
        name = name_of(state.iteration)
        partial = self.folder / f".partial-{name}"
        with storage_errors(self.folder):
            if self.is_writer:
                shutil.rmtree(partial, ignore_errors=True)
            self.barrier()
            write_shards(self.folder, partial.name)
            self.barrier()
            if self.is_writer:
                self._publish(partial, name, state)
                self._delete_old(best)
            self.barrier()

    def newest(self) -> tuple[str, TrainState] | None:
        """Name and state of the newest checkpoint that is whole; damaged ones are warned about."""
        whole = ((folder.name, state) for folder in reversed(self._complete()) if (state := _state_of(folder)))
        return next(whole, None)

    def whole(self, iteration: int) -> bool:
        """Whether the iteration's checkpoint is there and whole; a damaged one is warned about."""
        folder = self.folder / name_of(iteration)
        return folder.is_dir() and _state_of(folder) is not None

    def _publish(self, partial: Path, name: str, state: TrainState) -> None:
        files = [_summed(path, partial) for path in sorted(partial.rglob("*")) if path.is_file()]
        replace_file(partial / MANIFEST, Manifest(state=state, files=files).model_dump_json(indent=1).encode())
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        partial.replace(target)
        sync_folder(self.folder)
        replace_file(self.folder / LATEST, f"{name}\n".encode())

    def _delete_old(self, best: int | None) -> None:
        kept = None if best is None else self.folder / name_of(best)
        if kept is not None and kept.is_dir():
            replace_file(self.folder / BEST, f"{kept.name}\n".encode())
        for old in self._complete()[: -self.keep_last]:
            if old != kept:
                shutil.rmtree(old)

    def _complete(self) -> list[Path]:
        return sorted(self.folder.glob("iter-*"))


def name_of(iteration: int) -> str:
    """Folder of an iteration's checkpoint; names sort as iterations do."""
    return f"iter-{iteration:06d}"


def saved_at(folder: Path, iteration: int) -> float:
    """Unix seconds at which the iteration's checkpoint in the folder of checkpoints was saved."""
    return (folder / name_of(iteration) / MANIFEST).stat().st_mtime


class DamagedCheckpointError(Exception):
    """A checkpoint is not what its manifest says."""


def _state_of(folder: Path) -> TrainState | None:
    """What was saved there; None, and a warning, where it is damaged."""
    try:
        return verified_manifest(folder).state
    except DamagedCheckpointError as error:
        logger.warning("checkpoint %s is damaged and passed over: %s", folder, error)
        return None


def verified_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint folder after every file was read back.

    Raises:
        DamagedCheckpointError: the manifest is missing or unreadable, or a file is missing or differs.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise DamagedCheckpointError(f"its {MANIFEST} cannot be read ({type(error).__name__})") from error
    for file in manifest.files:
        path = folder / file.path
        size = path.stat().st_size if path.is_file() else None
        if size != file.size:
            raise DamagedCheckpointError(f"{file.path} has {size} bytes instead of {file.size}")
        if _sha256(path) != file.sha256:
            raise DamagedCheckpointError(f"{file.path} does not have the bytes that were written")
    return manifest


def _summed(path: Path, root: Path) -> ShardFile:
    with path.open("rb") as file:
        sync(file.fileno())
    return ShardFile(path=str(path.relative_to(root)), size=path.stat().st_size, sha256=_sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
