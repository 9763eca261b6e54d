"""HPSv2 and CLIP score with small random weights, against an OpenCLIP of torch's own layers and against PIL.

The other CLIP is written from OpenCLIP's description: torch.nn.MultiheadAttention in pre-normalised blocks, GELU, the
last token's embedding for the text and the class token's for the picture, weights by OpenCLIP's names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from g2rpo_api.rewards import RewardSpec
from g2rpo_trainer.errors import RewardError
from g2rpo_trainer.miniature.vocabulary import clip_tokenizer
from g2rpo_trainer.rewards.clip import clip_input
from g2rpo_trainer.rewards.registry import build_reward
from testtrainer.pictures import TEXTS, pictures, prompts, seen_by_pil

CPU = torch.device("cpu")
SIZE, PATCH, WIDTH, TEXT_WIDTH, JOINT, LENGTH = 28, 7, 24, 16, 12, 8


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 2 * width), "c_proj": nn.Linear(2 * width, width)})

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp["c_proj"](nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


class Tower(nn.Module):
    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(WIDTH))
        self.positional_embedding = nn.Parameter(torch.empty((SIZE // PATCH) ** 2 + 1, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = Tower(WIDTH, 3, 2)
        self.proj = nn.Parameter(torch.empty(WIDTH, JOINT))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(pixels), 1, -1), patches], dim=1)
        x = self.transformer(self.ln_pre(tokens + self.positional_embedding))
        return self.ln_post(x[:, 0]) @ self.proj


class OpenCLIP(nn.Module):
    def __init__(self, words: int) -> None:
        super().__init__()
        self.visual = Visual()
        self.token_embedding = nn.Embedding(words, TEXT_WIDTH)
        self.positional_embedding = nn.Parameter(torch.empty(LENGTH, TEXT_WIDTH))
        self.transformer = Tower(TEXT_WIDTH, 2, 3)
        self.ln_final = nn.LayerNorm(TEXT_WIDTH)
        self.text_projection = nn.Parameter(torch.empty(TEXT_WIDTH, JOINT))
        self.logit_scale = nn.Parameter(torch.empty(()))
        noise = torch.Generator().manual_seed(0)
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.3, generator=noise)

    def text(self, ids: Sequence[int]) -> Tensor:
        """Embedding of one text, given from its first to its last token."""
        count = len(ids)
        mask = torch.full((count, count), -torch.inf).triu(1)
        tokens = self.token_embedding(torch.tensor([ids])) + self.positional_embedding[:count]
        return self.ln_final(self.transformer(tokens, mask)[0, -1]) @ self.text_projection


@pytest.fixture(scope="module")
def reference() -> OpenCLIP:
    return OpenCLIP(len(clip_tokenizer())).eval()


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration and tokenizer, as a CLIP's folder has them; no weights."""
    tokenizer = clip_tokenizer()
    folder = tmp_path_factory.mktemp("clip")
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {"hidden_size": TEXT_WIDTH, "intermediate_size": 2 * TEXT_WIDTH, "num_hidden_layers": 3} | ids
    text |= {"num_attention_heads": 2, "vocab_size": len(tokenizer), "max_position_embeddings": LENGTH}
    vision = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 3}
    vision |= {"image_size": SIZE, "patch_size": PATCH}
    act = {"hidden_act": "gelu", "projection_dim": JOINT}
    CLIPConfig(text_config=text | act, vision_config=vision | act, projection_dim=JOINT).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def hpsv2(reference: OpenCLIP, clip_folder: Path, tmp_path: Path) -> Callable[..., Any]:
    """The reward as a job names it, from a file as it was published: half precision, beside the epoch."""

    def build(name: str = "HPS_v2.1_compressed.pt", weights: dict[str, Tensor] | None = None, **spec: Any) -> Any:
        whole = {"state_dict": weights or reference.state_dict(), "epoch": 3}
        if name.endswith(".pt"):
            torch.save(whole, tmp_path / name)
        else:
            save_file(whole["state_dict"], tmp_path / name)
        path = tmp_path if name == "HPS_v2.1_compressed.pt" else tmp_path / name
        settings = {"path": str(path), "clip": str(clip_folder)}
        return build_reward(RewardSpec(name="hps", type="HPSv2", hpsv2=settings, **spec), CPU).reward

    return build


@torch.no_grad()
def expected(reference: OpenCLIP, images: Tensor, texts: Sequence[str]) -> Tensor:
    """Cosine between embeddings, one picture and one text at a time."""
    scores = []
    tokenizer = clip_tokenizer()
    for image, text in zip(images, texts, strict=True):
        a = reference.visual(seen_by_pil(image, SIZE).unsqueeze(0))[0].double().numpy()
        b = reference.text(tokenizer(text, truncation=True, max_length=LENGTH).input_ids).double().numpy()
        scores.append(float(a @ b / np.sqrt((a @ a) * (b @ b))))
    return torch.tensor(scores)


@pytest.mark.parametrize(("height", "width"), [(90, 90), (64, 112), (75, 40), (28, 28), (20, 33)])
def test_pictures_are_prepared_as_pil_prepares_them(height: int, width: int) -> None:
    images = pictures(2, height, width)
    found = clip_input(images, SIZE)
    assert found.shape == (2, 3, SIZE, SIZE)
    step = 1 / 255 / 0.26  # PIL rounds after each of its two passes
    assert (found - torch.stack([seen_by_pil(image, SIZE) for image in images])).abs().max() < 1.5 * step


@pytest.mark.parametrize("name", ["HPS_v2.1_compressed.pt", "own.pt", "own.safetensors"])
def test_hpsv2_scores_as_open_clip_does(name: str, hpsv2: Callable[..., Any], reference: OpenCLIP) -> None:
    images = pictures(4, 90, 90)
    scores = hpsv2(name).score(images, prompts())
    assert scores.dtype == torch.float32
    wanted = expected(reference, images, TEXTS)
    assert wanted.std() > 0.01
    assert torch.allclose(scores, wanted, atol=2e-3)


def test_hpsv2_without_resizing_scores_to_the_last_digits(hpsv2: Callable[..., Any], reference: OpenCLIP) -> None:
    images = pictures(4, SIZE, SIZE)
    assert torch.allclose(hpsv2().score(images, prompts()), expected(reference, images, TEXTS), atol=2e-6)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_batch_size_changes_no_score(batch_size: int, hpsv2: Callable[..., Any]) -> None:
    images = pictures(4, 40, 56)
    found = hpsv2(batch_size=batch_size).score(images, prompts())
    assert torch.allclose(found, hpsv2(batch_size=64).score(images, prompts()), atol=1e-6)


def test_weights_in_half_precision_are_scored_in_whole(hpsv2: Callable[..., Any], reference: OpenCLIP) -> None:
    halves = {name: weight.half() for name, weight in reference.state_dict().items()}
    images = pictures(4, SIZE, SIZE)
    rounded = OpenCLIP(len(clip_tokenizer())).eval()
    rounded.load_state_dict({name: weight.float() for name, weight in halves.items()})
    scores = hpsv2(weights=halves).score(images, prompts())
    assert torch.allclose(scores, expected(rounded, images, TEXTS), atol=2e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("ln_final.weight"), "final_layer_norm.weight.* are missing"),
        (lambda weights: weights.update(surplus=torch.zeros(1)), "'surplus'.* are not known"),
        (lambda weights: weights.update(logit_scale=torch.zeros(3, 3)), "of other sizes"),
    ],
)
def test_weights_of_something_else_are_refused(
    change: Callable[[dict[str, Tensor]], Any], message: str, hpsv2: Callable[..., Any], reference: OpenCLIP
) -> None:
    weights = dict(reference.state_dict())
    change(weights)
    with pytest.raises(RewardError, match=message):
        hpsv2(weights=weights)


def test_a_file_that_is_no_weights_runs_nothing(tmp_path: Path, clip_folder: Path) -> None:
    path = tmp_path / "hps.pt"
    torch.save({"state_dict": print}, path)
    settings = {"path": str(path), "clip": str(clip_folder)}
    with pytest.raises(RewardError, match="cannot be read as weights"):
        build_reward(RewardSpec(name="hps", type="HPSv2", hpsv2=settings), CPU)


def test_a_folder_without_the_published_file_is_refused(tmp_path: Path, clip_folder: Path) -> None:
    settings = {"path": str(tmp_path), "clip": str(clip_folder)}
    with pytest.raises(RewardError, match=r"HPS_v2\.1_compressed\.pt"):
        build_reward(RewardSpec(name="hps", type="HPSv2", hpsv2=settings), CPU)


def test_clip_score_is_the_cosine_that_transformers_puts_before_its_scale(clip_folder: Path, tmp_path: Path) -> None:
    tokenizer = clip_tokenizer()
    torch.manual_seed(2)
    network = CLIPModel(CLIPConfig.from_pretrained(clip_folder)).eval()
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reward = build_reward(RewardSpec(name="clip", type="CLIPScore", clip_score={"path": str(tmp_path)}), CPU).reward
    images = pictures(4, SIZE, SIZE)
    tokens = tokenizer(list(TEXTS), padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        logits = network(
            **tokens, pixel_values=torch.stack([seen_by_pil(image, SIZE) for image in images])
        ).logits_per_image
    cosines = logits.diagonal() / network.logit_scale.exp()
    assert torch.allclose(reward.score(images, prompts()), cosines, atol=1e-6)


def test_a_clip_that_is_not_there_is_a_reward_that_cannot_be_loaded(tmp_path: Path) -> None:
    spec = RewardSpec(name="clip", type="CLIPScore", clip_score={"path": str(tmp_path)})
    with pytest.raises(RewardError, match=r"reward 'clip' \(CLIPScore\) cannot be loaded"):
        build_reward(spec, CPU)
