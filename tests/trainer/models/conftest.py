"""Families on small pipelines of the real classes, and pictures as the trainer and as diffusers draw them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, SD3Transformer2DModel
from torch import Tensor

from g2rpo_trainer.flow.schedule import shifted_grid
from g2rpo_trainer.flow.solver import trajectory
from g2rpo_trainer.miniature.components import build_pipeline
from g2rpo_trainer.miniature.recipe import MODEL_FOLDER, TRANSFORMER
from g2rpo_trainer.models.loading import FAMILIES
from g2rpo_trainer.models.protocol import NEVER, Conditioning, Family, Forward, Usage
from g2rpo_trainer.models.source import FLOAT32, Precision, Source
from g2rpo_trainer.policy import BoundPolicy, Model
from g2rpo_trainer.timing import Counter

PROMPTS = ("the number 4 7", "the number 0 3")
STEPS = 4
TOKENS = 8
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A family on a model in a folder, and how diffusers is asked for the same."""

    family: str
    folder: Path
    guidance: float
    size: tuple[int, int]
    """Height and width that it draws, in pixels."""
    multiple: int

    @property
    def usage(self) -> Usage:
        """Without tiling."""
        return Usage(self.guidance, TOKENS, NEVER)

    def source(self, precision: Precision = FLOAT32) -> Source:
        """The folder as the trainer finds it."""
        return Source.find(FAMILIES[self.family][1], str(self.folder), CPU, precision)

    def load(self, precision: Precision = FLOAT32) -> Any:
        """The family."""
        torch.set_num_threads(1)
        return FAMILIES[self.family][0](self.source(precision).load(), self.usage)

    def encoded(self, texts: Sequence[str] = PROMPTS, precision: Precision = FLOAT32) -> Conditioning:
        """Rows of texts, each encoded alone as the trainer does."""
        with self.source(precision).text_encoders() as encoders:
            rows = [FAMILIES[self.family][0].encode(encoders, [text], self.usage) for text in texts]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

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
        packed = pipeline._pack_latents(z, *z.shape) if self.family == "Flux1" else z
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


def policy_of(family: Family, z: Tensor, conditioning: Conditioning, forward: Forward | None = None) -> BoundPolicy:
    """A family as the trainer uses it."""
    model = Model(
        family=family,
        forward=forward or family.transformer,
        device=CPU,
        latent_shape=tuple(z.shape[1:]),
        max_batch=2,
        truncate_timestep=False,
        reference=lambda: pytest.fail("no reference is asked for"),
        texts=pytest.fail,
        counter=Counter(),
    )
    return BoundPolicy(model, conditioning)


@torch.no_grad()
def drawn(
    family: Family, z: Tensor, conditioning: Conditioning, shift: float, forward: Forward | None = None
) -> Tensor:
    """Pictures as the trainer draws them."""
    policy = policy_of(family, z, conditioning, forward)
    return family.decode(trajectory(policy.velocity, shifted_grid(STEPS, shift), z, torch.arange(len(PROMPTS))).end)


@pytest.fixture(scope="session")
def dual_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD3.5-medium with random weights: pictures attend to themselves once more in all blocks but the last."""
    folder = tmp_path_factory.mktemp("dual")
    pipeline = build_pipeline(seed=3)
    dual = tuple(range(TRANSFORMER["num_layers"] - 1))
    pipeline.transformer = SD3Transformer2DModel(**TRANSFORMER | {"dual_attention_layers": dual})
    torch.nn.init.normal_(pipeline.transformer.proj_out.weight, std=0.5)
    pipeline.vae.register_to_config(shift_factor=0.0, scaling_factor=1.0)
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def cases(flux_folders: Mapping[str, Path], dual_folder: Path) -> Mapping[str, Case]:
    """A case per family and way of guidance, by name."""
    return {
        "SD3": Case("SD3", MODEL_FOLDER, 1.0, (16, 32), 4),
        "SD3 guided": Case("SD3", MODEL_FOLDER, 2.5, (16, 32), 4),
        "SD3.5-medium": Case("SD3", dual_folder, 2.5, (16, 32), 4),
        "FLUX.1-dev": Case("Flux1", flux_folders["dev"], 3.5, (24, 16), 4),
        "FLUX.1-schnell": Case("Flux1", flux_folders["schnell"], 1.0, (24, 16), 4),
    }


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    """`drawn`."""
    return drawn


@pytest.fixture
def prompts() -> Sequence[str]:
    """Two prompts."""
    return PROMPTS
