"""PickScore and the aesthetic predictor with small random weights, against transformers' own arithmetic and numpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from g2rpo_api.rewards import RewardSpec
from g2rpo_trainer.errors import RewardError
from g2rpo_trainer.rewards.registry import build_reward
from testtrainer.pictures import TEXTS, pictures, prompts, seen_by_pil

CPU = torch.device("cpu")
SIZE, JOINT = 28, 12
"""Of the CLIP in `clip_folder`."""
WIDTHS = (JOINT, 20, 10, 6, 4, 1)
NUMBERS = (0, 2, 4, 6, 7)
"""Of the published head's layers: dropout lay between."""


def head(scale: float = 0.7) -> dict[str, Tensor]:
    """Weights by the names of the published file."""
    noise = torch.Generator().manual_seed(3)
    made = {}
    for number, into, out in zip(NUMBERS, WIDTHS[:-1], WIDTHS[1:], strict=True):
        made[f"layers.{number}.weight"] = scale * torch.randn(out, into, generator=noise)
        made[f"layers.{number}.bias"] = scale * torch.randn(out, generator=noise)
    return made


@pytest.fixture
def aesthetic(clip_folder: Path, tmp_path: Path) -> Callable[..., Any]:
    def build(name: str = "aesthetic-model.pth", weights: dict[str, Tensor] | None = None, **spec: Any) -> Any:
        whole = head() if weights is None else weights
        if name.endswith("safetensors"):
            save_file(whole, tmp_path / name)
        else:
            torch.save(whole, tmp_path / name)
        path = tmp_path if name == "aesthetic-model.pth" else tmp_path / name
        settings = {"path": str(path), "clip": str(clip_folder)}
        return build_reward(RewardSpec(name="look", type="Aesthetic", aesthetic=settings, **spec), CPU).reward

    return build


@torch.no_grad()
def marks(folder: Path, images: Tensor) -> list[float]:
    """What the head says of a picture's embedding of length 1, layer by layer in numpy."""
    network = CLIPModel.from_pretrained(folder).eval()
    found = []
    for image in images:
        pixels = seen_by_pil(image, SIZE).unsqueeze(0)
        seen = network.visual_projection(network.vision_model(pixel_values=pixels).pooler_output)
        x = seen[0].double().numpy()
        x = x / np.sqrt((x**2).sum())
        for number in NUMBERS:
            x = head()[f"layers.{number}.weight"].double().numpy() @ x + head()[f"layers.{number}.bias"].numpy()
        found.append(float(x[0]))
    return found


@pytest.mark.parametrize("name", ["aesthetic-model.pth", "sac+logos+ava1-l14-linearMSE.pth", "head.safetensors"])
def test_the_mark_is_the_heads_for_the_normalised_embedding(
    name: str, aesthetic: Callable[..., Any], clip_folder: Path
) -> None:
    images = pictures(4, SIZE, SIZE)
    scores = aesthetic(name).score(images, prompts())
    wanted = marks(clip_folder, images)
    assert np.std(wanted) > 1e-3
    assert scores.dtype == torch.float32
    assert scores.tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_prompt_plays_no_part_in_the_mark_and_the_batch_size_neither(aesthetic: Callable[..., Any]) -> None:
    images = pictures(3, 40, 56)
    found = aesthetic(batch_size=2).score(images, prompts(["a", "b", "c"]))
    assert torch.allclose(found, aesthetic().score(images, prompts(["d", "e", "f"])), atol=1e-6)


def test_a_head_in_half_precision_is_computed_with_in_whole(aesthetic: Callable[..., Any]) -> None:
    halves = {name: weight.half() for name, weight in head().items()}
    wholes = {name: weight.float() for name, weight in halves.items()}
    images = pictures(2, SIZE, SIZE)
    found = [aesthetic(weights=some).score(images, prompts(["a", "b"])).tolist() for some in (halves, wholes)]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.pop("layers.7.weight"),
        lambda weights: weights.pop("layers.0.bias"),
        lambda weights: weights.update({"layers.0.weight": torch.zeros(20, JOINT + 1)}),
        lambda weights: weights.update({"layers.4.weight": torch.zeros(5, 10)}),
        lambda weights: weights.update({"layers.7.weight": torch.zeros(2, 4)}),
        lambda weights: weights.clear(),
    ],
)
def test_a_head_that_does_not_fit_is_refused(change: Callable[[Any], Any], aesthetic: Callable[..., Any]) -> None:
    weights = head()
    change(weights)
    with pytest.raises(RewardError, match=r"reward 'look' \(Aesthetic\).*head of linear layers from 12 elements to 1"):
        aesthetic(weights=weights)


def test_a_file_that_is_no_head_runs_nothing(aesthetic: Callable[..., Any]) -> None:
    with pytest.raises(RewardError, match="other things than weights"):
        aesthetic(weights={"layers.0.weight": "text"})
    with pytest.raises(RewardError, match="cannot be read as weights"):
        aesthetic(weights={"layers.0.weight": nn.Linear})


def without(folder: Path, name: str, into: Path) -> str:
    """A copy of a CLIP that lacks a weight."""
    network = CLIPModel.from_pretrained(folder)
    network.save_pretrained(into)
    CLIPTokenizer.from_pretrained(folder).save_pretrained(into)
    weights = load_file(into / "model.safetensors")
    del weights[name]
    save_file(weights, into / "model.safetensors", metadata={"format": "pt"})
    return str(into)


@pytest.mark.parametrize("kind", ["PickScore", "CLIPScore", "Aesthetic"])
def test_a_weight_that_is_missing_is_never_drawn_by_chance(kind: str, clip_folder: Path, tmp_path: Path) -> None:
    torch.save(head(), tmp_path / "head.pth")
    clip = without(clip_folder, "visual_projection.weight", tmp_path / "clip")
    settings = {
        "PickScore": {"pickScore": {"path": clip, "tokenizer": clip}},
        "CLIPScore": {"clipScore": {"path": clip}},
        "Aesthetic": {"aesthetic": {"path": str(tmp_path / "head.pth"), "clip": clip}},
    }[kind]
    with pytest.raises(RewardError, match=r"cannot be loaded: .* \['visual_projection.weight'\] are missing"):
        build_reward(RewardSpec.model_validate({"name": "a", "type": kind, **settings}), CPU)


@pytest.fixture
def pick_folders(clip_folder: Path, tmp_path: Path) -> dict[str, str]:
    """Weights without tokenizer in one folder, the tokenizer in another."""
    network = CLIPModel.from_pretrained(clip_folder)
    network.logit_scale.data.fill_(3.0)
    network.save_pretrained(tmp_path / "weights")
    CLIPTokenizer.from_pretrained(clip_folder).save_pretrained(tmp_path / "words")
    return {"path": str(tmp_path / "weights"), "tokenizer": str(tmp_path / "words")}


def test_pick_score_is_the_logit_of_transformers(pick_folders: dict[str, str]) -> None:
    reward = build_reward(RewardSpec(name="pick", type="PickScore", pick_score=pick_folders), CPU).reward
    images = pictures(4, SIZE, SIZE)
    network = CLIPModel.from_pretrained(pick_folders["path"]).eval()
    tokenizer = CLIPTokenizer.from_pretrained(pick_folders["tokenizer"])
    scores = reward.score(images, prompts())
    with torch.no_grad():
        wanted = [
            network(
                **tokenizer(text, truncation=True, return_tensors="pt"),
                pixel_values=seen_by_pil(image, SIZE).unsqueeze(0),
            ).logits_per_image.item()
            for image, text in zip(images, TEXTS, strict=True)
        ]
    assert np.std(wanted) > 0.01
    assert scores.tolist() == pytest.approx(wanted, abs=1e-4)


def test_a_folder_without_a_tokenizer_is_refused_rather_than_read_as_one_without_words(
    pick_folders: dict[str, str],
) -> None:
    settings = {"path": pick_folders["path"], "tokenizer": pick_folders["path"]}
    with pytest.raises(RewardError, match=r"reward 'pick' \(PickScore\) cannot be loaded: .*has no tokenizer"):
        build_reward(RewardSpec(name="pick", type="PickScore", pick_score=settings), CPU)
