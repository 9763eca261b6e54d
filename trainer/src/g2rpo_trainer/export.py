"""The tuned weights in the layout that diffusers loads, without any of our code.

Who calls this: the loop's end. Full training gives `export/transformer`, for
`from_pretrained` of its class; LoRA gives a file for `pipeline.load_lora_weights`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from g2rpo_trainer.models.protocol import Family
from g2rpo_trainer.storage import storage_errors


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
