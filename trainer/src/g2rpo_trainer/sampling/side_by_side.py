"""Pictures by the stock pipeline with the base weights and with tuned ones, from the same noise.

Who calls this: `__main__.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from g2rpo_api.model import SamplingSpec
from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.flow.schedule import shifted_grid
from g2rpo_trainer.models.loading import FAMILIES, compute_precision, find_source, usage
from g2rpo_trainer.models.protocol import Family
from g2rpo_trainer.models.source import Precision, Source
from g2rpo_trainer.models.stock import WHOLE, tuned_transformer, without_shift
from g2rpo_trainer.reporting.grids import probe_grid, to_pictures
from g2rpo_trainer.storage import storage_errors

SIDES = ("base", "tuned")
GUTTER = 1 / 16
"""Between the two pictures of a pair, by their width."""


@dataclass(frozen=True)
class Request:
    """What to draw."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    sampling: SamplingSpec

    @classmethod
    def of(
        cls, training: TrainingSpec, prompts: tuple[str, ...], seeds: tuple[int, ...], changes: Mapping[str, int | None]
    ) -> Request:
        """As the job's evaluation draws; `changes` are other `steps`, `height`, `width`, None where there is none."""
        usual = training.sampling.model_copy(update={"steps": training.evaluation.steps or training.sampling.steps})
        given = {name: value for name, value in changes.items() if value is not None}
        return cls(prompts, seeds, usual.model_copy(update=given))

    def starts(self) -> Iterator[tuple[int, str, int]]:
        """Number of the prompt, prompt and seed of each picture, in the order of the grid."""
        return ((i, prompt, seed) for i, prompt in enumerate(self.prompts) for seed in self.seeds)


def draw(training: TrainingSpec, export: Path, request: Request, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pictures by the base model and by the tuned one, each float32 [N, 3, H, W] in [0, 1], on the CPU.

    Raises:
        DataError: the model or the export is missing or damaged, or the model cannot draw that size.
    """
    source = _source(training, device)
    pipeline = source.load_whole()
    sigmas = _sigmas(FAMILIES[training.model.family][0](pipeline, usage(training)), request.sampling)
    without_shift(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    base = _pictures(pipeline, training, request, sigmas)
    try:
        _tune(pipeline, source, export)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{export} cannot be loaded ({error}); delete it and start the run again, which exports"
        ) from error
    return base, _pictures(pipeline, training, request, sigmas)


def _source(training: TrainingSpec, device: torch.device) -> Source:
    """The model, held in what it computes in: nothing is trained here."""
    found, compute = find_source(training.model, device), compute_precision(training.model)
    return Source(found.kind, found.folder, device, Precision(compute, compute))


def _tune(pipeline: Any, source: Source, export: Path) -> None:
    if not (export / WHOLE).is_dir():
        pipeline.load_lora_weights(export)
        return
    pipeline.transformer = None  # two of them may not fit
    pipeline.transformer = tuned_transformer(source, export)


def _sigmas(family: Family, sampling: SamplingSpec) -> list[float]:
    """The job's grid at the wanted number of steps and size, without the 0 at its end."""
    try:
        family.latent_shape(sampling.height, sampling.width)
    except ValueError as error:
        raise DataError(f"--height, --width: {error}") from error
    own = sampling.shift_rule == "Model"
    shift = family.own_shift(sampling.height, sampling.width) if own else sampling.shift
    return list(shifted_grid(sampling.steps, shift).sigmas[:-1])


@torch.no_grad()
def _pictures(pipeline: Any, training: TrainingSpec, request: Request, sigmas: list[float]) -> Tensor:
    sampling = request.sampling
    drawn = [
        pipeline(
            prompt,
            height=sampling.height,
            width=sampling.width,
            sigmas=sigmas,
            guidance_scale=sampling.guidance_scale,
            max_sequence_length=training.model.max_sequence_length,
            generator=torch.Generator().manual_seed(seed),
            output_type="pt",
        ).images.float()
        for _, prompt, seed in request.starts()
    ]
    return torch.cat(drawn).cpu()


def write(pictures: tuple[Tensor, Tensor], request: Request, folder: Path) -> Path:
    """A file per picture, and all pairs in a grid, whose path is returned.

    Raises:
        StorageError: the folder cannot be written.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for side, images in zip(SIDES, pictures, strict=True):
            for (index, _, seed), picture in zip(request.starts(), to_pictures(images), strict=True):
                picture.save(folder / f"{index:03d}-seed{seed}-{side}.png")
    base, tuned = pictures
    gutter = torch.ones_like(base[..., : max(1, round(base.shape[-1] * GUTTER))])
    captions = [f"{prompt} (seed {seed})" for _, prompt, seed in request.starts()]
    probe_grid(torch.cat([base, gutter, tuned], dim=3), captions, folder / "grid.png")
    return folder / "grid.png"
