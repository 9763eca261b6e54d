"""Is the memory estimate right? Small FLUX.1 and SD3 models, measured allocation by allocation.

    python benchmarks/memory.py [--json FILE] [--quick] [--family SD3] [--size medium] [--split 2 1]

For each model, way of training, precision, checkpointing, ZeRO stage and number of ranks a job is built and makes three
optimizer steps in processes of its own. What is measured: after two of them the peaks of a rollout's batch, of decoding
and of the third step, as torch's profiler notes every allocation of the CPU allocator, and at last the tensors that are
alive when all that is over; of several ranks that of the one with most. The estimate comes from shapes alone. The
program fails where they differ by more than 15 %.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("KINETO_LOG_LEVEL", "5")

import torch
from common import built, on_ranks
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from torch.profiler import ProfilerActivity, profile
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import parse_job
from g2rpo_trainer.engine import World
from g2rpo_trainer.miniature.vocabulary import clip_tokenizer, t5_tokenizer
from g2rpo_trainer.planning.estimates import TOLERANCE, MemoryEstimate
from g2rpo_trainer.planning.memory import estimate
from g2rpo_trainer.planning.sketch import sketch
from g2rpo_trainer.rewards import registry
from g2rpo_trainer.run import Run

HEAD = 32
"""Width of an attention head."""
CLIP_WIDTH, T5_WIDTH = 24, 48
VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (16, 32),
    "latent_channels": 4,
    "norm_num_groups": 4,
    "scaling_factor": 0.4,
    "shift_factor": 0.2,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
SIZES = {"small": (4, 2), "medium": (6, 4), "large": (10, 5)}
"""Attention heads and blocks."""
FAMILIES = ("Flux1", "SD3")
WAYS = tuple(product(("LoRA", "Full"), ("Float32", "BFloat16"), (False, True)))
"""What is trained, in what precision, with checkpointing or without."""
WIDEST = (("LoRA", "BFloat16", True), ("Full", "Float32", False), ("Full", "BFloat16", True))
"""The ways that differ most, for the larger sizes."""
SHARED = "medium"
"""The size that is split."""
SPLIT = ((1, 3), (2, 1), (2, 2), (2, 3))
"""Ranks and ZeRO stages."""
MEBI = 2**20


class Brightness:
    """A reward that allocates next to nothing."""

    def score(self, images: torch.Tensor, prompts: Any) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3))


def text_parts(clips: int, clip_width: int = CLIP_WIDTH, t5_width: int = T5_WIDTH) -> dict[str, Any]:
    """CLIPs and a T5 with their tokenizers, as small as they get."""
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    ids = {"bos_token_id": clip.bos_token_id, "eos_token_id": clip.eos_token_id, "pad_token_id": clip.pad_token_id}
    widths = {"hidden_size": clip_width, "intermediate_size": clip_width, "num_hidden_layers": 1}
    config = CLIPTextConfig(vocab_size=len(clip), num_attention_heads=2, projection_dim=clip_width, **widths, **ids)
    kind = CLIPTextModel if clips == 1 else CLIPTextModelWithProjection
    long = T5Config(vocab_size=len(t5), d_model=t5_width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, use_cache=False)
    names = ["", "_2"][:clips]
    parts: dict[str, Any] = {f"text_encoder{name}": kind(config) for name in names}
    parts |= {f"tokenizer{name}": clip_tokenizer() for name in names}
    last = f"_{clips + 1}"
    return parts | {f"text_encoder{last}": T5EncoderModel(long), f"tokenizer{last}": t5}


def pipeline(family: str, size: str) -> Any:
    heads, blocks = SIZES[size]
    common = {"scheduler": FlowMatchEulerDiscreteScheduler(), "vae": AutoencoderKL(**VAE)}
    sizes = {"num_layers": blocks, "num_attention_heads": heads, "attention_head_dim": HEAD}
    if family == "Flux1":
        transformer = FluxTransformer2DModel(
            in_channels=16, num_single_layers=2 * blocks, joint_attention_dim=T5_WIDTH,
            pooled_projection_dim=CLIP_WIDTH, axes_dims_rope=(8, 12, 12), guidance_embeds=True, **sizes,
        )  # fmt: skip
        return FluxPipeline(transformer=transformer, **common, **text_parts(1))
    transformer = SD3Transformer2DModel(
        sample_size=64, patch_size=2, in_channels=4, out_channels=4, pos_embed_max_size=64,
        joint_attention_dim=T5_WIDTH, caption_projection_dim=heads * HEAD,
        pooled_projection_dim=2 * CLIP_WIDTH, **sizes,
    )  # fmt: skip
    return StableDiffusion3Pipeline(transformer=transformer, **common, **text_parts(2))


@dataclass(frozen=True)
class Case:
    family: str
    size: str
    train: str
    precision: str
    checkpointing: bool
    zero_stage: int = 0
    ranks: int = 1

    @property
    def label(self) -> str:
        ways = [self.family, self.size, self.train, self.precision, "checkpointing" * self.checkpointing]
        split = f"ZeRO-{self.zero_stage} on {self.ranks}" if self.zero_stage else ""
        return " ".join(filter(None, [*ways, split]))

    def document(self, folder: Path, prompts: Path) -> dict[str, Any]:
        model = {
            "family": self.family, "path": str(folder), "precision": self.precision, "maxSequenceLength": 16,
            "gradientCheckpointing": self.checkpointing, "train": {"type": self.train},
        }  # fmt: skip
        training = {
            "iterations": 2,
            "model": model,
            "prompts": {"path": str(prompts), "perIteration": 4},
            "sampling": {"steps": 4, "height": 64, "width": 64, "maxBatch": 8, "maxDecodeBatch": 8},
            "algorithm": {"type": "G2RPO", "g2rpo": {"groupSize": 4, "stochasticSteps": 3, "granularities": [1]}},
            "rewards": [{"name": "brightness", "type": "JPEG"}],
            "optimizer": {"maxBatch": 4},
            "deepspeed": {"zeroStage": self.zero_stage},
        }
        return {
            "apiVersion": "g2rpo.dev/v1alpha1", "kind": "G2RPOJob", "metadata": {"name": "memory"},
            "spec": {"training": training},
        }  # fmt: skip


@dataclass(frozen=True)
class Traced:
    """Bytes that torch allocated on the CPU, beside what was there before."""

    peak: int
    kept: int


def traced(act: Callable[[], object]) -> Traced:
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        act()
        gc.collect()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return Traced(peak, live)


def alive() -> int:
    """Bytes of all tensors on the CPU.

    A sum of the profiler's events would do, were it not for what gloo's threads free, which the profiler does not see.
    """
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    tensors += [tensor.grad for tensor in tensors if tensor.is_leaf and tensor.grad is not None]
    storages = [tensor.untyped_storage() for tensor in tensors if tensor.device.type == "cpu"]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def measure(world: World, job: G2RPOJob, runs: Path) -> dict[str, int]:
    """By phase, on this rank; then what stays when it is over."""
    registry.REWARDS["JPEG"] = lambda *_: Brightness()
    before = alive()
    run = built(job, world, runs).run
    found = peaks(run, job.spec.training.sampling.max_batch)
    return {**found, "resident": alive() - before}


def peaks(run: Run, rows: int) -> dict[str, int]:
    """By phase, of a run that has made two optimizer steps."""
    policy = run.model.on([prompt.text for prompt in run.batch(1).prompts])
    x = torch.zeros(rows, *policy.latent_shape)
    losses = iter(run.algorithm.losses(policy, run.algorithm.collect(policy, run.batch(1), run.scorer)))
    # the first step makes the moments; from the second, ZeRO-3 learns in what order weights are used
    optimizer_step(run, losses)
    optimizer_step(run, losses)
    with torch.no_grad():
        rollout = traced(lambda: policy.velocity(x, torch.full((rows,), 0.5), torch.zeros(rows).long()))
        decoding = traced(lambda: run.scorer.images(x))
    update = traced(lambda: optimizer_step(run, losses))
    # what a rollout leaves, which are weights that ZeRO-3 will use again, is there in the phases after it
    return {
        "rollout": rollout.peak,
        "decoding": rollout.kept + decoding.peak,
        "update": rollout.kept + update.peak,
    }


def optimizer_step(run: Run, losses: Iterator[Any]) -> None:
    for loss in losses:
        run.engine.backward(loss.value)
        if loss.boundary:
            run.engine.step()
            return


def expected(planned: MemoryEstimate) -> dict[str, int]:
    """The estimate in the parts that are measured: an update with its step; what a rollout keeps is not there yet."""
    resident = sum(size for name, size in planned.resident.items() if name != "latents")
    phases = dict(planned.phases)
    step = phases.pop("optimizer step")
    return {**phases, "update": max(phases["update"], step), "resident": resident}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="the small models only")
    parser.add_argument("--size", choices=SIZES, action="append", help="only this one")
    parser.add_argument(
        "--split", type=int, nargs=2, metavar=("RANKS", "STAGE"), help="only so many ranks and this stage"
    )
    parser.add_argument("--family", choices=FAMILIES, action="append", help="only this one")
    given = parser.parse_args()
    sizes = ["small"] if given.quick else given.size or list(SIZES)
    rows: list[dict[str, Any]] = []
    print(f"{'':58}" + "".join(f"{name:>22}" for name in ("resident", "rollout", "decoding", "update", "total")))
    for family, size in product(given.family or FAMILIES, sizes):
        with tempfile.TemporaryDirectory() as folder:
            pipeline(family, size).save_pretrained(folder)
            rows += [examine(case, Path(folder)) for case in cases(family, size, given)]
    worst = max(row["total"]["off"] for row in rows)
    print(f"{'kept' if worst <= TOLERANCE else 'BROKEN':8}totals within {TOLERANCE:.0%}: worst {worst:.1%}")
    if given.json:
        given.json.write_text(json.dumps({"bytes": rows}, indent=1))
    return 0 if worst <= TOLERANCE else 1


def cases(family: str, size: str, given: argparse.Namespace) -> Iterator[Case]:
    """One rank at stage 0 and, of one size, ranks that split."""
    ways = WAYS if size == "small" else WIDEST
    wanted = [(1, 0), *(SPLIT if size == SHARED else ())]
    if given.split:
        wanted = [given.split]
    for ranks, stage in wanted:
        yield from (Case(family, size, *way, stage, ranks) for way in ways)


def examine(case: Case, folder: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        prompts = Path(place) / "prompts.txt"
        prompts.write_text("the number 1 2\nthe number 3 4\nthe number 5 6\nthe number 7 8\n")
        job = parse_job(case.document(folder, prompts))
        ranks = on_ranks(case.ranks, measure, job, Path(place))
        planned = sketch(job.spec.training)
    assert planned is not None, "a folder is always known"
    found = {name: max(rank[name] for rank in ranks) for name in ranks[0]}
    wanted = expected(estimate(planned, case.ranks))
    for sizes in (found, wanted):
        sizes["total"] = sizes["resident"] + max(sizes["rollout"], sizes["decoding"], sizes["update"])
    row: dict[str, Any] = {
        name: {"estimated": wanted[name], "measured": found[name], "off": abs(wanted[name] / found[name] - 1)}
        for name in ("resident", "rollout", "decoding", "update", "total")
    }
    cells = (f"{one['estimated'] / MEBI:8.1f}/{one['measured'] / MEBI:7.1f}{one['off']:+6.0%}" for one in row.values())
    print(f"{case.label:58}" + "".join(cells), flush=True)
    return {"case": case.label, **row}


if __name__ == "__main__":
    sys.exit(main())
