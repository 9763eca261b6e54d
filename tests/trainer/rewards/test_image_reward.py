"""ImageReward with small random weights, against a BLIP of torch's own layers and against PIL.

The other BLIP is written from the papers' description (ViT, arXiv 2010.11929; BERT, arXiv 1810.04805; BLIP's
cross-attention between a layer's self-attention and its two dense layers, arXiv 2201.12086), weights by the names of
the published file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import BertTokenizer

from g2rpo_api.rewards import RewardSpec
from g2rpo_trainer.errors import RewardError
from g2rpo_trainer.rewards.image_reward import MEAN, STD
from g2rpo_trainer.rewards.registry import build_reward
from testtrainer.pictures import TEXTS, pictures, prompts, seen_by_pil

CPU = torch.device("cpu")
SIZE, PATCH, SEEN, WIDTH, POSITIONS = 32, 8, 128, 64, 40
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "number", "a", "very", "long", "prompt", "that", *"0123456789"]
LONG = "the number " + " ".join("0123456789" * 8)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Softmax attention by its formula, [N, tokens, width]."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


class Dense(nn.Module):
    """A dense layer by the name `dense`, with the norm that follows the residual where there is one."""

    def __init__(self, into: int, out: int, norm: bool = True) -> None:
        super().__init__()
        self.dense = nn.Linear(into, out)
        if norm:
            self.LayerNorm = nn.LayerNorm(out, eps=1e-12)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + residual)


class BertAttention(nn.Module):
    def __init__(self, seen: int) -> None:
        super().__init__()
        layers = {"query": nn.Linear(WIDTH, WIDTH), "key": nn.Linear(seen, WIDTH), "value": nn.Linear(seen, WIDTH)}
        self.add_module("self", nn.ModuleDict(layers))
        self.output = Dense(WIDTH, WIDTH)

    def forward(self, x: Tensor, of: Tensor) -> Tensor:
        parts = self.get_submodule("self")
        a = attend(parts["query"](x), parts["key"](of), parts["value"](of), WIDTH // 64)
        return self.output(a, x)


class BertLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.crossattention = BertAttention(WIDTH), BertAttention(SEEN)
        self.intermediate, self.output = Dense(WIDTH, 96, norm=False), Dense(96, WIDTH)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        x = self.crossattention(self.attention(x, x), seen)
        return self.output(nn.functional.gelu(self.intermediate.dense(x)), x)


class Bert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(len(WORDS), WIDTH),
                "position_embeddings": nn.Embedding(POSITIONS, WIDTH),
                "LayerNorm": nn.LayerNorm(WIDTH, eps=1e-12),
            }
        )
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList([BertLayer() for _ in range(3)])})

    def forward(self, ids: Sequence[int], seen: Tensor) -> Tensor:
        """The first token's embedding of one text, given without padding."""
        words = self.embeddings["word_embeddings"](torch.tensor([ids]))
        x = self.embeddings["LayerNorm"](words + self.embeddings["position_embeddings"].weight[: len(ids)])
        for layer in self.encoder["layer"]:
            x = layer(x, seen)
        return x[:, 0]


class VitBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(SEEN, eps=1e-6), nn.LayerNorm(SEEN, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(SEEN, 3 * SEEN), "proj": nn.Linear(SEEN, SEEN)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(SEEN, 160), "fc2": nn.Linear(160, SEEN)})

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.attn["qkv"](self.norm1(x)).chunk(3, dim=-1)
        x = x + self.attn["proj"](attend(q, k, v, SEEN // 64))
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))


class Vit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, SEEN))
        self.pos_embed = nn.Parameter(torch.empty(1, (SIZE // PATCH) ** 2 + 1, SEEN))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, SEEN, PATCH, PATCH)})
        self.blocks = nn.ModuleList([VitBlock() for _ in range(2)])
        self.norm = nn.LayerNorm(SEEN, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(pixels), 1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Blip(nn.Module):
    """The published network: what it computes from a prepared picture and the ids of a prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.blip = nn.ModuleDict({"visual_encoder": Vit(), "text_encoder": Bert()})
        layers = [nn.Linear(WIDTH, 24), nn.Dropout(0.2), nn.Linear(24, 8), nn.Dropout(0.1), nn.Linear(8, 1)]
        self.mlp = nn.ModuleDict({"layers": nn.Sequential(*layers)})
        noise = torch.Generator().manual_seed(0)
        for name, weight in self.named_parameters():
            std = 0.3 if weight.dim() == 1 else 2 / weight[0].numel() ** 0.5
            nn.init.normal_(weight, mean=float("norm" in name.lower()), std=std, generator=noise)

    @torch.no_grad()
    def forward(self, pixels: Tensor, ids: Sequence[int]) -> float:
        read = self.blip["text_encoder"](ids, self.blip["visual_encoder"](pixels.unsqueeze(0)))
        return (self.mlp["layers"](read).item() - 0.16717362830052426) / 1.0333394966054072


@pytest.fixture(scope="module")
def reference() -> Blip:
    return Blip().eval()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer.from_pretrained(folder, local_files_only=True).save_pretrained(folder)
    return folder


Build = Callable[..., Any]


@pytest.fixture
def image_reward(reference: Blip, tokenizer: Path, tmp_path: Path) -> Build:
    """The reward as a job names it, from a file as it was published: with what the score does not need, too."""

    def build(name: str = "ImageReward.pt", weights: dict[str, Tensor] | None = None, **spec: Any) -> Any:
        unused = {"blip.text_encoder.embeddings.position_ids": torch.arange(POSITIONS).unsqueeze(0)}
        for side, width in (("vision", SEEN), ("text", WIDTH)):
            unused |= {f"blip.{side}_proj.weight": torch.zeros(4, width), f"blip.{side}_proj.bias": torch.zeros(4)}
        whole = dict(reference.state_dict()) | unused if weights is None else weights
        if name.endswith(".pt"):
            torch.save(whole, tmp_path / name)
        else:
            save_file(whole, tmp_path / name)
        path = tmp_path if name == "ImageReward.pt" else tmp_path / name
        settings = {"path": str(path), "tokenizer": str(tokenizer)}
        return build_reward(RewardSpec(name="ir", type="ImageReward", image_reward=settings, **spec), CPU).reward

    return build


def ids_of(text: str) -> list[int]:
    """Ids of a prompt of known words, by hand: at most 35 with [CLS] and [SEP]."""
    words = text.split()[:33]
    return [WORDS.index("[CLS]"), *(WORDS.index(w) if w in WORDS else 1 for w in words), WORDS.index("[SEP]")]


def expected(reference: Blip, images: Tensor, texts: Sequence[str]) -> Tensor:
    pairs = zip(images, texts, strict=True)
    return torch.tensor([reference(seen_by_pil(image, SIZE), ids_of(text)) for image, text in pairs])


@pytest.mark.parametrize("name", ["ImageReward.pt", "own.pt", "own.safetensors"])
def test_it_scores_as_the_published_network_does(name: str, image_reward: Build, reference: Blip) -> None:
    images = pictures(4, SIZE, SIZE)
    scores = image_reward(name).score(images, prompts())
    wanted = expected(reference, images, TEXTS)
    assert scores.dtype == torch.float32
    assert wanted.std() > 0.1
    assert torch.allclose(scores, wanted, atol=1e-4, rtol=1e-4)


def test_pictures_of_any_shape_are_prepared_as_pil_prepares_them(image_reward: Build, reference: Blip) -> None:
    images = pictures(4, 90, 70)
    wanted = expected(reference, images, TEXTS)
    assert (image_reward().score(images, prompts()) - wanted).abs().max() < 0.1 * wanted.std()


def test_picture_and_prompt_both_matter(image_reward: Build) -> None:
    images = pictures(2, SIZE, SIZE)
    a, b = image_reward().score(images, prompts(["the number 0", "the number 0"])).tolist()
    c, d = image_reward().score(images, prompts(["the number 1", "a 0"])).tolist()
    assert len({round(score, 3) for score in (a, b, c, d)}) == 4


def test_of_long_prompts_the_first_35_tokens_count(image_reward: Build, reference: Blip) -> None:
    images = pictures(1, SIZE, SIZE)
    score = image_reward().score(images, prompts([LONG]))
    assert len(ids_of(LONG)) == 35 < len(LONG.split())
    assert torch.allclose(score, expected(reference, images, [LONG]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_batch_size_and_the_others_in_it_change_no_score(batch_size: int, image_reward: Build) -> None:
    images = pictures(4, SIZE, SIZE)
    found = image_reward(batch_size=batch_size).score(images, prompts())
    assert torch.allclose(found, image_reward(batch_size=64).score(images, prompts()), atol=1e-5)


def test_scores_are_counted_from_the_makers_mean_in_their_spread(image_reward: Build, reference: Blip) -> None:
    weights = dict(reference.state_dict())
    for name in weights:
        if name.startswith("mlp.layers.4"):
            weights[name] = torch.zeros_like(weights[name])
    score = image_reward(weights=weights).score(pictures(1, SIZE, SIZE), prompts(TEXTS[:1]))
    assert score.tolist() == pytest.approx([-MEAN / STD])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("blip.visual_encoder.pos_embed"), "pos_embed'] are missing"),
        (lambda weights: weights.pop("blip.visual_encoder.norm.bias"), "post_layernorm.bias'] are missing"),
        (lambda weights: weights.pop("blip.text_encoder.encoder.layer.1.crossattention.self.key.bias"), "key.bias"),
        (lambda weights: weights.update({"blip.visual_encoder.x": torch.zeros(1)}), "'x'] are not known"),
        (lambda weights: weights.update(surplus=torch.zeros(1)), "does not hold"),
        (lambda weights: weights.pop("mlp.layers.2.weight"), "not a head of linear layers"),
        (lambda weights: weights.update({"mlp.layers.2.weight": torch.zeros(8, 23)}), "not a head of linear layers"),
        (lambda weights: weights.update({"blip.visual_encoder.norm.bias": torch.zeros(9)}), "of other sizes"),
    ],
)
def test_weights_of_something_else_are_refused(
    change: Callable[[dict[str, Tensor]], Any], message: str, image_reward: Build, reference: Blip
) -> None:
    weights = dict(reference.state_dict())
    change(weights)
    with pytest.raises(RewardError) as error:
        image_reward(weights=weights)
    assert message in str(error.value)
    assert "reward 'ir' (ImageReward) cannot be loaded" in str(error.value)


def test_what_is_not_there_is_named(image_reward: Build, tokenizer: Path, tmp_path: Path) -> None:
    image_reward("own.pt")
    whole, nothing = str(tmp_path / "own.pt"), str(tmp_path)
    for path, words, message in ((nothing, str(tokenizer), "ImageReward.pt"), (whole, nothing, "has no tokenizer")):
        spec = RewardSpec(name="ir", type="ImageReward", image_reward={"path": path, "tokenizer": words})
        with pytest.raises(RewardError, match=message):
            build_reward(spec, CPU)
