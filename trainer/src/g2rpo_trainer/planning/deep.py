"""What can only be told of a job with its weights loaded: text, pictures, rewards, the first gradient.

Who calls this: `__main__`, for `--check --deep`. A group of two members is drawn, scored and learnt from, in a run
folder that is thrown away.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.build import Built, build
from g2rpo_trainer.engine import World
from g2rpo_trainer.environment import RankEnvironment
from g2rpo_trainer.errors import TrainerError
from g2rpo_trainer.loop import learn
from g2rpo_trainer.models.loading import find_source
from g2rpo_trainer.planning.findings import Finding, error, fine, warning
from g2rpo_trainer.policy import Model
from g2rpo_trainer.publish import Silent
from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.scoring import WeightedReward, checked_scores
from g2rpo_trainer.run import Run
from g2rpo_trainer.runfolder import RunFolder
from g2rpo_trainer.timing import CallLog

LEAST_DECIBEL = 13.0
"""Peak signal to noise of a picture that went through the VAE and back: published ones keep 30 and more, and a VAE that
gives back plain grey has 10.8."""
RANGES: Mapping[str, tuple[float, float]] = {
    "PaddleOCR": (0, 1),
    "DdddOCR": (0, 1),
    "HPSv2": (-1, 1),
    "CLIPScore": (-1, 1),
    "PickScore": (-100, 100),  # the cosine times the network's own factor
    "ImageReward": (-10, 10),
    "Aesthetic": (-10, 20),
}
"""Where scores of a type can be; those that are not named can be anywhere."""


def deep_findings(job: G2RPOJob, place: RankEnvironment) -> Iterator[Finding]:
    """Load what the job names and try each part.

    Args:
        job: what shall be trained; the check-up itself is one prompt, one step and two members of it.
        place: the only rank.
    """
    os.environ.update(place.variables())
    with TemporaryDirectory() as folder:
        runs = RunFolder(Path(folder) / job.metadata.name)
        runs.open(job)
        try:
            built = build(smallest(job), World.join(place), runs, Silent(), lambda: False)
        except TrainerError as failure:
            yield error("loading", str(failure), "mend it and check again", failure.exit_code)
            return
        yield fine("loading", "model, prompts and rewards are here and fit")
        yield from _text(job, built.run)
        yield from _pictures(built)
        yield from _rewards(job, built.run)
        yield from _gradient(built)


def smallest(job: G2RPOJob) -> G2RPOJob:
    """The job with one prompt, one stochastic step and two members on one rank."""
    document = job.model_dump(mode="json", by_alias=True, include={"api_version", "kind", "metadata", "spec"})
    training = document["spec"]["training"]
    document["spec"]["workers"] |= {"nodes": 1, "processesPerNode": 1}
    training["prompts"]["perIteration"] = 1
    training["evaluation"] |= {"maxPrompts": 1}
    settings = training["algorithm"][job.spec.training.algorithm.member]
    settings["groupSize"] = 2
    if "stochasticSteps" in settings:
        settings["stochasticSteps"] = 1
    return G2RPOJob.model_validate_json(G2RPOJob.model_validate(document, strict=False).model_dump_json(by_alias=True))


def _text(job: G2RPOJob, run: Run) -> Iterator[Finding]:
    """Do the tokenizers know the prompts?"""
    key = "spec.training.prompts.path"
    texts = [prompt.text for prompt in run.batch(1).prompts]
    source = find_source(job.spec.training.model, run.model.device)
    with source.text_encoders() as pipeline:
        tokenizers = {name: part for name, part in pipeline.components.items() if name.startswith("tokenizer") and part}
        for name, tokenizer in tokenizers.items():
            back = [tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) for text in texts]
            lost = [text for text, again in zip(texts, back, strict=True) if _letters(text) != _letters(again)]
            if lost:
                reason = f"{name} does not give back {lost[0]!r}"
                yield warning(key, reason, "write prompts in the language and letters that the model was taught")
            else:
                yield fine(name, f"gives back {texts[0]!r}")


def _letters(text: str) -> str:
    return "".join(text.lower().split())


def _pictures(built: Built) -> Iterator[Finding]:
    """Does a picture survive the VAE, and is what the model draws one?"""
    vae, model = built.family.pipeline.vae, built.run.model
    height, width = (side * int(built.family.pipeline.vae_scale_factor) for side in model.latent_shape[-2:])
    picture = smooth_picture(height, width).to(model.device)
    with torch.no_grad():
        mean = vae.encode((2 * picture - 1).to(vae.dtype)).latent_dist.mode().float()
        latents = (mean - vae.config.shift_factor) * vae.config.scaling_factor
        back = built.family.decode(latents)
    decibel = float(-10 * torch.log10((back - picture).square().mean()))
    if not decibel >= LEAST_DECIBEL:
        reason = f"a smooth picture comes back with {decibel:.1f} dB, at least {LEAST_DECIBEL:g} are usual"
        yield warning("VAE", reason, "see whether the VAE belongs to this model; download it again")
    else:
        yield fine("VAE", f"a smooth picture comes back with {decibel:.1f} dB")


def smooth_picture(height: int, width: int) -> Tensor:
    """A picture from black above to white below without edges, float32 [1, 3, height, width]."""
    return torch.linspace(0, 1, height).view(1, 1, height, 1).expand(1, 3, height, width).contiguous()


def _rewards(job: G2RPOJob, run: Run) -> Iterator[Finding]:
    """Does each reward answer, and where it should?"""
    prompts = run.batch(1).prompts
    pictures = _drawn(run.model, run, prompts)
    kinds = {reward.name: reward.type for reward in job.spec.training.rewards}
    for entry in run.evaluator.scorer.rewards:
        yield judged(entry, kinds[entry.name], pictures, prompts)


def _drawn(model: Model, run: Run, prompts: tuple[Prompt, ...]) -> Tensor:
    return run.evaluator.pictures()[:1].to(model.device).expand(len(prompts), -1, -1, -1)


def judged(entry: WeightedReward, kind: str, pictures: Tensor, prompts: tuple[Prompt, ...]) -> Finding:
    """What a reward says of pictures, against what it can say."""
    key = f"spec.training.rewards[name={entry.name}]"
    try:
        score = float(checked_scores(entry, pictures, prompts, CallLog())[0])
    except TrainerError as failure:
        return error(key, str(failure), "mend the reward", failure.exit_code)
    low, high = RANGES.get(kind, (-float("inf"), float("inf")))
    if not low <= score <= high:
        return warning(
            key, f"{score:.4g} for a picture of the model; {kind} gives {low:g} to {high:g}", "check its weights"
        )
    return fine(key, f"{score:.4g} for a picture of the model")


def _gradient(built: Built) -> Iterator[Finding]:
    """Is the ratio 1 and the gradient finite and not 0?"""
    try:
        learnt = learn(built.run, 1, built.state)
    except TrainerError as failure:
        yield error("first update", str(failure), "see above", failure.exit_code)
        return
    assert learnt is not None, "nobody asked to stop"
    update = learnt.update
    off = float((update.losses[0].ratio - 1).abs().max())
    if not update.grad_norms:
        remedy = "lower sampling.guidanceScale, or set model.precision: Float32"
        yield warning("first update", "the loss or its gradient is not finite", remedy)
    elif not bool((update.losses[0].advantage != 0).any()):
        remedy = "raise algorithm's noise.eta, or see whether the reward tells such pictures apart"
        yield warning("first update", "both members were scored the same, so there is no gradient to look at", remedy)
    else:
        yield fine("first update", f"ratio within {off:.1e} of 1, gradient of norm {update.grad_norms[0]:.3g}")
