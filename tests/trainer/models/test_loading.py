"""How a job's model is loaded: which weights in what precision, what is trained, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.models.loading import find_source
from g2rpo_trainer.models.loading import load_family as load_from
from g2rpo_trainer.models.source import Precision

CPU = torch.device("cpu")
FAMILIES = {"SD3": "SD3", "SD3 guided": "SD3", "FLUX.1-dev": "Flux1", "FLUX.1-schnell": "Flux1"}


def training(case: Any, family: str, train: dict[str, Any], **model: Any) -> TrainingSpec:
    """A job on a case's model."""
    return TrainingSpec.model_validate(
        {
            "iterations": 1,
            "model": {"family": family, "path": str(case.folder), "maxSequenceLength": 8, "train": train} | model,
            "prompts": {"path": "p.txt"},
            "sampling": {"height": case.size[0], "width": case.size[1], "guidanceScale": case.guidance},
            "algorithm": {"type": "G2RPO"},
            "rewards": [{"name": "a", "type": "CLIPScore"}],
        }
    )


def load_family(spec: TrainingSpec, device: torch.device) -> Any:
    return load_from(spec, find_source(spec.model, device))


def dtypes(weights: Any) -> set[torch.dtype]:
    return {weight.dtype for weight in weights}


def frozen_parts(family: Any) -> list[nn.Module]:
    parts = family.pipeline.components.items()
    return [part for name, part in parts if isinstance(part, nn.Module) and name != "transformer"]


@pytest.mark.parametrize("name", FAMILIES)
def test_in_16_bits_adapters_are_in_32_on_weights_in_16(name: str, cases: Mapping[str, Any]) -> None:
    spec = training(cases[name], FAMILIES[name], {"type": "LoRA"}, precision="BFloat16")
    family = load_family(spec, CPU)
    weights = dict(family.transformer.named_parameters())
    trained = {key: weight for key, weight in weights.items() if weight.requires_grad}
    assert trained
    assert all("lora_" in key for key in trained)
    assert dtypes(trained.values()) == {torch.float32}
    assert dtypes(weight for key, weight in weights.items() if key not in trained) == {torch.bfloat16}
    assert dtypes(weight for part in frozen_parts(family) for weight in part.parameters()) == {torch.bfloat16}


@pytest.mark.parametrize("name", FAMILIES)
def test_in_16_bits_full_training_is_on_weights_in_32(name: str, cases: Mapping[str, Any]) -> None:
    family = load_family(training(cases[name], FAMILIES[name], {"type": "Full"}, precision="BFloat16"), CPU)
    assert dtypes(family.transformer.parameters()) == {torch.float32}
    assert all(weight.requires_grad for weight in family.transformer.parameters())
    assert dtypes(weight for part in frozen_parts(family) for weight in part.parameters()) == {torch.bfloat16}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("train", ["Full", "LoRA"])
def test_unless_asked_everything_is_in_32_bits(name: str, train: str, cases: Mapping[str, Any]) -> None:
    family = load_family(training(cases[name], FAMILIES[name], {"type": train}), CPU)
    parts = [family.transformer, *frozen_parts(family)]
    assert dtypes(weight for part in parts for weight in part.parameters()) == {torch.float32}
    assert not family.transformer.is_gradient_checkpointing


@pytest.mark.parametrize("name", FAMILIES)
def test_pictures_in_16_bits_are_nearly_those_in_32(
    name: str, cases: Mapping[str, Any], draw: Callable[..., Tensor]
) -> None:
    case = cases[name]
    z = case.latents()
    family = case.load(Precision(torch.bfloat16, torch.bfloat16))

    def forward(**inputs: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return family.transformer(**inputs)

    near, exact = draw(family, z, case.encoded(), 3.0, forward), draw(case.load(), z, case.encoded(), 3.0)
    assert near.dtype == torch.float32
    assert not torch.equal(near, exact)
    assert (near - exact).abs().mean() < 0.01


@pytest.mark.parametrize("family", ["SD3", "Flux1"])
def test_gradient_checkpointing_is_switched_on(family: str, cases: Mapping[str, Any]) -> None:
    case = cases["SD3" if family == "SD3" else "FLUX.1-dev"]
    spec = training(case, family, {"type": "Full"}, gradientCheckpointing=True)
    assert load_family(spec, CPU).transformer.is_gradient_checkpointing


def test_a_pipeline_of_another_family_is_refused(cases: Mapping[str, Any]) -> None:
    with pytest.raises(
        DataError, match=r"no Flux1 pipeline .* it holds a StableDiffusion3Pipeline, not a FluxPipeline"
    ):
        load_family(training(cases["SD3"], "Flux1", {"type": "Full"}), CPU)


def test_guidance_that_the_model_cannot_be_told_names_its_key(cases: Mapping[str, Any]) -> None:
    spec = training(cases["FLUX.1-schnell"], "Flux1", {"type": "Full"})
    guided = spec.model_copy(update={"sampling": spec.sampling.model_copy(update={"guidance_scale": 2.0})})
    with pytest.raises(DataError, match=r"^spec.training.sampling.guidanceScale is 2"):
        load_family(guided, CPU)


@pytest.mark.parametrize("name", ["SD3", "FLUX.1-dev"])
def test_weights_in_the_precision_of_their_file_are_not_copied_into_memory(name: str, cases: Mapping[str, Any]) -> None:
    family = cases[name].load()
    weight = next(iter(family.transformer.parameters()))
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    (path,) = {line.split()[-1] for line in mapped if holds(line, weight.data_ptr())}
    assert Path(path).parent == cases[name].folder / "transformer"


def holds(line: str, address: int) -> bool:
    """Whether a line of a process's map of memory covers the address."""
    first, last = (int(number, 16) for number in line.split()[0].split("-"))
    return first <= address < last


def test_only_what_is_needed_is_loaded(cases: Mapping[str, Any]) -> None:
    source = cases["FLUX.1-dev"].source()
    parts = {name for name, part in source.load().components.items() if part is not None}
    assert parts == {"transformer", "vae", "scheduler"}
    with source.text_encoders() as encoders:
        parts = {name for name, part in encoders.components.items() if part is not None}
    assert parts == {"text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"}
