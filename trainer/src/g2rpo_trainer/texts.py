"""Encoded prompts on disk: each text is encoded once, whatever ranks and attempts come after.

Who calls this: build fills the folder before the model is loaded, the policy reads from it. A file is named by
all that its numbers depend on, so that it is never out of date; one that is missing or torn is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.models.loading import FAMILIES, usage
from g2rpo_trainer.models.protocol import Conditioning
from g2rpo_trainer.models.source import Source
from g2rpo_trainer.storage import replace_file, storage_errors

logger = logging.getLogger(__name__)

Encode = Callable[[Sequence[str]], Conditioning]
"""Texts to their rows, in order."""


@dataclass(frozen=True)
class TextCache:
    """A folder with a safetensors file per prompt: the tensors of its row, without the dimension of rows."""

    folder: Path
    identity: str
    """All that decides what a text becomes: the encoders' files, lengths, guidance, precision."""
    encoder: Callable[[], AbstractContextManager[Encode]]
    """Loads the text encoders for as long as it is entered."""
    device: torch.device
    """Where rows are wanted."""

    def fill(self, texts: Iterable[str]) -> int:
        """Encode those that the folder lacks, loading the encoders only if there are any; how many there were.

        They are encoded one by one: in a batch the rounding of a row depends on its neighbours, and another
        attempt has other neighbours.

        Raises:
            StorageError: the folder cannot be written.
        """
        missing = [text for text in dict.fromkeys(texts) if not _is_whole(self._path(text))]
        if not missing:
            return 0
        with storage_errors(self.folder), self.encoder() as encode:
            for text in missing:
                rows = {name: table[0].contiguous().cpu() for name, table in encode([text]).items()}
                path = self._path(text)
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(path, save(rows), f"{socket.gethostname()}-{os.getpid()}")
        return len(missing)

    def conditioning(self, texts: Sequence[str]) -> Conditioning:
        """Rows of these prompts, on the device.

        Raises:
            StorageError: one had to be encoded, and the folder cannot be written.
        """
        if encoded := self.fill(texts):
            logger.warning("%d prompts had to be encoded, which were not in %s or damaged there", encoded, self.folder)
        known = {text: load(self._path(text).read_bytes()) for text in dict.fromkeys(texts)}
        names = known[texts[0]]
        return {name: torch.stack([known[text][name] for text in texts]).to(self.device) for name in names}

    def _path(self, text: str) -> Path:
        key = hashlib.sha256(json.dumps([self.identity, text]).encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.safetensors"


def fill_together(cache: TextCache, wanted: Sequence[str], place: tuple[int, int], barrier: Callable[[], None]) -> None:
    """Encode what the folder lacks, each rank its share; afterwards every rank finds everything.

    Machines may have disks of their own: what others wrote elsewhere is encoded once more here.

    Args:
        cache: of this rank.
        wanted: the same texts on every rank.
        place: rank and number of ranks.
        barrier: waits for every rank.
    """
    rank, size = place
    encoded = cache.fill(wanted[rank::size])
    barrier()
    encoded += cache.fill(wanted)
    logger.info("of %d prompts %d were encoded on rank %d", len(wanted), encoded, rank)


def text_cache(training: TrainingSpec, source: Source, folder: Path) -> TextCache:
    """The job's prompts in a folder, encoded by the encoders of its model."""
    asked, family = usage(training), FAMILIES[training.model.family][0]
    guided = asked.guidance_scale > 1
    identity = [training.model.family, source.text_identity(), asked.max_sequence_length, guided]

    @contextmanager
    def encoder() -> Iterator[Encode]:
        with source.text_encoders() as encoders:
            yield lambda texts: family.encode(encoders, texts, asked)

    return TextCache(folder, json.dumps(identity), encoder, source.device)


def _is_whole(path: Path) -> bool:
    """Whether the file is as long as its header says."""
    try:
        with safe_open(path, "pt"):
            return True
    except (OSError, SafetensorError):
        return False
