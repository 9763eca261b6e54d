"""The shipped folder against the recipe that is said to have made it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from safetensors import safe_open

from g2rpo_trainer.miniature import recipe
from g2rpo_trainer.miniature.components import build_pipeline
from g2rpo_trainer.miniature.folder import PROMPT_FILES
from g2rpo_trainer.miniature.glyphs import render_batch
from g2rpo_trainer.miniature.measuring import load, measure, sample

MODULES = ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
MEASURED_FROM_DATA = {"scaling_factor", "shift_factor"}


@pytest.fixture(scope="module")
def shipped() -> StableDiffusion3Pipeline:
    return load(recipe.MODEL_FOLDER)


@pytest.fixture(scope="module")
def fresh() -> StableDiffusion3Pipeline:
    return build_pipeline(seed=0)


def config(folder: Path, component: str, name: str = "config.json") -> dict[str, Any]:
    return json.loads((folder / component / name).read_text(encoding="utf-8"))


def normal(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize(
    ("component", "wanted"),
    [
        ("transformer", recipe.TRANSFORMER),
        ("vae", recipe.VAE),
        ("text_encoder", recipe.CLIP),
        ("text_encoder_2", recipe.CLIP),
        ("text_encoder_3", recipe.T5),
    ],
)
def test_every_setting_of_the_recipe_is_that_of_the_folder(component: str, wanted: dict[str, Any]) -> None:
    written = config(recipe.MODEL_FOLDER, component)
    assert {key: written[key] for key in wanted} == normal(wanted)


def test_the_scheduler_of_the_folder_is_that_of_the_recipe() -> None:
    written = config(recipe.MODEL_FOLDER, "scheduler", "scheduler_config.json")
    assert {key: written[key] for key in recipe.SCHEDULER} == recipe.SCHEDULER


@pytest.mark.parametrize("component", MODULES)
def test_the_folder_and_a_fresh_build_have_the_same_weights_by_shape(
    component: str, shipped: StableDiffusion3Pipeline, fresh: StableDiffusion3Pipeline
) -> None:
    shapes = [
        {name: tuple(value.shape) for name, value in getattr(pipeline, component).state_dict().items()}
        for pipeline in (shipped, fresh)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("component", MODULES)
def test_the_folder_and_a_fresh_build_are_of_the_same_classes_and_configuration(
    component: str, shipped: StableDiffusion3Pipeline, fresh: StableDiffusion3Pipeline
) -> None:
    ours, theirs = getattr(shipped, component), getattr(fresh, component)
    assert type(ours) is type(theirs)
    settings = [{k: v for k, v in dict(m.config.items()).items() if public(k)} for m in map(with_items, (ours, theirs))]
    assert normal(settings[0]) == normal(settings[1])


def with_items(module: Any) -> Any:
    if not hasattr(module.config, "items"):
        return type("Module", (), {"config": module.config.to_dict()})
    return module


def public(key: str) -> bool:
    return not key.startswith("_") and key not in MEASURED_FROM_DATA | {"dtype", "torch_dtype", "architectures"}


@pytest.mark.parametrize("text", ["the number 4 7", "the number 0 0", "Zebra, 12!", ""])
def test_the_tokenizers_of_the_folder_are_those_of_the_recipe(
    text: str, shipped: StableDiffusion3Pipeline, fresh: StableDiffusion3Pipeline
) -> None:
    for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
        ids = [getattr(pipeline, name)(text).input_ids for pipeline in (shipped, fresh)]
        assert ids[0] == ids[1]


def test_every_number_fits_the_text_length(shipped: StableDiffusion3Pipeline) -> None:
    training, unseen = recipe.numbers()
    for tokenizer in (shipped.tokenizer, shipped.tokenizer_2, shipped.tokenizer_3):
        ids = [tokenizer(recipe.prompt(number)).input_ids for number in training + unseen]
        assert max(map(len, ids)) <= recipe.TEXT_TOKENS
        assert len({tuple(row) for row in ids}) == 100


def test_the_split_is_80_and_20_of_the_100_numbers() -> None:
    training, unseen = recipe.numbers()
    assert (len(training), len(unseen)) == (80, 20)
    assert sorted(training + unseen) == [f"{n:02d}" for n in range(100)]


def test_every_digit_is_trained_on_in_both_places() -> None:
    training, _ = recipe.numbers()
    assert {number[0] for number in training} == {number[1] for number in training} == set("0123456789")


@pytest.mark.parametrize("part", [0, 1])
def test_the_prompt_files_are_the_split(part: int) -> None:
    lines = (recipe.MODEL_FOLDER / PROMPT_FILES[part]).read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line) for line in lines]
    assert [row["target"] for row in asked] == recipe.numbers()[part]
    assert all(row["prompt"] == f"the number {row['target'][0]} {row['target'][1]}" for row in asked)


def test_the_weights_are_float32_and_at_most_8_mb() -> None:
    files = list(recipe.MODEL_FOLDER.rglob("*"))
    assert sum(path.stat().st_size for path in files if path.is_file()) <= 8e6
    for path in recipe.MODEL_FOLDER.rglob("*.safetensors"):
        with safe_open(path, "pt") as weights:
            assert all(weights.get_slice(name).get_dtype() == "F32" for name in weights.keys())  # noqa: SIM118
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".pkl"}]


def test_latents_have_mean_zero_and_deviation_one(shipped: StableDiffusion3Pipeline) -> None:
    images = render_batch(recipe.numbers()[0] * 4, Random(99))
    with torch.no_grad():
        mean = shipped.vae.encode(images * 2 - 1).latent_dist.mean
        latents = (mean - shipped.vae.config.shift_factor) * shipped.vae.config.scaling_factor
        drawn = shipped.vae.decode(mean).sample / 2 + 0.5
    assert latents.shape[1:] == (4, recipe.HEIGHT // 2, recipe.WIDTH // 2)
    assert abs(latents.mean().item()) < 0.05
    assert abs(latents.std().item() - 1) < 0.05
    assert (drawn - images).abs().mean() < 0.03


def test_pictures_depend_on_prompt_and_noise(shipped: StableDiffusion3Pipeline) -> None:
    images = sample(shipped, ["47", "47", "90"], seed=1)
    again = sample(shipped, ["47", "47", "90"], seed=1)
    assert images.shape == (3, 3, recipe.HEIGHT, recipe.WIDTH)
    assert torch.equal(images, again)
    assert (images[0] - images[1]).abs().max() > 0.1


def test_the_folder_is_as_legible_as_its_card_says() -> None:
    measured = measure(recipe.MODEL_FOLDER)
    written = (recipe.MODEL_FOLDER / "README.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[2:5]] for line in written.splitlines() if "numbers |" in line]
    said = [[float(row[0]), float(row[1].rstrip("%")) / 100, float(row[2].rstrip("%")) / 100] for row in rows]
    found = [[m.likelihood, m.exact, m.held_out_exact] for m in (measured.training, measured.unseen)]
    # Another machine's rounding moves single pictures across the edge of being read.
    assert torch.allclose(torch.tensor(said), torch.tensor(found), atol=0.06)
    assert 0.2 < measured.training.likelihood < 0.6
    assert measured.training.held_out_exact < measured.training.exact < 0.6


def test_the_card_names_its_recipe_and_licence() -> None:
    written = (recipe.MODEL_FOLDER / "README.md").read_text(encoding="utf-8")
    front = written.split("---")[1]
    assert "license: apache-2.0" in front
    assert "library_name: diffusers" in front
    shown = json.loads(written.split("```json")[1].split("```")[0])
    assert shown == normal(asdict(recipe.SHIPPED))
