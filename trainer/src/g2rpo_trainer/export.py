"""The tuned weights in the layout that diffusers loads, without any of our code, and their model card.

Who calls this: the session, at the end of a run. Full training gives `export/transformer`, for
`from_pretrained` of its class; LoRA gives a file for `pipeline.load_lora_weights`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from g2rpo_trainer.models.protocol import Family
from g2rpo_trainer.storage import replace_file, storage_errors

CARD = "README.md"


def export_weights(family: Family, lora: bool, folder: Path) -> Path:
    """Write the trained weights below `folder`, replacing what an earlier attempt exported.

    Raises:
        StorageError: the disk is full or not writable.
    """
    partial = folder.with_name(f".partial-{folder.name}")
    with storage_errors(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        if lora:
            family.save_lora(partial)
        else:
            family.transformer.save_pretrained(partial / "transformer")  # type: ignore[operator]
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    return folder


def export_card(folder: Path, card: str, pictures: Mapping[str, Path]) -> None:
    """Write the card, and copies of pictures under the names that it calls them by.

    Raises:
        StorageError: the disk is full or not writable.
    """
    with storage_errors(folder):
        for name, path in pictures.items():
            shutil.copyfile(path, folder / name)
        replace_file(folder / CARD, card.encode())
