"""Human Preference Score v2.1 (arXiv 2306.09341): would people prefer this picture for this prompt?

Who calls this: `rewards/scoring.py`, as any reward. The published weights are those of OpenCLIP's ViT-H-14, tuned on
what people chose; here they are renamed for transformers' CLIPModel, which is the same network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards import weights
from g2rpo_trainer.rewards.clip import CLIP

PUBLISHED = "HPS_v2.1_compressed.pt"
_SAME = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
}
_TRANSPOSED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}
_NORMS = {
    "ln_final": "text_model.final_layer_norm",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
}
_TOWERS = {"transformer": "text_model.encoder.layers", "visual.transformer": "vision_model.encoder.layers"}
_LAYERS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK = re.compile(r"(?P<tower>(visual\.)?transformer)\.resblocks\.(?P<number>\d+)\.(?P<layer>.+)")


class HPSv2:
    """The reward `HPSv2`."""

    def __init__(self, path: str, clip: str, batch_size: int, device: torch.device) -> None:
        """Load the weights.

        Args:
            path: hub id or folder with HPS_v2.1_compressed.pt, or a file of its weights (.pt or .safetensors).
            clip: hub id or folder of the CLIP that was tuned, for its configuration and tokenizer.
            batch_size: pictures per call of the network.
            device: where it works.

        Raises:
            OSError: a file is missing, or does not hold the weights of this CLIP.
        """
        config = CLIPConfig.from_pretrained(clip, local_files_only=weights.is_local(clip))
        tokenizer = weights.load_tokenizer(CLIPTokenizer, clip)
        file = weights.locate(path, PUBLISHED)
        network = weights.network(CLIPModel, config, dict(renamed(weights.read(file))), file)
        self._clip = CLIP(network, tokenizer, batch_size, device)

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Score N pictures: float32 [N, 3, H, W] in [0, 1] to float32 [N] in [-1, 1], about .2 to .35."""
        return self._clip.similarities(images, [prompt.text for prompt in prompts])


def renamed(published: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Weights of an OpenCLIP vision transformer and its text tower, float32, by transformers' names.

    A name that is not known comes out as it is.
    """
    for name, weight in published.items():
        block = _BLOCK.fullmatch(name)
        if block:
            prefix = f"{_TOWERS[block['tower']]}.{block['number']}"
            yield from _layer(prefix, block["layer"], weight.float())
        elif name in _TRANSPOSED:
            yield _TRANSPOSED[name], weight.float().T.contiguous()
        else:
            module, _, kind = name.rpartition(".")
            known = f"{_NORMS[module]}.{kind}" if module in _NORMS else name
            yield _SAME.get(name, known), weight.float()


def _layer(prefix: str, layer: str, weight: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Queries, keys and values lie in one tensor there."""
    if layer.startswith("attn.in_proj_"):
        kind = layer.removeprefix("attn.in_proj_")
        for name, part in zip("qkv", weight.chunk(3), strict=True):
            yield f"{prefix}.self_attn.{name}_proj.{kind}", part.contiguous()
        return
    module, _, kind = layer.rpartition(".")
    yield f"{prefix}.{_LAYERS.get(module, module)}.{kind}", weight
