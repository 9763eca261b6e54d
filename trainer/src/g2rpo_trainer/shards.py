"""Files of a checkpoint: each holds stretches of named parameters, so that any number of ranks can read them.

Who calls this: the engine, which knows what a rank holds. A file is safetensors, without pickled code; what makes
a folder of them whole is the business of `checkpoint`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from g2rpo_trainer.errors import DataError

HEADER = "g2rpo"
"""Key of the file's own header under which what is no tensor stands, as JSON."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive elements of one parameter in row-major order, or of something that has its shape."""

    name: str
    """The parameter's."""
    kind: str
    """What of it: its weight, or a moment of its gradient."""
    start: int
    """Index of the first element in the whole parameter, from 0."""
    values: Tensor
    """Flat [n]; when read into, changed in place."""

    @property
    def key(self) -> str:
        """Its name in the file."""
        return f"{self.name}:{self.kind}:{self.start}"


def write_shard(path: Path, stretches: Iterable[Stretch], header: dict[str, Any]) -> None:
    """Write one file; folders are made.

    Raises:
        OSError: the file system refuses.
    """
    tensors = {stretch.key: stretch.values.detach().cpu().contiguous() for stretch in stretches}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(tensors, {HEADER: json.dumps(header)}))


class Shards:
    """All files of one checkpoint, open for reading."""

    def __init__(self, folder: Path) -> None:
        """Open `folder`/*.safetensors."""
        self._folder = folder
        self._stack = ExitStack()
        self._pieces: dict[tuple[str, str], list[tuple[int, int, Any]]] = {}
        self.headers: list[dict[str, Any]] = []
        """Of every file, in order of their names."""
        for path in sorted(folder.glob("*.safetensors")):
            self._index(self._stack.enter_context(safe_open(path, framework="pt")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _index(self, file: Any) -> None:
        self.headers.append(json.loads(file.metadata()[HEADER]))
        for key in file.keys():  # noqa: SIM118  no mapping
            name, kind, start = key.rsplit(":", 2)
            piece = file.get_slice(key)
            self._pieces.setdefault((name, kind), []).append((int(start), piece.get_shape()[0], piece))

    @torch.no_grad()
    def read(self, into: Stretch) -> None:
        """Fill the stretch's values from whichever files hold its elements.

        Raises:
            DataError: some of its elements are in none.
        """
        end, found = into.start + len(into.values), 0
        for start, count, piece in self._pieces.get((into.name, into.kind), []):
            first, last = max(start, into.start), min(start + count, end)
            if first < last:
                into.values[first - into.start : last - into.start] = piece[first - start : last - start]
                found += last - first
        if found != len(into.values):
            raise DataError(
                f"{self._folder} holds {found} of {len(into.values)} elements of {into.name} ({into.kind}): it was "
                "saved for another model; start a new run"
            )
