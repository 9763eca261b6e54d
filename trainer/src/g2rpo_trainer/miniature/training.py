"""How the miniature's weights are made: the VAE first, then transformer and text encoders together.

Who calls this: `__main__.py` and the tests. One process, one thread; the weights depend on the
recipe (and the machine's floating point) alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import AutoencoderKL, StableDiffusion3Pipeline
from torch import Tensor, nn

from g2rpo_trainer.flow import path
from g2rpo_trainer.miniature.components import build_pipeline
from g2rpo_trainer.miniature.glyphs import render_batch
from g2rpo_trainer.miniature.recipe import TEXT_TOKENS, Recipe, Schedule, numbers, prompt

Report = Callable[[str], None]

_TIMESTEPS = 1000
_MAX_GRADIENT_NORM = 1.0
_ENCODE_BATCH = 256
_LINES_PER_STAGE = 10


@dataclass(frozen=True)
class Renders:
    """What is trained on: pictures and the training number that each one shows."""

    images: Tensor
    """float32 [N, 3, 16, 32] in [0, 1]."""
    number: Tensor
    """int64 [N], an index into `texts`."""
    texts: list[str]
    """The prompt of each training number."""


def train(recipe: Recipe, report: Report) -> StableDiffusion3Pipeline:
    """Train the miniature.

    Args:
        recipe: seed, steps and rates.
        report: takes a line of progress.

    Returns:
        The pipeline, in evaluation mode.
    """
    pipeline = build_pipeline(recipe.seed)
    renders = draw(recipe)
    train_vae(pipeline.vae, renders.images, recipe, report)
    latents = standardise(pipeline.vae, renders.images)
    train_flow(pipeline, latents, renders, recipe, report)
    return pipeline


def draw(recipe: Recipe) -> Renders:
    """Render every training number `renders_per_number` times."""
    chosen, _ = numbers()
    index = [i for i in range(len(chosen)) for _ in range(recipe.renders_per_number)]
    images = render_batch([chosen[i] for i in index], random.Random(recipe.seed))
    return Renders(images, torch.tensor(index), [prompt(number) for number in chosen])


def train_vae(vae: AutoencoderKL, images: Tensor, recipe: Recipe, report: Report) -> None:
    """Train the autoencoder in place: mean squared error and a little KL."""
    generator = torch.Generator().manual_seed(recipe.seed)

    def loss() -> Tensor:
        rows = torch.randint(len(images), (recipe.vae.batch,), generator=generator)
        pictures = images[rows] * 2 - 1
        posterior = vae.encode(pictures).latent_dist
        drawn = vae.decode(posterior.sample(generator)).sample
        return (
            nn.functional.mse_loss(drawn, pictures)
            + recipe.kl_weight * posterior.kl().mean() / posterior.mean[0].numel()
        )

    optimise([vae], recipe.vae, loss, partial(_line, report, "vae"))


@torch.no_grad()
def standardise(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Set the scale and shift that give latents mean 0 and deviation 1, and return those latents.

    Args:
        vae: trained; its configuration is changed in place.
        images: float32 [N, 3, H, W] in [0, 1].

    Returns:
        float32 [N, C, h, w].
    """
    means = [vae.encode(part * 2 - 1).latent_dist.mean for part in images.split(_ENCODE_BATCH)]
    latents = torch.cat(means)
    shift, scale = round(latents.mean().item(), 4), round(1 / latents.std().item(), 4)
    vae.register_to_config(shift_factor=shift, scaling_factor=scale)
    return (latents - shift) * scale


def train_flow(
    pipeline: StableDiffusion3Pipeline, latents: Tensor, renders: Renders, recipe: Recipe, report: Report
) -> None:
    """Train transformer and text encoders in place: the velocity noise - data, times even in (0, 1)."""
    generator = torch.Generator().manual_seed(recipe.seed)
    batch = recipe.flow.batch

    def loss() -> Tensor:
        rows = torch.randint(len(latents), (batch,), generator=generator)
        data, number = latents[rows], renders.number[rows]
        noise = torch.randn(data.shape, generator=generator)
        # One time from each of `batch` equal pieces of (0, 1): the same law, less variance.
        time = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
        weight = time.view(-1, 1, 1, 1)
        text, pooled = encode(pipeline, renders.texts)
        velocity = pipeline.transformer(
            hidden_states=path.state_from_ends(data, noise, weight),
            encoder_hidden_states=text[number],
            pooled_projections=pooled[number],
            timestep=time * _TIMESTEPS,
            return_dict=False,
        )[0]
        return nn.functional.mse_loss(velocity, path.velocity_from_ends(data, noise))

    modules = [pipeline.transformer, pipeline.text_encoder, pipeline.text_encoder_2, pipeline.text_encoder_3]
    optimise(modules, recipe.flow, loss, partial(_line, report, "flow"))


def encode(pipeline: StableDiffusion3Pipeline, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Texts as the transformer takes them: float32 [N, 16, 64] and pooled float32 [N, 64]."""
    text, _, pooled, _ = pipeline.encode_prompt(
        texts, None, None, do_classifier_free_guidance=False, max_sequence_length=TEXT_TOKENS
    )
    return text, pooled


def optimise(
    modules: list[nn.Module], schedule: Schedule, loss: Callable[[], Tensor], report: Callable[[int, int, float], None]
) -> None:
    """Minimise a loss over the parameters of some modules, which end in evaluation mode."""
    parameters = [p for module in modules for p in module.train().parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate, schedule))
    for step in range(schedule.steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, _MAX_GRADIENT_NORM)
        optimizer.step()
        scheduler.step()
        report(step + 1, schedule.steps, value.item())
    for module in modules:
        module.eval()


def rate(schedule: Schedule, step: int) -> float:
    """Share of the learning rate at a step: linear up over the warm-up, then half a cosine to 0."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _line(report: Report, stage: str, step: int, steps: int, loss: float) -> None:
    if step % max(1, steps // _LINES_PER_STAGE) == 0 or step == steps:
        report(f"{stage} {step}/{steps} loss {loss:.4f}")
