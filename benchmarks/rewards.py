"""What rewards cost: weights and floating-point operations of the published networks, and what HTTP adds.

    python benchmarks/rewards.py [--pictures 64] [--side 720]

The networks are built at their published sizes without memory (torch's meta device), so nothing is downloaded; the
operations are those that torch counts for one picture and one full-length prompt. HTTP is measured between the reward
client and the reward server in one process, over this machine's loopback, with a reward that costs nothing; in CPU
time, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel, CLIPConfig, CLIPModel

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards import wire
from g2rpo_trainer.rewards.http_reward import HTTPReward
from g2rpo_trainer.rewards.jpeg import JPEG
from g2rpo_trainer.rewards.service import Patience, Service
from g2rpo_trainer.rewardserver.server import Limits, RewardServer

VIT_L, VIT_H = {"hidden_size": 1024, "layers": 24, "heads": 16}, {"hidden_size": 1280, "layers": 32, "heads": 16}
TOKENS, BERT_TOKENS = 77, 35
GIB = 2**30


def tower(hidden_size: int, layers: int, heads: int, **more: Any) -> dict[str, Any]:
    """The part of a configuration that describes a transformer."""
    return {
        "hidden_size": hidden_size,
        "intermediate_size": 4 * hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        **more,
    }


def clip(vision: dict[str, int], patch: int, text: dict[str, int], joint: int) -> CLIPModel:
    return CLIPModel(
        CLIPConfig(
            vision_config=tower(**vision, patch_size=patch, projection_dim=joint),
            text_config=tower(**text, projection_dim=joint),
            projection_dim=joint,
        )
    )


def image_reward() -> tuple[BlipVisionModel, BlipTextModel]:
    vision = BlipVisionModel(BlipVisionConfig(**tower(**VIT_L, image_size=224, patch_size=16)))
    text = BlipTextConfig(encoder_hidden_size=1024, num_attention_heads=12)
    return vision, BlipTextModel(text, add_pooling_layer=False)


def cost(networks: Sequence[torch.nn.Module], call: Callable[[], object]) -> dict[str, float]:
    parameters = sum(weight.numel() for network in networks for weight in network.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    flops = counter.get_total_flops()
    return {"million weights": round(parameters / 1e6), "GiB": 4 * parameters / GIB, "GFLOP a picture": flops / 1e9}


def networks() -> dict[str, dict[str, float]]:
    """Costs by reward, on the meta device."""
    with torch.device("meta"):
        picture, words = torch.zeros(1, 3, 224, 224), torch.zeros(1, TOKENS, dtype=torch.long)
        huge = clip(VIT_H, 14, {"hidden_size": 1024, "layers": 24, "heads": 16}, 1024)
        large = clip(VIT_L, 14, {"hidden_size": 768, "layers": 12, "heads": 12}, 768)
        sees, reads = image_reward()
        short = torch.zeros(1, BERT_TOKENS, dtype=torch.long)

        def read() -> object:
            seen = sees(pixel_values=picture).last_hidden_state
            return reads(input_ids=short, encoder_hidden_states=seen)

        return {
            "HPSv2, PickScore, CLIPScore (ViT-H/14)": cost([huge], lambda: huge(input_ids=words, pixel_values=picture)),
            "ImageReward": cost([sees, reads], read),
            "Aesthetic": cost(
                [large.vision_model, large.visual_projection], lambda: large.get_image_features(pixel_values=picture)
            ),
        }


class Nothing:
    """A reward without a cost of its own."""

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        return torch.zeros(len(prompts))


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds of this process in the cheapest of some runs."""
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


def over_http(pictures: int, side: int) -> dict[str, float]:
    """Milliseconds and bytes a picture: smooth pictures with some noise, as a model draws them."""
    noise = torch.Generator().manual_seed(0)
    coarse = torch.rand(pictures, 3, 12, 12, generator=noise)
    images = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    images = (images + 0.02 * torch.randn(images.shape, generator=noise)).clamp(0, 1)
    ask = [Prompt(i, "a photo", {}) for i in range(pictures)]
    server = RewardServer(Nothing(), None, Limits(64, 0.0, 2**30), "127.0.0.1", 0)
    client = HTTPReward(Service(f"http://127.0.0.1:{server.port}", None, Patience(600.0, 0)), 64)
    try:
        there_and_back = seconds(lambda: client.score(images, ask))
    finally:
        server.close()
    sent = len(json.dumps(wire.question(images, ask)))
    return {
        "ms a picture": 1000 * there_and_back / pictures,
        "ms of it packing": 1000 * seconds(lambda: wire.question(images, ask)) / pictures,
        "kB a picture": sent / 1000 / pictures,
        "ms a picture of the reward JPEG": 1000
        * seconds(lambda: JPEG("Compressibility").score(images, ask))
        / pictures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What rewards cost.")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--side", type=int, default=720, help="pixels")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, found in networks().items():
        print(f"{name:42}" + "   ".join(f"{value:.4g} {unit}" for unit, value in found.items()))
    found = over_http(options.pictures, options.side)
    print(
        f"HTTP, {options.side} x {options.side}: " + "   ".join(f"{value:.3g} {unit}" for unit, value in found.items())
    )


if __name__ == "__main__":
    main()
