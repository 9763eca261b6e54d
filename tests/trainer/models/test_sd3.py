"""The family against diffusers' own pipeline, on the shipped miniature."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import Tensor

from g2rpo_trainer.export import export_weights
from g2rpo_trainer.flow.schedule import shifted_grid
from g2rpo_trainer.flow.solver import trajectory
from g2rpo_trainer.miniature.recipe import HEIGHT, MODEL_FOLDER, TEXT_TOKENS, WIDTH
from g2rpo_trainer.models.sd3 import SD3
from g2rpo_trainer.policy import Model, TextCache
from g2rpo_trainer.timing import Counter

PROMPTS = ["the number 4 7", "the number 0 3"]
STEPS = 6


def family(guidance_scale: float = 1.0) -> SD3:
    torch.set_num_threads(1)
    return SD3.load(str(MODEL_FOLDER), torch.device("cpu"), guidance_scale, TEXT_TOKENS)


def model_of(sd3: SD3) -> Model:
    return Model(
        family=sd3,
        forward=sd3.transformer,
        device=torch.device("cpu"),
        latent_shape=sd3.latent_shape(HEIGHT, WIDTH),
        max_batch=2,
        truncate_timestep=False,
        reference=lambda: pytest.fail("no reference is asked for"),
        texts=TextCache(sd3),
        counter=Counter(),
    )


def latents(sd3: SD3) -> Tensor:
    return torch.randn(2, *sd3.latent_shape(HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def ours(sd3: SD3, z: Tensor, shift: float) -> Tensor:
    policy = model_of(sd3).on(PROMPTS)
    return sd3.decode(trajectory(policy.velocity, shifted_grid(STEPS, shift), z, torch.arange(2)).end)


def theirs(z: Tensor, shift: float, guidance_scale: float, transformer: SD3Transformer2DModel | None = None) -> Tensor:
    parts = {} if transformer is None else {"transformer": transformer}
    pipeline = StableDiffusion3Pipeline.from_pretrained(MODEL_FOLDER, **parts)
    pipeline.scheduler.set_shift(shift)
    pipeline.set_progress_bar_config(disable=True)
    pictures = pipeline(
        PROMPTS,
        height=HEIGHT,
        width=WIDTH,
        sigmas=[1 - i / STEPS for i in range(STEPS)],
        guidance_scale=guidance_scale,
        max_sequence_length=TEXT_TOKENS,
        latents=z,
        output_type="pt",
    )
    return pictures.images.float()


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
def test_sampling_draws_the_picture_that_diffusers_draws(shift: float, guidance_scale: float) -> None:
    sd3 = family(guidance_scale)
    z = latents(sd3)
    assert torch.allclose(ours(sd3, z, shift), theirs(z, shift, guidance_scale), atol=1e-4)


def test_guidance_doubles_the_rows() -> None:
    assert (family(1.0).rows_per_call, family(2.0).rows_per_call) == (1, 2)


def test_guidance_is_the_extrapolation_from_the_empty_prompt() -> None:
    guided, plain = family(3.0), family(1.0)
    x, t = latents(plain), torch.tensor([700.0, 300.0])
    with torch.no_grad():
        conditional = plain.velocity(plain.transformer, x, t, plain.encode(PROMPTS))
        empty = plain.velocity(plain.transformer, x, t, plain.encode(["", ""]))
        v = guided.velocity(guided.transformer, x, t, guided.encode(PROMPTS))
    assert torch.allclose(v, empty + 3.0 * (conditional - empty), atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(18, 32), (16, 33)])
def test_a_size_that_the_model_cannot_draw_is_refused_with_what_it_needs(height: int, width: int) -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        family().latent_shape(height, width)


def test_only_the_transformer_can_be_trained() -> None:
    sd3 = family()
    pipeline = sd3._pipeline
    frozen = [pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2, pipeline.text_encoder_3]
    assert not any(p.requires_grad for part in frozen for p in part.parameters())
    assert all(p.requires_grad for p in sd3.transformer.parameters())


def disturb(sd3: SD3) -> None:
    """Stand in for training."""
    noise = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in sd3.transformer.parameters():
            if weight.requires_grad:
                weight += 0.02 * torch.randn(weight.shape, generator=noise)


def test_exported_weights_draw_in_the_stock_pipeline_what_the_trainer_draws(tmp_path: Path) -> None:
    sd3 = family()
    z = latents(sd3)
    disturb(sd3)
    folder = export_weights(sd3, lora=False, folder=tmp_path / "export")
    loaded = SD3Transformer2DModel.from_pretrained(folder / "transformer")
    assert torch.allclose(ours(sd3, z, 1.0), theirs(z, 1.0, 1.0, loaded), atol=1e-4)
    assert not torch.allclose(ours(sd3, z, 1.0), theirs(z, 1.0, 1.0), atol=1e-2)


def test_exported_adapters_draw_in_the_stock_pipeline_what_the_trainer_draws(tmp_path: Path) -> None:
    from peft import LoraConfig

    sd3 = family()
    z = latents(sd3)
    sd3.transformer.requires_grad_(False)
    sd3.transformer.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=list(sd3.lora_targets)))
    disturb(sd3)
    folder = export_weights(sd3, lora=True, folder=tmp_path / "export")
    pipeline = StableDiffusion3Pipeline.from_pretrained(MODEL_FOLDER)
    pipeline.load_lora_weights(folder)
    assert torch.allclose(ours(sd3, z, 1.0), theirs(z, 1.0, 1.0, pipeline.transformer), atol=1e-4)


def test_an_export_replaces_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "old").write_text("")
    export_weights(family(), lora=False, folder=folder)
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    assert [path.name for path in folder.iterdir()] == ["transformer"]
