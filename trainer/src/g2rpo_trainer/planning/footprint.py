"""How much memory a rank needs, part by part, from shapes alone. Pure.

Who calls this: `plan.py`. What is trained is held in float32, the rest in the job's precision, as the
trainer does. Activations are left out: they depend on attention kernels and allocators, and are what the
batch settings are for. So are the rewards' networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from g2rpo_api.algorithm import FlowGRPOSettings, G2RPOSettings
from g2rpo_api.model import Precision
from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.models.facts import LORA_TARGETS
from g2rpo_trainer.planning.model_files import ModelFiles, Shapes, parameters

FLOAT_BYTES = 4
FROZEN_BYTES: dict[Precision, int] = {"Float32": 4, "BFloat16": 2}
CONSTANTS = ("pos_embed.pos_embed",)
"""Tensors that files hold beside the weights and nobody trains or splits: SD3's table of places."""
MOMENTS = 2
"""Numbers that Adam keeps per trained parameter."""


@dataclass(frozen=True)
class Footprint:
    """Bytes on one rank, and on disk per checkpoint."""

    trained_parameters: int
    transformer: int
    """Weights of the transformer and its adapters; one shard of them under ZeRO-3."""
    master_weights: int
    """The copy that ZeRO updates, this rank's share; 0 at stage 0."""
    gradients: int
    moments: int
    mean_weights: int
    """The running mean of what is trained, this rank's share under ZeRO; 0 without training.ema."""
    vae: int
    text_encoders: int
    rollout: int
    """States, velocities and pictures-to-be that a rollout keeps."""
    checkpoint: int
    """One checkpoint, over all ranks, on disk."""

    @property
    def total(self) -> int:
        """All that is on a rank during training, without activations."""
        weights = self.transformer + self.master_weights + self.vae + self.text_encoders
        return weights + self.gradients + self.moments + self.mean_weights + self.rollout


def footprint(training: TrainingSpec, ranks: int, model: ModelFiles) -> Footprint:
    """Estimate for a job on `ranks` ranks with this model."""
    stage, offloaded = training.deepspeed.zero_stage, training.deepspeed.offload_optimizer == "CPU"
    trained = trained_parameters(training, model)
    frozen = parameters(model.transformer) - (trained if training.model.train.lora is None else 0)
    frozen_bytes = FROZEN_BYTES[training.model.precision]
    width = FLOAT_BYTES if training.model.train.lora is None else frozen_bytes
    constants = width * parameters({name: shape for name, shape in model.transformer.items() if name in CONSTANTS})
    held = FLOAT_BYTES * trained + width * frozen - constants
    share, mean_bytes = -(-trained // ranks), 0 if training.ema is None else FLOAT_BYTES
    prompts = training.prompts.per_iteration // ranks
    latents = prompts * latents_per_group(training)
    elements = model.latent_elements(training.sampling.height, training.sampling.width)
    return Footprint(
        trained_parameters=trained,
        transformer=_transformer(training, held, ranks) + constants,
        master_weights=FLOAT_BYTES * share if stage >= 1 and not offloaded else 0,
        gradients=FLOAT_BYTES * (share if stage >= 2 else trained),
        moments=0 if offloaded else FLOAT_BYTES * MOMENTS * (share if stage >= 1 else trained),
        mean_weights=0 if offloaded else mean_bytes * (share if stage >= 1 else trained),
        vae=frozen_bytes * model.vae_parameters,
        text_encoders=frozen_bytes * model.text_encoder_parameters,
        rollout=FLOAT_BYTES * latents * elements,
        checkpoint=FLOAT_BYTES * trained * (1 + MOMENTS) + mean_bytes * trained,
    )


def _transformer(training: TrainingSpec, held: int, ranks: int) -> int:
    """Bytes of weights on the GPU while nothing is computed, of `held` in all; constants are on every rank."""
    if training.deepspeed.offload_parameters == "CPU":
        return 0
    return -(-held // ranks) if training.deepspeed.zero_stage == 3 else held


def trained_parameters(training: TrainingSpec, model: ModelFiles) -> int:
    """Parameters that get a gradient: all of the transformer, or the adapters' two factors per layer."""
    lora = training.model.train.lora
    if lora is None:
        return parameters({name: shape for name, shape in model.transformer.items() if name not in CONSTANTS})
    targets = lora.target_modules or LORA_TARGETS[training.model.family]
    return sum(lora.rank * sum(shape) for shape in adapted_layers(model.transformer, targets))


def adapted_layers(shapes: Shapes, targets: Sequence[str]) -> list[tuple[int, ...]]:
    """Shapes (out, in) of the linear layers whose name is a target or ends in one."""
    modules = {name.removesuffix(".weight"): shape for name, shape in shapes.items() if name.endswith(".weight")}
    return [
        shape
        for module, shape in modules.items()
        if len(shape) == 2 and any(f".{module}".endswith(f".{target}") for target in targets)
    ]


def latents_per_group(training: TrainingSpec) -> int:
    """Latents that a rollout keeps for each prompt until its update is done."""
    settings, steps = training.algorithm.settings, training.sampling.steps
    if isinstance(settings, G2RPOSettings):
        return _g2rpo_latents(settings, steps)
    return _flow_grpo_latents(settings, steps)


def _g2rpo_latents(settings: G2RPOSettings, steps: int) -> int:
    """The anchor's T + 1 states and T velocities; every branch after its step, and its ends."""
    branches = settings.stochastic_steps * settings.group_size
    return (2 * steps + 1) + branches * (1 + len(settings.granularities))


def _flow_grpo_latents(settings: FlowGRPOSettings, steps: int) -> int:
    """Both ends of every stochastic step of every member, and the members' last states."""
    return settings.group_size * (2 * settings.stochastic_count(steps) + 1)
