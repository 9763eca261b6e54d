"""A pipeline's folder, and its parts when they are needed: text encoders for a while, the rest for the run.

Who calls this: `loading.py` (the parts that stay), `texts.py` (the encoders, before them), `stock.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn

SMALL_BYTES = 1 << 20
"""Files up to this size are told apart by what is in them."""
TEXT_PARTS = ("text_encoder", "tokenizer")
"""What the names of the parts begin with that only text goes through."""


@dataclass(frozen=True)
class Precision:
    """In what the weights of a pipeline are held."""

    transformer: torch.dtype
    """The transformer as it is loaded; adapters are float32 in any case."""
    frozen: torch.dtype
    """Text encoders and VAE."""


FLOAT32 = Precision(torch.float32, torch.float32)


@dataclass(frozen=True)
class Source:
    """Where a pipeline comes from and where its parts go."""

    kind: type[DiffusionPipeline]
    folder: Path
    """In diffusers' layout; nothing is read from a network."""
    device: torch.device
    precision: Precision = FLOAT32

    @classmethod
    def find(cls, kind: type[DiffusionPipeline], path: str, device: torch.device, precision: Precision) -> Source:
        """A folder, or the copy of a hub id's files on this machine, which are downloaded where they are missing.

        Raises:
            OSError, ValueError: what diffusers says of a missing part, or a pipeline of another kind.
        """
        folder = Path(path) if Path(path).is_dir() else Path(kind.download(path))
        found = kind.load_config(folder, local_files_only=True)["_class_name"]
        if found != kind.__name__:
            raise ValueError(f"it holds a {found}, not a {kind.__name__}; set spec.training.model.family to what it is")
        return cls(kind, folder, device, precision)

    def load(self, **given: Any) -> Any:
        """The pipeline without what only text goes through, in evaluation mode, nothing but the transformer trainable.

        `given` parts take the place of the folder's.

        Raises:
            OSError, ValueError: what diffusers says of a missing or damaged part.
        """
        return self._pipeline(dict.fromkeys(name for name in self._parts() if name.startswith(TEXT_PARTS)) | given)

    def load_whole(self) -> Any:
        """The pipeline with its text encoders.

        Raises:
            OSError, ValueError: what diffusers says of a missing or damaged part.
        """
        return self._pipeline({})

    @contextmanager
    def text_encoders(self) -> Iterator[Any]:
        """A pipeline of tokenizers and text encoders only; on leaving its weights are given back.

        Raises:
            OSError, ValueError: what diffusers says of a missing or damaged part.
        """
        rest = [name for name in self._parts() if not name.startswith((*TEXT_PARTS, "scheduler"))]
        pipeline = self._pipeline(dict.fromkeys(rest))
        try:
            yield pipeline
        finally:
            for part in _networks(pipeline).values():
                part.to("meta")  # frees the memory even where somebody still holds the network
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def text_identity(self) -> str:
        """A name for what text goes through: another one as soon as a file of it is another one."""
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file() and self._is_text(path)]
        told = [(path.relative_to(self.folder).as_posix(), *_marks(path)) for path in files]
        return hashlib.sha256(json.dumps([told, str(self.precision.frozen)]).encode()).hexdigest()

    def _is_text(self, path: Path) -> bool:
        return path.relative_to(self.folder).parts[0].startswith(TEXT_PARTS)

    def _parts(self) -> list[str]:
        """Names of all parts that the pipeline has, in model_index.json."""
        config = self.kind.load_config(self.folder, local_files_only=True)
        return [name for name, value in config.items() if isinstance(value, list | tuple) and not name.startswith("_")]

    def _pipeline(self, given: Mapping[str, Any]) -> Any:
        """The parts, but for those given as None; weights go from the file to the device in the wanted precision.

        Nothing is held twice in main memory: in the file's own precision the CPU even works in the mapped file.
        """
        dtypes = {"transformer": self.precision.transformer, "default": self.precision.frozen}
        pipeline = self.kind.from_pretrained(
            self.folder, dtype=dtypes, device_map=self.device.type, local_files_only=True, **given
        )
        for name, part in _networks(pipeline).items():
            part.eval()
            part.requires_grad_(name == "transformer")
        return pipeline


def _networks(pipeline: Any) -> dict[str, nn.Module]:
    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


def _marks(path: Path) -> tuple[str | int, ...]:
    """What tells a file from another of its name; large ones are not read, since that takes as long as loading them."""
    real, stat = path.resolve(), path.stat()
    if real.parent.name == "blobs":  # the hub's cache names files by their hash
        return (real.name,)
    if stat.st_size <= SMALL_BYTES:
        return (hashlib.sha256(path.read_bytes()).hexdigest(),)
    return (stat.st_size, stat.st_mtime_ns)
