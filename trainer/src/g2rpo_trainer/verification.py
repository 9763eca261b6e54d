"""Whether an export draws what the trainer drew: the stock pipeline against the trainer's last picture.

Who calls this: the session, at the end of a run. What is exported stays, whatever is found.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from g2rpo_trainer.models.protocol import Conditioning
from g2rpo_trainer.models.source import Source
from g2rpo_trainer.models.stock import stock_pictures, tuned_pipeline
from g2rpo_trainer.run import Run

logger = logging.getLogger(__name__)

ALLOWED = {torch.float32: 1e-3, torch.bfloat16: 2e-2}
"""Mean difference of a pixel, in [0, 1], by what the transformer computes in: rounding adds up over the steps."""


@dataclass(frozen=True)
class Drawn:
    """A picture of the trainer's and what it was made of."""

    text: str
    picture: Tensor
    """float32 [1, 3, H, W] in [0, 1], on the CPU."""
    z: Tensor
    """[1, ...], on the device."""
    conditioning: Conditioning


@dataclass(frozen=True)
class Verdict:
    """What became of a verification."""

    difference: float | None
    """Mean over pixels, in [0, 1]; None where no picture could be drawn."""
    problem: str | None
    """What is wrong; None when the export is what it should be."""


def drawn_by_trainer(run: Run) -> Drawn:
    """The first probe as the model draws it now. All ranks call it, as sharded weights require."""
    evaluator = replace(run.evaluator, model=replace(run.model, truncate_timestep=False))
    probe = evaluator.probes[0]
    z = evaluator.start([probe]).to(run.model.device)
    return Drawn(probe.text, evaluator.draw([probe]), z, run.model.texts.conditioning([probe.text]))


def verify(run: Run, source: Source, export: Path, drawn: Drawn, compute: torch.dtype) -> Verdict:
    """Draw the same picture by the stock pipeline with the exported weights; a difference is warned about."""
    sigmas = run.evaluator.grid.sigmas[:-1]
    try:
        pipeline = tuned_pipeline(source, export)
        theirs = stock_pictures(run.model.family, pipeline, drawn.z, drawn.conditioning, sigmas, compute)
    except (OSError, RuntimeError, ValueError) as error:
        verdict = Verdict(None, f"the stock pipeline could not draw with it: {type(error).__name__}: {error}")
    else:
        verdict = compared(drawn.picture, theirs, ALLOWED[compute])
    if verdict.problem:
        logger.warning("%s may not be what was trained: %s", export, verdict.problem)
        print(f"warning: {export} may not be what was trained: {verdict.problem}", flush=True)
    return verdict


def compared(ours: Tensor, theirs: Tensor, allowed: float) -> Verdict:
    """Two pictures [1, 3, H, W]."""
    difference = (ours - theirs).abs().mean().item()
    if difference <= allowed:
        return Verdict(difference, None)
    return Verdict(
        difference,
        f"the stock pipeline's picture differs from the trainer's by {difference:.4f} per pixel (allowed: "
        f"{allowed:g}); compare the versions of diffusers and peft with those in the model card",
    )
