"""A job's model without its weights: the real classes and the family's own code, on tensors that are sizes only.

Who calls this: `memory.py` and `work.py`. It is built from the configurations in a model folder, or from
what is public about a hub id; nothing is downloaded.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel, SD3Transformer2DModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from g2rpo_api.model import ModelSpec
from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.models.loading import FAMILIES, compute_precision, trainable, weight_precision
from g2rpo_trainer.models.protocol import Family
from g2rpo_trainer.planning.dryrun import fake
from g2rpo_trainer.planning.model_files import ModelFiles, read_model
from g2rpo_trainer.planning.published import PUBLISHED, Published
from g2rpo_trainer.resources import resolve

TRANSFORMERS: Mapping[str, Any] = {"SD3": SD3Transformer2DModel, "Flux1": FluxTransformer2DModel}


@dataclass(frozen=True)
class Sketch:
    """A model of sizes only. Its methods are called inside `mode`."""

    training: TrainingSpec
    family: Family
    files: ModelFiles
    clip_tokens: int
    """Tokens that a CLIP sees of a prompt."""
    mode: FakeTensorMode
    """Inside, tensors have sizes and no numbers."""

    def forward_backward(self, rows: int) -> None:
        """The update's computation for rows of one chunk."""
        self._velocity(rows).square().mean().backward()

    def forward(self, rows: int) -> None:
        """The rollout's computation for rows of one batch."""
        with torch.no_grad():
            self._velocity(rows)

    def decode(self, pictures: int) -> None:
        """Latents of one batch to pictures."""
        self.family.decode(torch.empty(pictures, *self._latent_shape()))

    def weights(self) -> list[Tensor]:
        """All that is there before a computation, gradients included."""
        networks: list[nn.Module] = [self.family.transformer, self.family.pipeline.vae]
        held = [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
        return held + [tensor.grad for tensor in held if tensor.grad is not None]

    def _velocity(self, rows: int) -> Tensor:
        x = torch.empty(rows, *self._latent_shape())
        return self.family.velocity(self._forward, x, torch.empty(rows), self._conditioning(rows))

    def _forward(self, **inputs: Any) -> Any:
        dtype = compute_precision(self.training.model)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16, cache_enabled=False):
            return self.family.transformer(**inputs)

    def _latent_shape(self) -> tuple[int, ...]:
        sampling = self.training.sampling
        return self.family.latent_shape(sampling.height, sampling.width)

    def _conditioning(self, rows: int) -> dict[str, Tensor]:
        model: ModelSpec = self.training.model
        config: Any = self.family.transformer.config
        clip = self.clip_tokens if model.family == "SD3" else 0
        dtype = weight_precision(model).frozen
        tokens = torch.empty(rows, clip + model.max_sequence_length, config.joint_attention_dim, dtype=dtype)
        pooled = torch.empty(rows, config.pooled_projection_dim, dtype=dtype)
        return {"tokens": tokens, "pooled": pooled, "empty_tokens": tokens, "empty_pooled": pooled}


def sketch(training: TrainingSpec) -> Sketch | None:
    """The job's model; None where it is a hub id of which nothing is known here.

    Raises:
        DataError: a folder that is not what it should be.
    """
    published = _known(training)
    if published is None:
        return None
    precision = weight_precision(training.model)
    with torch.device("meta"):
        with _default_dtype(precision.transformer):
            transformer = TRANSFORMERS[training.model.family].from_config(dict(published.transformer)).eval()
        with _default_dtype(precision.frozen):
            vae = AutoencoderKL.from_config(dict(published.vae)).eval().requires_grad_(False)
    files = _files(training, published, transformer, vae)
    kind = FAMILIES[training.model.family][1]
    parts = {"transformer": transformer, "vae": vae, "scheduler": FlowMatchEulerDiscreteScheduler()}
    others = dict.fromkeys(name for name in inspect.signature(kind).parameters if name not in parts)
    family = trainable(training, kind(**parts, **others))
    mode = FakeTensorMode()
    with mode:
        fake(transformer)
        fake(vae)
    return Sketch(training, family, files, published.clip_tokens, mode)


def _known(training: TrainingSpec) -> Published | None:
    """The configurations of a folder, or of a hub id that is known here."""
    folder = Path(resolve(training.model.path))
    if not folder.is_dir():
        return PUBLISHED.get(training.model.path)
    tokenizer = folder / "tokenizer" / "tokenizer_config.json"
    length = json.loads(tokenizer.read_text())["model_max_length"] if tokenizer.is_file() else 0
    configs = [json.loads((folder / part / "config.json").read_text()) for part in ("transformer", "vae")]
    return Published(configs[0], configs[1], read_model(folder).text_encoder_parameters, length)


def _files(training: TrainingSpec, published: Published, transformer: nn.Module, vae: nn.Module) -> ModelFiles:
    """What the folder says, or would say if it were here."""
    folder = Path(resolve(training.model.path))
    if folder.is_dir():
        return read_model(folder)
    return ModelFiles(
        transformer={name: tuple(weight.shape) for name, weight in transformer.state_dict().items()},
        vae_parameters=sum(weight.numel() for weight in vae.parameters()),
        text_encoder_parameters=published.text_encoder_parameters,
        latent_channels=published.vae["latent_channels"],
        vae_factor=2 ** (len(published.vae["block_out_channels"]) - 1),
        patch=2,
    )


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
