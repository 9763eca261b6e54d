"""Settings of the rewards, one model for each type.

Who calls this: `rewards.py`, whose union they are the members of; the trainer's rewards, which obey them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from g2rpo_api.base import Count, Model, Positive, PositiveFloat, Text, spelled
from g2rpo_api.notation import EnvName

OCRScore = Literal["Likelihood", "ExactMatch"]
JPEGScore = Literal["Compressibility", "Incompressibility"]
CLIP_VIT_H = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
CLIP_VIT_L = "openai/clip-vit-large-patch14"
URL = Annotated[str, spelled(r"^https?://[^\s/?#]+(/[^\s?#]*)?$", 2048, "a URL such as http://rewards:8000")]
EntryPoint = Annotated[
    str,
    spelled(
        r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$",
        512,
        "a class such as package.module:Class",
    ),
]


class PaddleOCRSettings(Model):
    """PP-OCR's recogniser."""

    score: OCRScore = "Likelihood"
    """`Likelihood`: how probable the recogniser finds the target text, 0 to 1, smooth enough to learn from.
    `ExactMatch`: 1 where it reads exactly the target, else 0."""


class DdddOCRSettings(Model):
    """The ddddocr recogniser, trained by other people on other data: a judge that was not trained on."""

    score: OCRScore = "ExactMatch"
    """`ExactMatch`: 1 where it reads exactly the target, else 0. `Likelihood`: how probable it finds the
    target text, 0 to 1."""


class HPSv2Settings(Model):
    """Human Preference Score v2 (arXiv 2306.09341), version 2.1: a CLIP tuned on what people prefer."""

    path: Text = "xswu/HPSv2"
    """Hub id with the published HPS_v2.1_compressed.pt, a folder with that file, or the file itself, which may
    also be a .safetensors file of the same weights."""
    clip: Text = CLIP_VIT_H
    """The CLIP that was tuned, for its configuration and tokenizer: a hub id, or a folder with config.json,
    vocab.json and merges.txt. Its weights are not read."""


class CLIPScoreSettings(Model):
    """CLIP score (arXiv 2104.08718): how well a CLIP finds that picture and prompt go together."""

    path: Text = CLIP_VIT_H
    """A CLIP as transformers saves it: a hub id, or a folder, with weights and tokenizer."""


class PickScoreSettings(Model):
    """PickScore (arXiv 2305.01569): a CLIP tuned on what users of a generator picked."""

    path: Text = "yuvalkirstain/PickScore_v1"
    """The published CLIP as transformers saves it: a hub id, or a folder."""
    tokenizer: Text = CLIP_VIT_H
    """The CLIP that was tuned, for its tokenizer: a hub id, or a folder with vocab.json and merges.txt."""


class ImageRewardSettings(Model):
    """ImageReward 1.0 (arXiv 2304.05977): a BLIP tuned on what people prefer."""

    path: Text = "THUDM/ImageReward"
    """Hub id with the published ImageReward.pt, a folder with that file, or the file itself, which may also be a
    .safetensors file of the same weights."""
    tokenizer: Text = "google-bert/bert-base-uncased"
    """BERT's tokenizer: a hub id, or a folder with vocab.txt or tokenizer.json."""


class AestheticSettings(Model):
    """LAION's aesthetic predictor, version 2: how beautiful people would find the picture, whatever the prompt."""

    path: Text = "trl-lib/ddpo-aesthetic-predictor"
    """Its head: a hub id with aesthetic-model.pth, a folder with that file, or the file itself, such as
    sac+logos+ava1-l14-linearMSE.pth, which is the same."""
    clip: Text = CLIP_VIT_L
    """The CLIP that sees the picture, as transformers saves it: a hub id, or a folder."""


class JPEGSettings(Model):
    """Size of the picture as a JPEG file of quality 95, in kB (arXiv 2305.13301). Needs no network at all."""

    score: JPEGScore = "Compressibility"
    """`Compressibility`: the size, negative, so that smooth pictures win. `Incompressibility`: the size, so that
    pictures full of detail win."""


class ServiceSettings(Model):
    """A service that is asked over HTTP."""

    url: URL
    """Where it is."""
    token_from_env: EnvName | None = None
    """Environment variable with the token that goes along as `Authorization: Bearer ...`; none goes along when left
    out. In a cluster, workers.env takes its value from a Secret."""
    timeout_seconds: PositiveFloat = 60.0
    """How long an attempt may wait for the connection, or for the next bytes of the answer."""
    retries: Count = 5
    """Further attempts after no answer in time, a broken connection, or an answer 429 or 5xx. The first follows at
    once; pauses before the others double from 1 second to 60, with chance in them, or are what the answer's
    Retry-After asks for."""


class HTTPSettings(ServiceSettings):
    """A server that scores: g2rpo-reward-server, or any other that speaks its few lines of JSON."""

    url: URL
    """Where it is: below it, POST /score scores, and GET /healthz must answer 200 before training begins."""


class VLMJudgeSettings(ServiceSettings):
    """A vision-language model that is asked for a mark, behind the chat completions API of OpenAI, as vLLM and many
    others serve it; UnifiedReward (arXiv 2503.05236) is such a model."""

    url: URL
    """Base of the API, up to and with /v1: below it, POST /chat/completions judges."""
    model: Text
    """Name of the model there."""
    question: Text = (
        "An image generator was given this description:\n\n{prompt}\n\n"
        "How well does the image show what the description asks for, and how good is it as an image? First say in a "
        "few words what is right and what is wrong. Then end with a line `Score: X`, where X is a number from "
        "1 (bad) to {scale} (perfect)."
    )
    """What it is asked beside the picture. `{prompt}` and `{scale}` are filled in. The mark is the number that
    follows the last `score` of the answer, or the whole answer where that is a number."""
    scale: PositiveFloat = 5.0
    """Best mark. A number below 0 or above this is not taken for one."""
    max_tokens: Positive = 512
    """Length of an answer at most."""
    concurrency: Positive = 8
    """Requests at a time, per rank; each holds one picture."""


class CustomSettings(Model):
    """A class of one's own."""

    entry_point: EntryPoint
    """Module and class, importable where the trainer runs: installed in the image, or in a folder on PYTHONPATH."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What it is made with, by keyword, beside batch_size and device."""
