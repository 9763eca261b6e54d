"""How much memory a rank needs at most, by part and by phase: weights from `footprint.py`, the rest from a dry run.

Who calls this: the doctor and the benchmarks. `benchmarks/memory.py` holds it against what is measured.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext

from g2rpo_api.algorithm import G2RPOSettings
from g2rpo_api.reward_settings import CLIP_VIT_L
from g2rpo_api.rewards import RewardSpec
from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.models.facts import LORA_TARGETS
from g2rpo_trainer.models.loading import compute_precision
from g2rpo_trainer.optimizer_settings import LARGEST_BUCKET
from g2rpo_trainer.planning.dryrun import memory_of
from g2rpo_trainer.planning.estimates import MemoryEstimate
from g2rpo_trainer.planning.footprint import (
    CONSTANTS,
    FLOAT_BYTES,
    FROZEN_BYTES,
    Footprint,
    adapted_layers,
    footprint,
)
from g2rpo_trainer.planning.gathering import SMALL, gathering
from g2rpo_trainer.planning.model_files import ModelFiles
from g2rpo_trainer.planning.sketch import Sketch

STEP_COPIES = 2
"""The gradients that a rank updates by, and once more their size for adding up between ranks and clipping."""
_VIT_H, _VIT_L, _VIT_L_VISION = 986_109_441, 427_616_513, 303_966_208
_BLIP, _HEAD = 445_278_720, 927_969
"""A BLIP's picture and text networks without a pooler; five linear layers 768-1024-128-64-16-1."""
REWARD_PARAMETERS: Mapping[str, int] = {
    "HPSv2": _VIT_H,
    "CLIPScore": _VIT_H,
    "PickScore": _VIT_H,
    "ImageReward": _BLIP + _HEAD,
    "Aesthetic": _VIT_L_VISION + _HEAD,
}
"""Of the published networks, which are held in float32; the other types have none on the GPU, or none that is known."""


def estimate(sketch: Sketch, ranks: int) -> MemoryEstimate:
    """What a rank needs for the sketched job on `ranks` ranks."""
    training = sketch.training
    stays = resident(training, ranks, sketch.files)
    parts = footprint(training, ranks, sketch.files)
    splits = training.deepspeed.zero_stage == 3 and ranks > 1
    travel = compute_precision(training.model)
    with sketch.mode, gathering(sketch.family.transformer, travel) if splits else nullcontext():
        rollout = memory_of(lambda: sketch.forward(_rows(training, ranks)), sketch.weights()).peak
        decode = memory_of(lambda: sketch.decode(_pictures(training, ranks)), sketch.weights()).peak
        update = _update(sketch, ranks, _underway(training, parts))
    return MemoryEstimate(
        resident=stays,
        phases={
            "rollout": rollout,
            "decoding": decode,
            "update": update,
            "optimizer step": _step(training, ranks, parts),
        },
        encoding=parts.text_encoders,
    )


def resident(training: TrainingSpec, ranks: int, files: ModelFiles) -> Mapping[str, int]:
    """What stays on a rank while training goes on, by part: sums of sizes, nothing is run."""
    parts = footprint(training, ranks, files)
    sharded = training.deepspeed.zero_stage == 3
    found = {
        "transformer": parts.transformer,
        "small weights, whole": small_weights(training, ranks, files),
        "master weights": parts.master_weights,
        "gradients": parts.gradients if sharded else 0,
        "gradient buckets": buckets(training, files, parts.trained_parameters) if sharded else 0,
        "Adam's moments": parts.moments,
        "mean weights": parts.mean_weights,
        "VAE": parts.vae,
        "rewards": sum(reward_bytes(reward) for reward in training.rewards),
        "latents": parts.rollout,
    }
    return {name: size for name, size in found.items() if size}


def reward_bytes(reward: RewardSpec) -> int:
    """Weights of a reward's network on the GPU."""
    clip = reward.clip_score
    smaller = clip is not None and clip.path == CLIP_VIT_L
    return FLOAT_BYTES * (_VIT_L if smaller else REWARD_PARAMETERS.get(reward.type, 0))


def update_rows(training: TrainingSpec, ranks: int) -> int:
    """Rows with gradient of one transition on a rank."""
    prompts = training.prompts.per_iteration // ranks
    settings = training.algorithm.settings
    return prompts if isinstance(settings, G2RPOSettings) else prompts * settings.group_size


def _update(sketch: Sketch, ranks: int, gradients: int) -> int:
    """Gradients and activations at the worst moment of an optimizer step.

    The activations of a first chunk make room for its gradients as they come; a later chunk meets those of the first.
    """
    training = sketch.training
    rows, size = update_rows(training, ranks), training.optimizer.max_batch
    chunk = min(rows, size)
    gc.collect()
    first = memory_of(lambda: sketch.forward_backward(chunk), sketch.weights()).peak
    single = rows <= size and training.algorithm.settings.update == "PerStep"
    if single and training.deepspeed.zero_stage == 0:
        return first
    again = memory_of(lambda: sketch.forward_backward(chunk), sketch.weights()).peak
    return gradients + again


def _underway(training: TrainingSpec, parts: Footprint) -> int:
    """Gradients that a backward meets, or the bucket in which stage 2 collects them on their way to other ranks."""
    match training.deepspeed.zero_stage:
        case 2:
            return max(parts.gradients, FLOAT_BYTES * min(LARGEST_BUCKET, parts.trained_parameters))
        case 3:
            return 0  # they stay, and are counted there
        case _:
            return parts.gradients


def _step(training: TrainingSpec, ranks: int, parts: Footprint) -> int:
    """What an optimizer step needs: under stages 1 and 2 what was collected is still there."""
    updated = FLOAT_BYTES * -(-parts.trained_parameters // ranks)
    if training.deepspeed.zero_stage in (1, 2):
        return _underway(training, parts) + STEP_COPIES * updated
    return STEP_COPIES * parts.gradients


def buckets(training: TrainingSpec, files: ModelFiles, trained: int) -> int:
    """Where ZeRO-3 collects gradients on their way to other ranks: a bucket for each precision in which they travel.

    Those of linear layers and convolutions do so in what is computed in; those of other layers, which hold vectors, in
    32 bits. Adapters are linear layers.
    """
    others = training.model.train.lora is None and any(_is_vector(*entry) for entry in files.transformer.items())
    wide = FLOAT_BYTES if others else 0
    widths = FLOAT_BYTES if training.model.precision == "Float32" else wide + FROZEN_BYTES["BFloat16"]
    return widths * min(LARGEST_BUCKET, trained)


def _is_vector(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is the weight of a norm."""
    return len(shape) == 1 and name.endswith(".weight")


def _rows(training: TrainingSpec, ranks: int) -> int:
    """Rows of the largest batch without gradient."""
    settings, prompts = training.algorithm.settings, training.prompts.per_iteration // ranks
    branches = settings.group_size
    if isinstance(settings, G2RPOSettings):
        branches *= settings.stochastic_steps * len(settings.granularities)
    return _even(prompts * branches, training.sampling.max_batch)


def _pictures(training: TrainingSpec, ranks: int) -> int:
    settings, prompts = training.algorithm.settings, training.prompts.per_iteration // ranks
    pictures = prompts * settings.group_size
    if isinstance(settings, G2RPOSettings):
        pictures = prompts + pictures * settings.stochastic_steps * len(settings.granularities)
    return min(pictures, training.sampling.max_decode_batch)


def _even(rows: int, most: int) -> int:
    """Rows of the larger parts when `rows` are split evenly into parts of at most `most`."""
    parts = -(-rows // most)
    return -(-rows // parts)


def small_weights(training: TrainingSpec, ranks: int, files: ModelFiles) -> int:
    """Bytes of the tensors that ZeRO-3 does not split, where there is anybody to split with."""
    if training.deepspeed.zero_stage < 3 or ranks == 1:
        return 0
    return sum(number * width for number, width in _tensors(training, files) if number <= SMALL)


def _tensors(training: TrainingSpec, files: ModelFiles) -> Iterator[tuple[int, int]]:
    """Numbers and bytes a number of each tensor of the transformer and its adapters."""
    lora = training.model.train.lora
    width = FLOAT_BYTES if lora is None else FROZEN_BYTES[training.model.precision]
    for name, shape in files.transformer.items():
        if name not in CONSTANTS:
            yield math.prod(shape), width
    if lora is not None:
        targets = lora.target_modules or LORA_TARGETS[training.model.family]
        for shape in adapted_layers(files.transformer, targets):
            yield from ((lora.rank * side, FLOAT_BYTES) for side in shape)
