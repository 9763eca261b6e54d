"""Estimates against the models' own sizes, against each other, and against sums made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from diffusers import FluxTransformer2DModel
from torch import nn
from transformers import (
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from g2rpo_api.rewards import RewardSpec
from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.planning.estimates import MemoryEstimate
from g2rpo_trainer.planning.footprint import footprint, trained_parameters
from g2rpo_trainer.planning.gathering import LIVE, PREFETCHED, SMALL
from g2rpo_trainer.planning.memory import buckets, estimate, reward_bytes, update_rows
from g2rpo_trainer.planning.model_files import ModelFiles
from g2rpo_trainer.planning.sketch import sketch


def spec(path: str, **changes: Any) -> TrainingSpec:
    """A job on FLUX.1 of small pictures; `changes` by section."""
    sections: dict[str, Any] = {
        "iterations": 1,
        "model": {"family": "Flux1", "path": path, "train": {"type": "LoRA", "lora": {"rank": 4}}},
        "prompts": {"path": "p.txt", "per_iteration": 2},
        "sampling": {"height": 32, "width": 32, "steps": 4, "max_batch": 4, "max_decode_batch": 2},
        "algorithm": {"type": "G2RPO", "g2rpo": {"group_size": 4, "stochastic_steps": 2, "granularities": [1]}},
        "rewards": [{"name": "a", "type": "PaddleOCR"}],
    }
    for name, section in changes.items():
        merged = isinstance(section, dict) and name != "algorithm"
        sections[name] = {**sections.get(name, {}), **section} if merged else section
    return TrainingSpec.model_validate(sections)


@cache
def base(path: Path) -> MemoryEstimate:
    return estimated(path)


def estimated(path: Path, **changes: Any) -> MemoryEstimate:
    drawn = sketch(spec(str(path), **changes))
    assert drawn is not None
    return estimate(drawn, 1)


def full(**more: Any) -> dict[str, Any]:
    return {"train": {"type": "Full"}, **more}


@pytest.mark.parametrize(
    ("path", "family", "billions"),
    [
        ("black-forest-labs/FLUX.1-dev", "Flux1", 11.901),
        ("black-forest-labs/FLUX.1-schnell", "Flux1", 11.891),
        ("stabilityai/stable-diffusion-3.5-medium", "SD3", 2.243),
        ("stabilityai/stable-diffusion-3.5-large", "SD3", 8.057),
        ("stabilityai/stable-diffusion-3-medium-diffusers", "SD3", 2.028),
    ],
)
def test_published_models_have_the_published_sizes(path: str, family: str, billions: float) -> None:
    training = spec(path, model=full(family=family))
    drawn = sketch(training)
    assert drawn is not None
    assert trained_parameters(training, drawn.files) / 1e9 == pytest.approx(billions, abs=0.001)
    assert drawn.files.pixel_multiple == 16
    assert drawn.files.vae_parameters == pytest.approx(83.8e6, rel=0.002)


def test_a_model_that_nobody_knows_is_not_guessed() -> None:
    assert sketch(spec("org/model")) is None


def test_nothing_is_allocated_for_a_sketch() -> None:
    drawn = sketch(spec("black-forest-labs/FLUX.1-dev", model=full()))
    assert drawn is not None
    with drawn.mode:
        weights = drawn.weights()
        assert sum(tensor.numel() for tensor in weights) > 11e9
        assert all(isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu" for tensor in weights)


def test_a_folder_speaks_for_itself(flux_folders: Mapping[str, Path]) -> None:
    drawn = sketch(spec(str(flux_folders["dev"])))
    assert drawn is not None
    real = FluxTransformer2DModel.from_pretrained(flux_folders["dev"] / "transformer")
    shapes = {name: tuple(weight.shape) for name, weight in real.state_dict().items()}
    assert dict(drawn.files.transformer) == shapes
    trained = sum(p.numel() for p in drawn.family.transformer.parameters() if p.requires_grad)
    assert trained == trained_parameters(drawn.training, drawn.files)


def test_what_stays_is_what_the_footprint_says(flux_folders: Mapping[str, Path]) -> None:
    found = estimated(flux_folders["dev"], model=full(), ema={"decay": 0.9})
    drawn = sketch(spec(str(flux_folders["dev"]), model=full(), ema={"decay": 0.9}))
    assert drawn is not None
    parts = footprint(drawn.training, 1, drawn.files)
    assert found.resident == {
        "transformer": parts.transformer,
        "Adam's moments": parts.moments,
        "mean weights": 4 * parts.trained_parameters,
        "VAE": parts.vae,
        "latents": parts.rollout,
    }
    assert found.total == sum(found.resident.values()) + max(found.phases.values())


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # so is full training in 16 bits
@pytest.mark.parametrize(
    ("model", "bytes_a_weight"),
    # a bucket of all gradients in each precision in which they travel: that of linear layers, and 32 bits for others
    [(full(), 4), (full(precision="BFloat16"), 4 + 2), ({"precision": "BFloat16"}, 2)],
)
def test_stage_3_keeps_shares_of_all_and_whole_buckets(
    model: dict[str, Any], bytes_a_weight: int, flux_folders: Mapping[str, Path]
) -> None:
    drawn = sketch(spec(str(flux_folders["dev"]), model=model, deepspeed={"zero_stage": 3}))
    assert drawn is not None
    trained = trained_parameters(drawn.training, drawn.files)
    found = estimate(drawn, 2).resident
    assert found["gradient buckets"] == bytes_a_weight * trained
    for part, share in (("master weights", 4), ("gradients", 4), ("Adam's moments", 8)):
        assert found[part] == share * -(-trained // 2)


def layers(others: Mapping[str, tuple[int, ...]]) -> ModelFiles:
    """A model of one linear layer and others."""
    return ModelFiles({"proj.weight": (5, 8), "proj.bias": (5,), **others}, 0, 0, 4, 2, 2)


def test_buckets_have_an_end() -> None:
    training = spec("org/model", model=full())
    assert buckets(training, layers({}), 11 * 10**9) == 4 * DeepSpeedZeroConfig().reduce_bucket_size


def test_only_norms_need_a_bucket_of_their_own() -> None:
    training = spec("org/model", model=full(precision="BFloat16"))
    assert buckets(training, layers({}), 50) == 2 * 50
    assert buckets(training, layers({"norm.weight": (5,)}), 50) == (2 + 4) * 50


def test_the_most_may_be_while_text_is_encoded() -> None:
    found = MemoryEstimate({"a": 3}, {"rollout": 1, "update": 2}, encoding=9)
    assert (found.total, found.worst) == (9, "update")
    assert MemoryEstimate({"a": 3}, {"rollout": 1, "update": 2}, encoding=4).total == 5


@pytest.mark.parametrize(
    ("before", "after", "phase"),
    [
        ({}, {"sampling": {"max_batch": 1}}, "rollout"),
        ({}, {"sampling": {"max_decode_batch": 1}}, "decoding"),
        ({}, {"optimizer": {"max_batch": 1}}, "update"),
        ({}, {"model": {"gradient_checkpointing": True}}, "update"),
        ({}, {"model": {"precision": "BFloat16"}}, "rollout"),
        ({"model": full()}, {}, "update"),
        ({"sampling": {"height": 64}}, {}, "decoding"),
    ],
)
def test_the_knobs_turn_the_phase_that_they_name(
    before: dict[str, Any], after: dict[str, Any], phase: str, flux_folders: Mapping[str, Path]
) -> None:
    folder = flux_folders["dev"]
    more = estimated(folder, **before) if before else base(folder)
    less = estimated(folder, **after) if after else base(folder)
    assert less.phases[phase] < 0.9 * more.phases[phase]


def test_later_chunks_meet_the_gradients_of_the_first(flux_folders: Mapping[str, Path]) -> None:
    one, chunked = (
        estimated(flux_folders["dev"], model=full(), optimizer={"max_batch": size}, prompts={"per_iteration": rows})
        for size, rows in ((2, 2), (2, 4))
    )
    drawn = sketch(spec(str(flux_folders["dev"]), model=full()))
    assert drawn is not None
    gradients = 4 * trained_parameters(drawn.training, drawn.files)
    assert one.phases["update"] < chunked.phases["update"] <= one.phases["update"] + gradients


def test_rows_of_an_update() -> None:
    assert update_rows(spec("org/model"), 1) == 2, "members share a row"
    flow = {"type": "FlowGRPO", "flow_grpo": {"group_size": 3}}
    assert update_rows(spec("org/model", algorithm=flow), 2) == 3, "a row for each member"


def vit(width: int, layers: int, **more: Any) -> dict[str, Any]:
    """A transformer of a CLIP or a BLIP: dense layers four times as wide, as everywhere."""
    return {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers, **more}


def head() -> nn.Sequential:
    """The five layers that both published heads have."""
    sizes = (768, 1024, 128, 64, 16, 1)
    return nn.Sequential(*(nn.Linear(into, out) for into, out in pairwise(sizes)))


def clip_h() -> CLIPModel:
    """Of OpenCLIP's ViT-H/14."""
    seen, read = (vit(w, n, num_attention_heads=16, projection_dim=1024) for w, n in ((1280, 32), (1024, 24)))
    return CLIPModel(CLIPConfig(vision_config=seen | {"patch_size": 14}, text_config=read, projection_dim=1024))


def networks(kind: str) -> list[nn.Module]:
    """What the reward loads, at its published size."""
    large = vit(1024, 24, num_attention_heads=16, image_size=224)
    if kind == "Aesthetic":
        return [CLIPVisionModelWithProjection(CLIPVisionConfig(**large, patch_size=14, projection_dim=768)), head()]
    if kind == "ImageReward":
        text = BlipTextConfig(vocab_size=30524, encoder_hidden_size=1024, num_attention_heads=12)
        return [BlipVisionModel(BlipVisionConfig(**large)), BlipTextModel(text, add_pooling_layer=False), head()]
    return [clip_h()]


@pytest.mark.parametrize("kind", ["HPSv2", "CLIPScore", "PickScore", "ImageReward", "Aesthetic"])
def test_rewards_take_what_their_networks_have(kind: str) -> None:
    with torch.device("meta"):
        weights = sum(weight.numel() for network in networks(kind) for weight in network.parameters())
    assert reward_bytes(RewardSpec.model_validate({"name": "a", "type": kind})) == 4 * weights


def test_a_smaller_clip_takes_less() -> None:
    small = {"name": "a", "type": "CLIPScore", "clipScore": {"path": "openai/clip-vit-large-patch14"}}
    with torch.device("meta"):
        weights = sum(weight.numel() for weight in CLIPModel(clip_l()).parameters())
    assert reward_bytes(RewardSpec.model_validate(small)) == 4 * weights


def clip_l() -> CLIPConfig:
    seen = vit(1024, 24, num_attention_heads=16, projection_dim=768, patch_size=14)
    return CLIPConfig(
        vision_config=seen, text_config=vit(768, 12, num_attention_heads=12, projection_dim=768), projection_dim=768
    )


def test_stage_3_gathers_as_much_ahead_and_splits_as_little_as_deepspeed_does_by_itself() -> None:
    defaults = DeepSpeedZeroConfig()
    assert (defaults.prefetch_bucket_size, defaults.max_live_parameters) == (PREFETCHED, LIVE)
    assert defaults.param_persistence_threshold == SMALL


@pytest.mark.parametrize("train", [full(), {}])
def test_stage_3_keeps_small_weights_whole_on_every_rank(
    train: dict[str, Any], flux_folders: Mapping[str, Path]
) -> None:
    drawn = sketch(spec(str(flux_folders["dev"]), model=train, deepspeed={"zero_stage": 3}))
    assert drawn is not None
    sizes = [weight.numel() for weight in drawn.family.transformer.parameters()]
    assert max(sizes) <= 10**5, "in a model this small, all of them"
    assert estimate(drawn, 2).resident["small weights, whole"] == 4 * sum(sizes)
    assert "small weights, whole" not in estimate(drawn, 1).resident


def test_a_damaged_folder_is_told(tmp_path: Path) -> None:
    for part in ("transformer", "vae"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text("{}")
    with pytest.raises(DataError, match="in_channels"):
        sketch(spec(str(tmp_path)))


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_what_stage_2_collects_gradients_in_is_there_while_it_updates_its_share(
    flux_folders: Mapping[str, Path],
) -> None:
    """The bucket, whole as long as all gradients fit in, and a share of them twice."""
    drawn = sketch(spec(str(flux_folders["dev"]), model=full(), deepspeed={"zero_stage": 2}))
    assert drawn is not None
    trained = trained_parameters(drawn.training, drawn.files)
    assert estimate(drawn, 2).phases["optimizer step"] == 4 * (trained + 2 * -(-trained // 2))
