"""What the paper's run costs, without running it: FLUX.1-dev at 720 x 720 on 16 GPUs, G = 12, |M| = 8, {1, 2, 3}.

    python benchmarks/paper.py [--flops 989e12] [--utilisation 0.4] [--bandwidth 50e9] [--json FILE]

Counts model calls, operations, memory and what ranks send, for the sample job flux1-hps.yaml and for changes of it,
from the model's own code on tensors that are sizes only. Times are projections for a card of this speed (989e12: H100
SXM in bfloat16, dense) at this utilisation, with so many bytes a second between ranks; nothing of them is measured.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from common import SAMPLES

from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import parse_job
from g2rpo_trainer.planning.estimates import MemoryEstimate
from g2rpo_trainer.planning.memory import estimate
from g2rpo_trainer.planning.plan import count
from g2rpo_trainer.planning.sizes import size_text
from g2rpo_trainer.planning.sketch import sketch
from g2rpo_trainer.planning.work import CallCost, call_cost, work

G2RPO = "algorithm.g2rpo"
LORA = {"type": "LoRA", "lora": {"rank": 64, "alpha": 128}}
COSTS: dict[str, CallCost] = {}
MEMORY: dict[str, MemoryEstimate] = {}
"""Latents of a rollout, which other settings change too, are a hundredth of it."""
VARIANTS: dict[str, dict[str, Any]] = {
    "the paper's, ZeRO-3": {},
    "granularities {1,2}": {f"{G2RPO}.granularities": [1, 2]},
    "granularities {1}": {f"{G2RPO}.granularities": [1]},
    "groups of 8": {f"{G2RPO}.groupSize": 8},
    "4 stochastic steps": {f"{G2RPO}.stochasticSteps": 4},
    "512 x 512 pixels": {"sampling.height": 512, "sampling.width": 512},
    "10 steps": {"sampling.steps": 10, f"{G2RPO}.stochasticSteps": 5},
    "rollout batches of 48": {"sampling.maxBatch": 48},
    "LoRA, ZeRO-0": {"model.train": LORA, "deepspeed.zeroStage": 0},
}


def job_with(changes: Mapping[str, Any]) -> G2RPOJob:
    document = copy.deepcopy(yaml.safe_load((SAMPLES / "flux1-hps.yaml").read_text()))
    for path, value in changes.items():
        *parents, key = path.split(".")
        place = document["spec"]["training"]
        for parent in parents:
            place = place[parent]
        place[key] = value
    return parse_job(document)


def key_of(job: G2RPOJob, more: Sequence[str]) -> str:
    """What a single call's cost depends on: the model, the size of pictures, and `more` of the sampling."""
    data = job.spec.training.model_dump(mode="json", by_alias=True)
    sampling = {name: data["sampling"][name] for name in ("height", "width", *more)}
    return json.dumps([data["model"], sampling, data["deepspeed"]])


def once(known: dict[str, Any], key: str, make: Callable[[], Any]) -> Any:
    """The dry run of a gradient takes half a minute: what was found for a key is used again."""
    if key not in known:
        known[key] = make()
    return known[key]


def examine(changes: Mapping[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    job = job_with(changes)
    plan, drawn = count(job), sketch(job.spec.training)
    assert drawn is not None
    cost = once(COSTS, key_of(job, ()), lambda: call_cost(drawn))
    memory = once(MEMORY, key_of(job, ("maxBatch", "maxDecodeBatch")), lambda: estimate(drawn, plan.ranks))
    done = work(drawn, plan, cost)
    speed = given.flops * given.utilisation
    return {
        "model calls of a rank": plan.prompts_per_rank * plan.group.calls,
        "pictures of a rank": plan.prompts_per_rank * plan.group.images,
        "TFLOP of a call": cost.forward / 1e12,
        "TFLOP of a forward-backward": cost.forward_backward / 1e12,
        "TFLOP of decoding a picture": cost.decode / 1e12,
        "PFLOP of an iteration and rank": done.flops / 1e15,
        "share of rollout": done.forward_flops / done.flops,
        "GB sent by a rank": done.sent_bytes / 1e9,
        "bytes at most": memory.total,
        "worst phase": memory.worst,
        "phases": dict(memory.phases),
        "resident": dict(memory.resident),
        "seconds computing": done.flops / speed,
        "seconds sending": done.sent_bytes / given.bandwidth,
        "days of the run": job.spec.training.iterations
        * done.seconds(given.flops, given.utilisation, given.bandwidth)
        / 86400,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flops", type=float, default=989e12, help="operations a second of the card")
    parser.add_argument("--utilisation", type=float, default=0.4, help="share of it that is reached")
    parser.add_argument("--bandwidth", type=float, default=50e9, help="bytes a second from a rank to the next")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = {}
    head = ("calls", "pictures", "PFLOP", "rollout", "sent GB", "memory", "phase", "comp. s", "send s", "days")
    print(f"{'':28}" + "".join(f"{name:>11}" for name in head))
    for name, changes in VARIANTS.items():
        row = rows[name] = examine(changes, given)
        print(
            f"{name:28}{row['model calls of a rank']:>11,}{row['pictures of a rank']:>11}"
            f"{row['PFLOP of an iteration and rank']:>11.1f}{row['share of rollout']:>11.1%}"
            f"{row['GB sent by a rank']:>11,.0f}{size_text(row['bytes at most']):>11}{row['worst phase']:>11}"
            f"{row['seconds computing']:>11.0f}{row['seconds sending']:>11.0f}{row['days of the run']:>11.2f}",
            flush=True,
        )
    first = next(iter(rows.values()))
    print("one call: " + ", ".join(f"{first[name]:.1f} {name}" for name in first if name.startswith("TFLOP")))
    if given.json:
        given.json.write_text(
            json.dumps(
                {
                    "assumed": {"flops": given.flops, "utilisation": given.utilisation, "bandwidth": given.bandwidth},
                    "jobs": rows,
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
