"""A model folder of a few numbers, in the layout of a diffusers pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "transformer": {"blocks.0.attn.to_q.weight": (8, 6), "blocks.0.attn.to_q.bias": (8,), "proj.weight": (4, 8, 2, 2)},
    "vae": {"decoder.weight": (3, 5)},
    "text_encoder": {"embedding.weight": (7, 4)},
    "text_encoder_2": {"embedding.weight": (7, 2)},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "transformer": {"in_channels": 16, "patch_size": 2},
    "vae": {"block_out_channels": [8, 8, 8, 8], "latent_channels": 16},
    "text_encoder": {},
    "text_encoder_2": {},
}


@pytest.fixture
def model_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a pipeline: VAE factor 8, patch 2, so pictures in multiples of 16 pixels."""

    def write(shapes: dict[str, dict[str, tuple[int, ...]]] = SHAPES) -> Path:
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "model_index.json").write_text('{"_class_name": "StableDiffusion3Pipeline"}', encoding="utf-8")
        for part, tensors in shapes.items():
            (folder / part).mkdir(parents=True)
            (folder / part / "config.json").write_text(json.dumps(CONFIGS[part]), encoding="utf-8")
            arrays = {name: np.zeros(shape, np.float32) for name, shape in tensors.items()}
            save_file(arrays, folder / part / "model.safetensors")
        return folder

    return write
