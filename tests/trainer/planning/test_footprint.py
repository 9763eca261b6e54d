"""Memory by part, against sums made by hand and against the libraries' own counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.planning.footprint import (
    Footprint,
    adapted_layers,
    footprint,
    latents_per_group,
    trained_parameters,
)
from g2rpo_trainer.planning.model_files import ModelFiles

BILLION = 10**9


def model(parameters: int = BILLION) -> ModelFiles:
    """A transformer of one adaptable layer and a rest."""
    return ModelFiles(
        transformer={"block.attn.to_q.weight": (100, 50), "rest.weight": (parameters - 5000,)},
        vae_parameters=7,
        text_encoder_parameters=11,
        latent_channels=16,
        vae_factor=8,
        patch=2,
    )


def spec(**changes: Any) -> TrainingSpec:
    """A training part; `changes` replace whole sections."""
    return TrainingSpec.model_validate(
        {
            "iterations": 1,
            "model": {"family": "SD3", "path": "m", "train": {"type": "Full"}},
            "prompts": {"path": "p.txt", "perIteration": 4},
            "sampling": {"height": 64, "width": 32},
            "algorithm": {"type": "G2RPO"},
            "rewards": [{"name": "a", "type": "PaddleOCR"}],
            **changes,
        }
    )


def lora(rank: int, targets: tuple[str, ...] | None = None) -> dict[str, Any]:
    settings = {"rank": rank} if targets is None else {"rank": rank, "target_modules": targets}
    return {"family": "SD3", "path": "m", "train": {"type": "LoRA", "lora": settings}}


@pytest.mark.parametrize(
    ("stage", "per_parameter"),
    # transformer, master weights, gradients, moments: bytes per parameter on each of 4 ranks
    [(0, (4, 0, 4, 8)), (1, (4, 1, 4, 2)), (2, (4, 1, 1, 2)), (3, (1, 1, 1, 2))],
)
def test_zero_splits_what_it_splits(stage: int, per_parameter: tuple[int, ...]) -> None:
    parts = footprint(spec(deepspeed={"zeroStage": stage}), 4, model())
    found = (parts.transformer, parts.master_weights, parts.gradients, parts.moments)
    assert found == tuple(size * BILLION for size in per_parameter)
    assert parts.trained_parameters == BILLION


def test_full_training_takes_16_bytes_a_parameter() -> None:
    parts = footprint(spec(), 1, model())
    assert parts.transformer + parts.gradients + parts.moments == 16 * BILLION


@given(stage=st.integers(0, 2), ranks=st.sampled_from([1, 2, 4]))
def test_a_higher_stage_never_takes_more_on_many_ranks(stage: int, ranks: int) -> None:
    lower = footprint(spec(deepspeed={"zeroStage": stage}), ranks, model())
    higher = footprint(spec(deepspeed={"zeroStage": stage + 1}), ranks, model())
    if ranks >= 2:
        assert higher.total <= lower.total
    else:
        assert abs(higher.total - lower.total) in (0, 4 * BILLION), "one rank holds everything, but for the copy"


def test_parts_that_are_not_trained_count_once() -> None:
    parts = footprint(spec(), 1, model())
    assert (parts.vae, parts.text_encoders) == (28, 44)


def test_the_total_is_the_sum() -> None:
    sizes = dict(zip(("transformer", "master_weights", "gradients", "moments"), (1, 2, 4, 8), strict=True))
    rest = {"vae": 16, "text_encoders": 32, "rollout": 64, "mean_weights": 128}
    assert Footprint(**sizes, **rest, checkpoint=1000, trained_parameters=2000).total == 255


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_checkpoint_holds_weights_and_moments_once(stage: int) -> None:
    parts = footprint(spec(deepspeed={"zeroStage": stage}), 4, model())
    assert parts.checkpoint == 4 * 3 * BILLION


@pytest.mark.parametrize(("stage", "less"), [(1, 3), (2, 3), (3, 3)])
def test_an_offloaded_optimizer_leaves_the_gpu(stage: int, less: int) -> None:
    offload = {"zeroStage": stage, "offloadOptimizer": "CPU"}
    here, there = (footprint(spec(deepspeed=stages), 4, model()) for stages in ({"zeroStage": stage}, offload))
    assert here.total - there.total == 4 * less * BILLION // 4
    assert here.checkpoint == there.checkpoint


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_mean_of_the_weights_is_split_by_zero_and_once_in_a_checkpoint(stage: int) -> None:
    stages = {"zeroStage": stage}
    plain, averaged = (footprint(spec(deepspeed=stages, **more), 4, model()) for more in ({}, {"ema": {}}))
    assert (plain.mean_weights, averaged.mean_weights) == (0, (1 if stage else 4) * BILLION)
    assert averaged.total - plain.total == averaged.mean_weights
    assert averaged.checkpoint - plain.checkpoint == 4 * BILLION


def test_offloaded_weights_leave_the_gpu_but_for_the_copy_that_zero_updates() -> None:
    here, there = ({"zeroStage": 3, "offloadParameters": where} for where in ("None", "CPU"))
    before, after = (footprint(spec(deepspeed=stages), 4, model()) for stages in (here, there))
    assert (before.transformer, after.transformer) == (BILLION, 0)
    assert before.total - after.total == BILLION


def test_lora_trains_two_factors_per_layer() -> None:
    training = spec(model=lora(8))
    assert trained_parameters(training, model()) == 8 * 100 + 8 * 50
    parts = footprint(training, 1, model())
    assert parts.transformer == 4 * (BILLION + 1200)
    assert (parts.gradients, parts.moments, parts.checkpoint) == (4 * 1200, 8 * 1200, 12 * 1200)


def test_lora_under_zero_3_splits_the_frozen_weights_too() -> None:
    parts = footprint(spec(model=lora(8), deepspeed={"zeroStage": 3}), 2, model())
    assert parts.transformer == 4 * (BILLION + 1200) // 2


def test_in_16_bits_what_is_frozen_takes_half() -> None:
    parts = footprint(spec(model=lora(8) | {"precision": "BFloat16"}), 1, model())
    assert parts.transformer == 2 * BILLION + 4 * 1200
    assert (parts.vae, parts.text_encoders) == (14, 22)
    assert (parts.gradients, parts.moments, parts.checkpoint) == (4 * 1200, 8 * 1200, 12 * 1200)


def test_in_16_bits_what_is_trained_stays_in_32() -> None:
    full = {"family": "SD3", "path": "m", "precision": "BFloat16", "train": {"type": "Full"}}
    parts = footprint(spec(model=full), 1, model())
    assert parts.transformer + parts.gradients + parts.moments == 16 * BILLION


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        (("to_q",), [(8, 6), (4, 4)]),
        (("attn.to_q",), [(8, 6)]),
        (("to_out.0",), [(6, 8)]),
        (("to_q", "to_out.0"), [(8, 6), (6, 8), (4, 4)]),
        (("q",), []),
        (("conv",), []),
        (("block.attn.to_q",), [(8, 6)]),
    ],
)
def test_targets_are_whole_names_at_the_end(targets: tuple[str, ...], layers: list[tuple[int, ...]]) -> None:
    shapes = {
        "block.attn.to_q.weight": (8, 6),
        "block.attn.to_q.bias": (8,),
        "block.attn.to_out.0.weight": (6, 8),
        "block.conv.weight": (4, 4, 3, 3),
        "to_q.weight": (4, 4),
        "block.norm.weight": (6,),
    }
    assert adapted_layers(shapes, targets) == layers


def test_lora_of_flux_is_counted_as_peft_makes_it() -> None:
    from diffusers import FluxTransformer2DModel
    from peft import LoraConfig

    from g2rpo_trainer.models.flux1 import Flux1

    network = FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=24,
        pooled_projection_dim=16,
        axes_dims_rope=(2, 2, 4),
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    network.requires_grad_(False)
    network.add_adapter(LoraConfig(r=3, target_modules=list(Flux1.lora_targets)))
    made = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert made == (2 * 8 + 3 * 3) * 3 * (16 + 16), "8 projections in blocks of two streams, 3 in those of one"
    assert trained_parameters(spec(model=lora(3) | {"family": "Flux1"}), ModelFiles(shapes, 0, 0, 4, 2, 2)) == made


@pytest.mark.parametrize("targets", [None, ("to_q", "to_v"), ("attn.to_k", "linear")])
def test_lora_is_counted_as_peft_makes_it(targets: tuple[str, ...] | None) -> None:
    from diffusers import SD3Transformer2DModel
    from peft import LoraConfig

    from g2rpo_trainer.models.sd3 import SD3

    network = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=24,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        out_channels=4,
        pos_embed_max_size=8,
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    network.requires_grad_(False)
    network.add_adapter(LoraConfig(r=3, target_modules=list(targets or SD3.lora_targets)))
    made = sum(p.numel() for p in network.parameters() if p.requires_grad)
    files = ModelFiles(shapes, 0, 0, 4, 8, 2)
    assert made > 0
    assert trained_parameters(spec(model=lora(3, targets)), files) == made


@pytest.mark.parametrize(
    ("algorithm", "latents"),
    [
        # 17 states and 16 velocities of the anchor; 96 branches, each with 3 ends
        ({"type": "G2RPO"}, 33 + 96 + 288),
        ({"type": "G2RPO", "g2rpo": {"groupSize": 2, "stochasticSteps": 1, "granularities": [1]}}, 33 + 2 + 2),
        # 12 members, each with 15 steps of two ends, and its last state
        ({"type": "FlowGRPO"}, 12 * 31),
        ({"type": "FlowGRPO", "flowGrpo": {"window": {"size": 4}}}, 12 * 9),
    ],
)
def test_latents_that_a_rollout_keeps(algorithm: dict[str, Any], latents: int) -> None:
    training = spec(algorithm=algorithm)
    assert latents_per_group(training) == latents
    # 4 prompts on 2 ranks; a latent is 16 x 8 x 4 numbers of 4 bytes
    assert footprint(training, 2, model()).rollout == 2 * latents * 16 * 8 * 4 * 4
