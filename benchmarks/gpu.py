"""An iteration of FLUX.1-dev at its real size on the CUDA card of this machine, with random weights.

    python benchmarks/gpu.py [--compile] [--peak-flops 989e12] [--iterations 3] [--json FILE]

A pipeline folder is written (24 GB in bfloat16; text encoders of one layer, since prompts are encoded once and before
training) and trained by LoRA in bfloat16 for some iterations, with the size of the picture's JPEG as its reward, which
costs no GPU. Told are seconds by phase of the last iteration, the most memory that torch held beside the estimate, and
the share of the card's speed that was reached (MFU). The program fails where estimate and memory differ by more than
15 %. Where there is no card it says so and measures nothing; `--tiny` takes a small model on whatever there is, to try
the program.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from common import SAMPLES
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from memory import VAE, text_parts

from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import parse_job
from g2rpo_trainer import __main__ as trainer
from g2rpo_trainer.planning.estimates import TOLERANCE
from g2rpo_trainer.planning.memory import estimate
from g2rpo_trainer.planning.plan import count
from g2rpo_trainer.planning.published import PUBLISHED
from g2rpo_trainer.planning.sizes import size_text
from g2rpo_trainer.planning.sketch import sketch
from g2rpo_trainer.planning.work import call_cost, work
from g2rpo_trainer.runfolder import RunFolder

FLUX = PUBLISHED["black-forest-labs/FLUX.1-dev"]
TINY: dict[str, Any] = {
    "num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2, "attention_head_dim": 32, "in_channels": 16,
    "axes_dims_rope": (8, 12, 12), "guidance_embeds": True,
}  # fmt: skip
CLIP_WIDTH, T5_WIDTH = 768, 4096


def write_pipeline(folder: Path, tiny: bool, device: torch.device) -> None:
    """A folder as diffusers saves it, with whatever weights the classes begin with."""
    config = TINY if tiny else FLUX.transformer
    widths = {"joint_attention_dim": T5_WIDTH, "pooled_projection_dim": CLIP_WIDTH}
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            transformer = FluxTransformer2DModel(**{**config, **widths})
            vae = AutoencoderKL(**(VAE if tiny else dict(FLUX.vae)))
    finally:
        torch.set_default_dtype(torch.float32)
    parts = text_parts(1, CLIP_WIDTH, T5_WIDTH)
    FluxPipeline(
        transformer=transformer, vae=vae, scheduler=FlowMatchEulerDiscreteScheduler(), **parts
    ).save_pretrained(folder)


def job_of(folder: Path, given: argparse.Namespace) -> G2RPOJob:
    """The FLUX.1 sample with adapters, on one rank with one prompt."""
    document = copy.deepcopy(yaml.safe_load((SAMPLES / "flux1-hps-lora.yaml").read_text()))
    document["spec"]["workers"] = {"nodes": 1, "processesPerNode": 1}
    training = document["spec"]["training"]
    (folder / "prompts.txt").write_text("a red fox in the snow\na lighthouse at dusk\n")
    training["iterations"] = given.iterations
    training["model"] |= {"path": str(folder), "compile": given.compile}
    training["prompts"] = {"path": str(folder / "prompts.txt"), "perIteration": 1}
    training["rewards"] = [{"name": "small-file", "type": "JPEG"}]
    training["evaluation"] = {"everyIterations": given.iterations, "maxPrompts": 1}
    training["checkpoint"] = {"everyIterations": given.iterations}
    training["deepspeed"] = {}
    training.pop("stop", None)
    if given.tiny:
        training["sampling"] |= {"height": 64, "width": 64}
    return parse_job(document)


def measure(job: G2RPOJob, runs: Path, peak_flops: float) -> dict[str, Any]:
    """Train, and compare with what was planned."""
    planned = sketch(job.spec.training)
    assert planned is not None, "a folder is always known"
    plan, expected = count(job), estimate(planned, 1)
    flops = work(planned, plan, call_cost(planned)).flops
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        gc.collect()  # the pipeline that was written
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    written = runs / "job.yaml"
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_text(job.model_dump_json(by_alias=True))
    if trainer.main([str(written), "--runs", str(runs), "--port", "0"]) != 0:
        raise SystemExit("the run failed; see above")
    last = RunFolder(runs / job.metadata.name).records()[-1]
    busy = sum(last.seconds.get(phase, 0.0) for phase in ("rollout", "decode", "train", "reward"))
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "seconds": dict(last.seconds),
        "step_seconds": last.step_seconds,
        "memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "estimated_bytes": expected.total,
        "flops": flops,
        "mfu": flops / busy / peak_flops if on_gpu else None,
    }


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    rows = [("card", found["device"]), ("iteration", f"{found['step_seconds']:.1f} s")]
    rows += [(f"  {phase}", f"{seconds:.1f} s") for phase, seconds in found["seconds"].items()]
    rows.append(("memory, estimated", size_text(found["estimated_bytes"])))
    if found["memory_bytes"] is not None:
        rows.append(("memory, measured", f"{size_text(found['memory_bytes'])}, {off(found):.1%} off"))
        rows.append(("MFU", f"{found['mfu']:.1%}"))
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def off(found: dict[str, Any]) -> float:
    """How far the estimate is from what was measured; 0 where nothing was."""
    measured = found["memory_bytes"]
    return abs(found["estimated_bytes"] / measured - 1) if measured else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    parser.add_argument("--peak-flops", type=float, default=989e12, help="of the card; 989e12 is an H100 in bfloat16")
    parser.add_argument("--iterations", type=int, default=3, help="the last of them is told")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tiny", action="store_true", help="a small model on whatever there is")
    given = parser.parse_args()
    if not torch.cuda.is_available() and not given.tiny:
        print("no CUDA card here: nothing was measured")
        return 0
    with tempfile.TemporaryDirectory() as place:
        folder, runs = Path(place) / "model", Path(place) / "runs"
        write_pipeline(folder, given.tiny, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        found = measure(job_of(folder, given), runs, given.peak_flops)
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    return 0 if off(found) <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
