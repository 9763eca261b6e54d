"""Human Preference Score v2.1 (arXiv 2306.09341): would people prefer this picture for this prompt?

Who calls this: `rewards/scoring.py`, as any reward. The published weights are those of OpenCLIP's ViT-H-14, tuned on
what people chose; here they are renamed for transformers' CLIPModel, which is the same network.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.modeling_utils import load_state_dict
from transformers.utils import cached_file

from g2rpo_trainer.records import Prompt
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
        local = Path(clip).is_dir()
        config = CLIPConfig.from_pretrained(clip, local_files_only=local)
        tokenizer = CLIPTokenizer.from_pretrained(clip, local_files_only=local)
        file = path if Path(path).is_file() else cached_file(path, PUBLISHED)
        self._clip = CLIP(_network(config, file), tokenizer, batch_size, device)

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Score N pictures: float32 [N, 3, H, W] in [0, 1] to float32 [N] in [-1, 1], about .2 to .35."""
        return self._clip.similarities(images, [prompt.text for prompt in prompts])


def _network(config: CLIPConfig, file: str) -> CLIPModel:
    weights = dict(renamed(_read(file)))
    try:
        network, report = CLIPModel.from_pretrained(None, config=config, state_dict=weights, output_loading_info=True)
    except RuntimeError as error:
        raise OSError(f"{file} holds a CLIP of other sizes than the configuration says: {error}") from error
    if report["missing_keys"] or report["unexpected_keys"]:
        raise OSError(
            f"{file} is not the CLIP of the configuration: {sorted(report['missing_keys'])[:3]} are missing, "
            f"{sorted(report['unexpected_keys'])[:3]} are not known"
        )
    return network


def _read(file: str) -> Mapping[str, Tensor]:
    """Weights in a file, without running what a pickle may hold."""
    try:
        content = load_state_dict(file)
    except (pickle.UnpicklingError, ValueError, RuntimeError, EOFError) as error:
        raise OSError(f"{file} cannot be read as weights: {error}; download it again") from error
    return content.get("state_dict", content)  # published beside what the training had to say


def renamed(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Weights of an OpenCLIP vision transformer and its text tower, float32, by transformers' names.

    A name that is not known comes out as it is.
    """
    for name, weight in weights.items():
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
