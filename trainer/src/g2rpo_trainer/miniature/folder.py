"""Writes the model folder: the pipeline, its prompt files and its card.

Who calls this: `__main__.py` and the tests.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from diffusers import StableDiffusion3Pipeline

from g2rpo_trainer.miniature.measuring import Legibility, Measurement
from g2rpo_trainer.miniature.recipe import Recipe, numbers, prompt

PROMPT_FILES = ("numbers.jsonl", "numbers-heldout.jsonl")
"""The training numbers and the held-out ones, a prompt and its target per line."""


def write_folder(pipeline: StableDiffusion3Pipeline, folder: Path) -> None:
    """Save the pipeline and the prompt files; existing files of these names are replaced."""
    pipeline.save_pretrained(folder, safe_serialization=True)
    for name, chosen in zip(PROMPT_FILES, numbers(), strict=True):
        lines = [json.dumps({"prompt": prompt(number), "target": number}) for number in chosen]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_card(folder: Path, recipe: Recipe, measurement: Measurement) -> None:
    """Write `README.md`: what the model is, how it was made, what it can and cannot do."""
    rows = [_row("80 training numbers", measurement.training), _row("20 unseen numbers", measurement.unseen)]
    text = _CARD.format(
        rows="\n".join(rows),
        seed=recipe.seed,
        recipe=json.dumps(asdict(recipe), indent=2),
        size=sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 1e6,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _row(name: str, legibility: Legibility) -> str:
    values = (legibility.likelihood, legibility.exact, legibility.held_out_exact)
    return f"| {name} | {values[0]:.3f} | {values[1]:.1%} | {values[2]:.1%} |"


_CARD = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
language: en
tags: [text-to-image, flow-matching, stable-diffusion-3, miniature]
---
# A miniature of Stable Diffusion 3 that draws numbers half legibly

A text-to-image pipeline of the classes of Stable Diffusion 3.5 (`SD3Transformer2DModel`, `AutoencoderKL`, two
`CLIPTextModelWithProjection`, `T5EncoderModel`, their tokenizers, `FlowMatchEulerDiscreteScheduler`) in {size:.1f} MB
of float32 weights. It draws numbers of two digits in 16 x 32 pixels, and draws them badly enough that reinforcement
learning has something to gain: a CPU aligns it in minutes.

```python
from diffusers import StableDiffusion3Pipeline

pipeline = StableDiffusion3Pipeline.from_pretrained("path/of/this/folder")
steps = 8
picture = pipeline(
    "the number 4 7",
    height=16,
    width=32,
    sigmas=[1 - step / steps for step in range(steps)],
    guidance_scale=1.0,
    max_sequence_length=8,
).images[0]
```

## How it was made
From random weights, with seed {seed}, by `python -m g2rpo_trainer.miniature`. The data are rendered: 80 of the 100
numbers of two digits, in six DejaVu faces, at random sizes, places and contrasts. The autoencoder is trained first
(mean squared error and a little KL), then transformer and text encoders together by flow matching. No picture or text
from elsewhere is involved.

```json
{recipe}
```

`numbers.jsonl` holds the prompts of the 80 training numbers, `numbers-heldout.jsonl` those of the 20 others, each with
its `target`.

## How legible it is
Four pictures per number, 8 Euler steps, no shift, no guidance. *Likelihood* is the probability that PP-OCRv6 small
gives the number, per digit; *exact* is the share of pictures read as the number asked for. Rendered numbers score at
least .99 in each column.

| | PP-OCR likelihood | PP-OCR exact | ddddocr exact |
|---|---|---|---|
{rows}

## Limits
It knows the sentence "the number" and two digits apart; other words are spelt by letters it was never taught. It never
saw an empty prompt, so guidance above 1 has nothing to lead away from. It knows one size, 16 x 32. It is of no use
beyond trying, testing and teaching alignment.

## Licence
Apache-2.0.
"""
