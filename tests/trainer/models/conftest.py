"""Families on small pipelines of the real classes, and pictures as the trainer and as diffusers draw them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from g2rpo_trainer.flow.schedule import shifted_grid
from g2rpo_trainer.flow.solver import trajectory
from g2rpo_trainer.miniature.recipe import MODEL_FOLDER
from g2rpo_trainer.models.flux1 import Flux1
from g2rpo_trainer.models.parts import FLOAT32, Precision
from g2rpo_trainer.models.protocol import Family, Forward
from g2rpo_trainer.models.sd3 import SD3
from g2rpo_trainer.policy import Model, TextCache
from g2rpo_trainer.timing import Counter

PROMPTS = ("the number 4 7", "the number 0 3")
STEPS = 4
TOKENS = 8
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A family on a model in a folder, and how diffusers is asked for the same."""

    kind: type[SD3] | type[Flux1]
    folder: Path
    guidance: float
    size: tuple[int, int]
    """Height and width that it draws, in pixels."""
    multiple: int

    def load(self, precision: Precision = FLOAT32) -> Any:
        """The family."""
        torch.set_num_threads(1)
        return self.kind.load(str(self.folder), CPU, self.guidance, TOKENS, precision)

    def stock(self) -> Any:
        """The pipeline without our code."""
        pipeline = DiffusionPipeline.from_pretrained(self.folder, local_files_only=True)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def latents(self, size: tuple[int, int] | None = None) -> Tensor:
        """Noise for each prompt."""
        shape = self.load().latent_shape(*(size or self.size))
        return torch.randn(len(PROMPTS), *shape, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def theirs(self, pipeline: Any, z: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Pictures as diffusers draws them; the pipeline's scheduler shifts the grid."""
        height, width = size or self.size
        packed = pipeline._pack_latents(z, *z.shape) if self.kind is Flux1 else z
        return pipeline(
            list(PROMPTS),
            height=height,
            width=width,
            sigmas=[1 - i / STEPS for i in range(STEPS)],
            guidance_scale=self.guidance,
            max_sequence_length=TOKENS,
            latents=packed,
            output_type="pt",
        ).images.float()


def model_of(family: Family, z: Tensor, forward: Forward | None = None) -> Model:
    """A family as the trainer uses it."""
    return Model(
        family=family,
        forward=forward or family.transformer,
        device=CPU,
        latent_shape=tuple(z.shape[1:]),
        max_batch=2,
        truncate_timestep=False,
        reference=lambda: pytest.fail("no reference is asked for"),
        texts=TextCache(family),
        counter=Counter(),
    )


@torch.no_grad()
def drawn(family: Family, z: Tensor, shift: float, forward: Forward | None = None) -> Tensor:
    """Pictures as the trainer draws them."""
    policy = model_of(family, z, forward).on(PROMPTS)
    return family.decode(trajectory(policy.velocity, shifted_grid(STEPS, shift), z, torch.arange(len(PROMPTS))).end)


@pytest.fixture(scope="session")
def cases(flux_folders: Mapping[str, Path]) -> Mapping[str, Case]:
    """A case per family and way of guidance, by name."""
    return {
        "SD3": Case(SD3, MODEL_FOLDER, 1.0, (16, 32), 4),
        "SD3 guided": Case(SD3, MODEL_FOLDER, 2.5, (16, 32), 4),
        "FLUX.1-dev": Case(Flux1, flux_folders["dev"], 3.5, (24, 16), 4),
        "FLUX.1-schnell": Case(Flux1, flux_folders["schnell"], 1.0, (24, 16), 4),
    }


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    """`drawn`."""
    return drawn


@pytest.fixture
def prompts() -> Sequence[str]:
    """Two prompts."""
    return PROMPTS
