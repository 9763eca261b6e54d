"""What a model folder says about itself: parameter shapes and latent geometry, without loading it.

Who calls this: `footprint.py` and `plan.py`, so that `--check` answers without torch. It reads
diffusers' layout: a folder per part, safetensors and a config.json in each.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from g2rpo_trainer.errors import DataError

Shapes = Mapping[str, tuple[int, ...]]
"""Name of a tensor -> its shape."""
HEADER_LENGTH_BYTES = 8
LARGEST_HEADER_BYTES = 100_000_000
"""As in the safetensors library."""
VARIANTS = (".fp16.", ".bf16.", ".non_ema.")
"""Marks of files that hold the same weights once more."""


@dataclass(frozen=True)
class ModelFiles:
    """The parts of a pipeline that matter for memory."""

    transformer: Shapes
    vae_parameters: int
    text_encoder_parameters: int
    latent_channels: int
    vae_factor: int
    """Pixels per latent element, along a side."""
    patch: int
    """Latent elements per token, along a side."""

    def latent_elements(self, height: int, width: int) -> int:
        """Numbers in the latent of a picture of this many pixels."""
        return self.latent_channels * (height // self.vae_factor) * (width // self.vae_factor)

    @property
    def pixel_multiple(self) -> int:
        """Height and width of a picture must be multiples of this."""
        return self.vae_factor * self.patch


def read_model(folder: Path) -> ModelFiles:
    """Read headers and configs of a pipeline in diffusers' layout.

    Raises:
        DataError: a part is missing, is not what it should be, or is cut short; names the file.
    """
    transformer, vae = _config(folder / "transformer"), _config(folder / "vae")
    encoders = sorted(path for path in folder.glob("text_encoder*") if path.is_dir())
    channels = _number(transformer, "in_channels", folder / "transformer")
    patch = _number(transformer, "patch_size", folder / "transformer")
    latent_channels = _number(vae, "latent_channels", folder / "vae")
    return ModelFiles(
        transformer=_shapes(folder / "transformer"),
        vae_parameters=parameters(_shapes(folder / "vae")),
        text_encoder_parameters=sum(parameters(_shapes(path)) for path in encoders),
        latent_channels=latent_channels,
        vae_factor=2 ** (len(vae.get("block_out_channels", [0])) - 1),
        patch=patch * _packed(channels, latent_channels, folder / "transformer"),
    )


def pipeline_class(folder: Path) -> str:
    """What diffusers' class the folder was written by.

    Raises:
        DataError: model_index.json is missing or damaged.
    """
    return str(_config(folder, "model_index.json").get("_class_name"))


def takes_guidance(folder: Path) -> bool:
    """Whether the transformer has an input for guidance.

    Raises:
        DataError: its config.json is missing or damaged.
    """
    return bool(_config(folder / "transformer").get("guidance_embeds"))


def parameters(shapes: Shapes) -> int:
    """Numbers in all tensors."""
    return sum(math.prod(shape) for shape in shapes.values())


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes in a safetensors file, from its header.

    Raises:
        DataError: the file cannot be read, is not a safetensors file, or is shorter than it says.
    """
    try:
        with path.open("rb") as file:
            header_end, header = _read_header(file)
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        data_bytes = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        shapes = {name: tuple(entry["shape"]) for name, entry in tensors.items()}
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a whole safetensors file ({error}); download it again") from error
    size, expected = path.stat().st_size, header_end + data_bytes
    if size < expected:
        raise DataError(f"{path} is cut short: {size} bytes of {expected}; download it again")
    return shapes


def _read_header(file: BinaryIO) -> tuple[int, dict[str, Any]]:
    """Where the header ends, and what it says: a length in 8 bytes, then that much JSON."""
    (length,) = struct.unpack("<Q", file.read(HEADER_LENGTH_BYTES))
    if length > LARGEST_HEADER_BYTES:
        raise ValueError(f"its header would have {length} bytes")
    return HEADER_LENGTH_BYTES + length, json.loads(file.read(length))


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a part, over its shards."""
    files = [path for path in sorted(folder.glob("*.safetensors")) if not any(mark in path.name for mark in VARIANTS)]
    if not files:
        raise DataError(f"{folder} holds no *.safetensors file; give a complete folder in diffusers' layout")
    return {name: shape for path in files for name, shape in tensor_shapes(path).items()}


def _config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    path = folder / name
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; give a folder in diffusers' layout") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise DataError(f"{path} is not a JSON object")
    return config


def _packed(channels: int, latent_channels: int, folder: Path) -> int:
    """Side of the squares of latent elements that come as one (2 for FLUX.1), from the channels that they fill."""
    side = math.isqrt(channels // latent_channels)
    if side < 1 or side**2 * latent_channels != channels:
        raise DataError(
            f"{folder / 'config.json'}: in_channels is {channels}, which squares of the VAE's {latent_channels} latent "
            "channels do not fill; give a text-to-image model, not one that also takes a picture"
        )
    return side


def _number(config: Mapping[str, Any], key: str, folder: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise DataError(f"{folder / 'config.json'}: {key} is {value!r}, not a number above 0")
    return value
