"""ImageReward 1.0 (arXiv 2304.05977): would people prefer this picture for this prompt?

Who calls this: `rewards/scoring.py`, as any reward. A BLIP reads the prompt while it looks at the picture: a ViT-L/16
sees, a BERT attends to what it saw, and a head of linear layers turns the BERT's first embedding into the score.

The file it reads, ImageReward.pt, holds weights under three prefixes, by the names that BLIP's authors use:
`blip.visual_encoder.` (the ViT), `blip.text_encoder.` (the BERT with cross-attention) and `mlp.` (the head); two
projections beside them have no part in the score. All sizes are read off the weights; here they are renamed for
transformers' BlipVisionModel and BlipTextModel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import BertTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards import weights
from g2rpo_trainer.rewards.clip import clip_input

PUBLISHED = "ImageReward.pt"
MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""Of the head's output over the makers' own pictures; the score is counted from there."""
MAX_TOKENS = 35
_HEAD_WIDTH = 64
"""Elements of an attention head in every published ViT and BERT; no weight tells."""
_VIT_EPSILON, _BERT_EPSILON = 1e-6, 1e-12
_VISION, _TEXT, _HEAD = "blip.visual_encoder.", "blip.text_encoder.", "mlp."
_UNUSED = ("blip.vision_proj.", "blip.text_proj.")
_SIZED_BY = (
    f"{_VISION}patch_embed.proj.weight",
    f"{_VISION}pos_embed",
    f"{_VISION}blocks.0.mlp.fc1.bias",
    f"{_TEXT}embeddings.word_embeddings.weight",
    f"{_TEXT}embeddings.position_embeddings.weight",
    f"{_TEXT}encoder.layer.0.intermediate.dense.bias",
)
"""Weights that tell how large the networks are."""
_POSITIONS = "embeddings.position_ids"
"""Not a weight: 0, 1, 2, ..."""
_VISION_NAMES = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj.weight": "embeddings.patch_embedding.weight",
    "patch_embed.proj.bias": "embeddings.patch_embedding.bias",
    "norm.weight": "post_layernorm.weight",
    "norm.bias": "post_layernorm.bias",
}
_BLOCK = re.compile(r"blocks\.(?P<number>\d+)\.(?P<layer>norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.")
_LAYERS = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


class ImageReward:
    """The reward `ImageReward`."""

    def __init__(self, path: str, tokenizer: str, batch_size: int, device: torch.device) -> None:
        """Load the weights.

        Args:
            path: hub id or folder with ImageReward.pt, or a file of its weights (.pt or .safetensors).
            tokenizer: hub id or folder of an uncased BERT, for its tokenizer.
            batch_size: pictures per call of the network.
            device: where it works.

        Raises:
            OSError: a file is missing, or does not hold an ImageReward.
        """
        self._tokenizer = weights.load_tokenizer(BertTokenizer, tokenizer)
        file = weights.locate(path, PUBLISHED)
        whole = {name: weight for name, weight in weights.read(file).items() if not name.startswith(_UNUSED)}
        parts = [_below(whole, prefix) for prefix in (_VISION, _TEXT, _HEAD)]
        if not all(parts) or sum(map(len, parts)) != len(whole):
            raise OSError(f"{file} does not hold {_VISION}*, {_TEXT}* and {_HEAD}* as {PUBLISHED} does")
        if missing := [name for name in _SIZED_BY if name not in whole]:
            raise OSError(f"{file} is no ImageReward: {missing[:3]} are missing")
        self._vision = _vision(parts[0], file).to(device)
        self._text = _text(parts[1], self._vision.config.hidden_size, file).to(device)
        self._head = weights.linear_head(parts[2], self._text.config.hidden_size, file).to(device)
        self._batch_size = batch_size
        self._device = device

    @torch.no_grad()
    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Score N pictures: float32 [N, 3, H, W] in [0, 1] to float32 [N], about -2.3 to 2."""
        texts = [prompt.text for prompt in prompts]
        starts = range(0, len(texts), self._batch_size)
        parts = [slice(start, start + self._batch_size) for start in starts]
        return torch.cat([self._scores(images[part], texts[part]) for part in parts])

    def _scores(self, images: Tensor, texts: list[str]) -> Tensor:
        pixels = clip_input(images.to(self._device), self._vision.config.image_size)
        seen = self._vision(pixel_values=pixels).last_hidden_state
        tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        read = self._text(
            input_ids=tokens.input_ids.to(self._device),
            attention_mask=tokens.attention_mask.to(self._device),
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=self._device),
        )
        return (self._head(read.last_hidden_state[:, 0]).squeeze(-1) - MEAN) / STD


def _below(whole: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Weights whose names begin with a prefix, in float32 and without it."""
    return {name.removeprefix(prefix): weight.float() for name, weight in whole.items() if name.startswith(prefix)}


def _vision(found: Mapping[str, Tensor], file: str) -> BlipVisionModel:
    patches = found["patch_embed.proj.weight"]
    width, _, _, patch = patches.shape
    config = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=len(found["blocks.0.mlp.fc1.bias"]),
        num_hidden_layers=_count(found, "blocks."),
        num_attention_heads=width // _HEAD_WIDTH,
        image_size=math.isqrt(found["pos_embed"].shape[1] - 1) * patch,
        patch_size=patch,
        layer_norm_eps=_VIT_EPSILON,
    )
    renamed = {vision_name(name): weight for name, weight in found.items()}
    return weights.network(BlipVisionModel, config, renamed, file).eval().requires_grad_(False)


def vision_name(name: str) -> str:
    """A name of BLIP's ViT as transformers spells it; one that is not known comes out as it is."""
    block = _BLOCK.match(name)
    if block is None:
        return _VISION_NAMES.get(name, name)
    return f"encoder.layers.{block['number']}.{_LAYERS[block['layer']]}.{name[block.end() :]}"


def _text(found: Mapping[str, Tensor], seen_width: int, file: str) -> BlipTextModel:
    words, width = found["embeddings.word_embeddings.weight"].shape
    config = BlipTextConfig(
        vocab_size=words,
        hidden_size=width,
        encoder_hidden_size=seen_width,
        intermediate_size=len(found["encoder.layer.0.intermediate.dense.bias"]),
        num_hidden_layers=_count(found, "encoder.layer."),
        num_attention_heads=width // _HEAD_WIDTH,
        max_position_embeddings=len(found["embeddings.position_embeddings.weight"]),
        layer_norm_eps=_BERT_EPSILON,
        bos_token_id=None,
        sep_token_id=None,
    )
    known = {name: weight for name, weight in found.items() if name != _POSITIONS}
    made = weights.network(BlipTextModel, config, known, file, add_pooling_layer=False)
    return made.eval().requires_grad_(False)


def _count(found: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered layers there are."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in found if name.startswith(prefix)})
