"""A hub id without a network: what lies in the hub's cache is loaded, what does not is told by its key."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from g2rpo_trainer.miniature.recipe import MODEL_FOLDER

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROGRAM = """
import torch
from g2rpo_api.model import ModelSpec
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.models.loading import find_source

for path in ("org/here", "org/elsewhere"):
    spec = ModelSpec.model_validate({"family": "SD3", "path": path, "train": {"type": "Full"}})
    try:
        source = find_source(spec, torch.device("cpu"))
        print("found", source.folder, type(source.load().transformer).__name__)
    except DataError as error:
        print("told", error)
"""


def test_the_cache_of_the_hub_is_enough(tmp_path: Path) -> None:
    """The layout is the one that huggingface_hub documents: refs name a commit, snapshots hold its files."""
    cached = tmp_path / "hub" / "models--org--here"
    shutil.copytree(MODEL_FOLDER, cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    alone = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu"}
    alone.pop("HF_HUB_CACHE", None)
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=alone, capture_output=True, text=True, check=True, timeout=200)
    found, told = (line for line in done.stdout.splitlines() if line.startswith(("found", "told")))
    assert found == f"found {cached / 'snapshots' / COMMIT} SD3Transformer2DModel"
    assert told.startswith("told spec.training.model.path: no SD3 pipeline could be loaded from org/elsewhere")
