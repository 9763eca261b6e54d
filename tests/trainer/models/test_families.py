"""What every family keeps to, against diffusers' own pipelines of the same weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor

from g2rpo_trainer.export import export_weights

NAMES = ["SD3", "SD3 guided", "SD3.5-medium", "FLUX.1-dev", "FLUX.1-schnell"]
Draw = Callable[..., Tensor]
CLOSE = 1e-4
"""Of pictures in [0, 1]; the last digits depend on the order of sums."""

pytestmark = pytest.mark.parametrize("name", NAMES)


def adapt(family: Any) -> None:
    """Train adapters only."""
    family.transformer.requires_grad_(False)
    family.transformer.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=list(family.lora_targets)))


def disturb(family: Any) -> None:
    """Stand in for training."""
    noise = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in family.transformer.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn(weight.shape, generator=noise)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_sampling_draws_the_picture_that_diffusers_draws(
    name: str, shift: float, cases: Mapping[str, Any], draw: Draw
) -> None:
    case = cases[name]
    z, pipeline = case.latents(), case.stock()
    pipeline.scheduler.set_shift(shift)
    assert torch.allclose(draw(case.load(), z, case.encoded(), shift), case.theirs(pipeline, z), atol=CLOSE)


def test_each_prompt_has_a_picture_of_its_own(name: str, cases: Mapping[str, Any], draw: Draw) -> None:
    case = cases[name]
    z = case.latents()[:1].expand(2, -1, -1, -1)
    pictures = draw(case.load(), z, case.encoded(), 3.0)
    assert pictures.shape == (2, 3, *case.size)
    assert (pictures[0] - pictures[1]).abs().max() > 1e-3


def test_a_size_that_the_model_cannot_draw_is_refused_with_what_it_needs(name: str, cases: Mapping[str, Any]) -> None:
    case = cases[name]
    for height, width in ((18, 32), (16, 33)):
        with pytest.raises(ValueError, match=f"multiples of {case.multiple}"):
            case.load().latent_shape(height, width)


def test_only_the_transformer_can_be_trained(name: str, cases: Mapping[str, Any]) -> None:
    family = cases[name].load()
    parts = {key: part for key, part in family.pipeline.components.items() if isinstance(part, torch.nn.Module)}
    assert all(p.requires_grad for p in parts.pop("transformer").parameters())
    assert parts.keys() == {"vae"}
    assert not any(p.requires_grad for part in parts.values() for p in part.parameters())


@pytest.mark.parametrize("lora", [False, True])
def test_the_gradient_reaches_every_trained_weight(name: str, lora: bool, cases: Mapping[str, Any]) -> None:
    case = cases[name]
    family, x = case.load(), case.latents()
    if lora:
        adapt(family)
    disturb(family)
    v = family.velocity(family.transformer, x, torch.tensor([700.0, 300.0]), case.encoded())
    assert v.shape == x.shape
    assert v.dtype == torch.float32
    (v * torch.randn(v.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    trained = {key: p for key, p in family.transformer.named_parameters() if p.requires_grad}
    assert trained
    unreached = {key for key, p in trained.items() if p.grad is None or not bool(p.grad.any())}
    assert unreached == {key for key in trained if asks_for_nothing(key, family)}


def asks_for_nothing(weight: str, family: Any) -> bool:
    """SD3's last block draws from the text but does not change it: the text's queries have no use there."""
    last = f"transformer_blocks.{len(family.transformer.transformer_blocks) - 1}.attn."
    return hasattr(family.transformer.transformer_blocks[-1], "context_pre_only") and weight.startswith(
        (f"{last}add_q_proj", f"{last}norm_added_q")
    )


def test_exported_weights_draw_in_the_stock_pipeline_what_the_trainer_draws(
    name: str, cases: Mapping[str, Any], draw: Draw, tmp_path: Path
) -> None:
    case = cases[name]
    family, z, pipeline = case.load(), case.latents(), case.stock()
    pipeline.scheduler.set_shift(1.0)
    before = case.theirs(pipeline, z)
    disturb(family)
    folder = export_weights(family, lora=False, folder=tmp_path / "export")
    pipeline.transformer = type(pipeline.transformer).from_pretrained(folder / "transformer")
    assert torch.allclose(draw(family, z, case.encoded(), 1.0), case.theirs(pipeline, z), atol=CLOSE)
    assert not torch.allclose(before, case.theirs(pipeline, z), atol=1e-3)


def test_exported_adapters_draw_in_the_stock_pipeline_what_the_trainer_draws(
    name: str, cases: Mapping[str, Any], draw: Draw, tmp_path: Path
) -> None:
    case = cases[name]
    family, z, pipeline = case.load(), case.latents(), case.stock()
    pipeline.scheduler.set_shift(1.0)
    before = case.theirs(pipeline, z)
    adapt(family)
    disturb(family)
    pipeline.load_lora_weights(export_weights(family, lora=True, folder=tmp_path / "export"))
    assert torch.allclose(draw(family, z, case.encoded(), 1.0), case.theirs(pipeline, z), atol=CLOSE)
    assert not torch.allclose(before, case.theirs(pipeline, z), atol=1e-3)


def test_gradient_checkpointing_changes_no_gradient(name: str, cases: Mapping[str, Any]) -> None:
    case = cases[name]
    gradients = []
    for checkpointing in (False, True):
        family, x = case.load(), case.latents()
        if checkpointing:
            family.transformer.enable_gradient_checkpointing()
        v = family.velocity(family.transformer, x, torch.tensor([700.0, 300.0]), case.encoded())
        v.square().mean().backward()
        gradients.append([p.grad for p in family.transformer.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
