"""The model that a job names: which class loads it, in what precision, and which of its weights are trained.

Who calls this: `build.py` and `sampling`. What a family is stands in its own file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import DiffusionPipeline, FluxPipeline, StableDiffusion3Pipeline
from peft import LoraConfig

from g2rpo_api.model import ModelSpec
from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.models.flux1 import Flux1
from g2rpo_trainer.models.protocol import Family, Usage
from g2rpo_trainer.models.sd3 import SD3
from g2rpo_trainer.models.source import FLOAT32, Precision, Source
from g2rpo_trainer.models.speed import compile_blocks, use_attention
from g2rpo_trainer.resources import resolve

FAMILIES: dict[str, tuple[type[Family], type[DiffusionPipeline]]] = {
    "SD3": (SD3, StableDiffusion3Pipeline),
    "Flux1": (Flux1, FluxPipeline),
}
"""The class of each `family` of a job, and diffusers' class of its pipelines."""


def find_source(spec: ModelSpec, device: torch.device) -> Source:
    """The folder of a job's model.

    Raises:
        DataError: there is none, or it is of another family.
    """
    with _told_by_key(spec):
        return Source.find(FAMILIES[spec.family][1], resolve(spec.path), device, weight_precision(spec))


def usage(training: TrainingSpec) -> Usage:
    """What the job asks of its model."""
    sampling = training.sampling
    return Usage(sampling.guidance_scale, training.model.max_sequence_length, sampling.vae_tiling_above_pixels)


def load_family(training: TrainingSpec, source: Source) -> Family:
    """Load the model and say which of its weights are trained.

    Raises:
        DataError: the model is missing or damaged, or does not fit the job.
    """
    spec = training.model
    with _told_by_key(spec):
        pipeline = source.load()
    family = trainable(training, pipeline)
    use_attention(family.transformer, spec.attention, source.device, compute_precision(spec))
    if spec.compile:
        compile_blocks(family.transformer)
    return family


def trainable(training: TrainingSpec, pipeline: Any) -> Family:
    """A pipeline's family, with gradients for the weights that the job trains.

    Raises:
        DataError: the model does not fit the job.
    """
    spec = training.model
    family = FAMILIES[spec.family][0](pipeline, usage(training))
    _select_trained_weights(family, spec, training.seed)
    if spec.gradient_checkpointing:
        family.transformer.enable_gradient_checkpointing()  # type: ignore[operator]
    return family


@contextmanager
def _told_by_key(spec: ModelSpec) -> Iterator[None]:
    """What diffusers says of a folder, with the key that named it."""
    try:
        yield
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise DataError(
            f"spec.training.model.path: no {spec.family} pipeline could be loaded from {spec.path}: {error}\n"
            "  give a hub id, or a folder in diffusers' layout (model_index.json and a folder per part)"
        ) from error


def weight_precision(spec: ModelSpec) -> Precision:
    """In what weights are held: those that are trained in float32, the others as the job says."""
    if spec.precision == "Float32":
        return FLOAT32
    return Precision(torch.float32 if spec.train.lora is None else torch.bfloat16, torch.bfloat16)


def compute_precision(spec: ModelSpec) -> torch.dtype:
    """In what the transformer computes."""
    return torch.float32 if spec.precision == "Float32" else torch.bfloat16


def _select_trained_weights(family: Family, spec: ModelSpec, seed: int) -> None:
    if spec.train.lora is None:
        family.transformer.requires_grad_(True)
        return
    lora = spec.train.lora
    family.transformer.requires_grad_(False)
    torch.manual_seed(seed)  # peft draws the adapters' first factor; every rank and attempt the same
    targets = list(lora.target_modules or family.lora_targets)
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets)
    try:
        family.transformer.add_adapter(config)  # type: ignore[operator]
    except ValueError as error:
        raise DataError(f"spec.training.model.train.lora.targetModules: {error}") from error
    for weight in family.transformer.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()  # adapters come in the precision of the layer that they adapt
