"""Every sample is a job that can be run as it is, and says what it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from g2rpo_api.algorithm import FlowGRPOSettings, G2RPOSettings, NoiseSpec
from g2rpo_api.job import G2RPOJob
from g2rpo_api.model import BUILTIN_MODELS
from g2rpo_api.parse import dump_job, load_job, parse_job
from g2rpo_api.prompts import BUILTIN_PROMPTS
from g2rpo_trainer.models.facts import rows_per_velocity
from g2rpo_trainer.planning.footprint import footprint
from g2rpo_trainer.planning.model_files import ModelFiles
from g2rpo_trainer.planning.plan import describe, group_cost, plan
from g2rpo_trainer.resources import SHIPPED

FOLDER = Path(__file__).resolve().parents[2] / "manifests" / "samples"
SAMPLES = sorted(FOLDER.glob("*.yaml"))
METHODS = {
    "miniature-g2rpo": "2510.01982",
    "miniature-flow-grpo": "2505.05470",
    "miniature-dance-grpo": "2505.07818",
    "miniature-mix-grpo": "2507.21802",
}


def sample(name: str) -> G2RPOJob:
    """A sample by its name."""
    return load_job(FOLDER / f"{name}.yaml")


def flow_grpo(name: str) -> FlowGRPOSettings:
    """FlowGRPO settings of a sample."""
    settings = sample(name).spec.training.algorithm.settings
    assert isinstance(settings, FlowGRPOSettings)
    return settings


def test_the_methods_are_there() -> None:
    assert set(METHODS) <= {path.stem for path in SAMPLES}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_a_job_named_like_its_file(path: Path) -> None:
    assert load_job(path).metadata.name == path.stem


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_resolves_to_itself(path: Path) -> None:
    job = load_job(path)
    assert parse_job(dump_job(job)) == job


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_written_in_one_style(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"[ \t]+$", text, flags=re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 110
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_readers_of_yaml_1_1_see_the_same_job(path: Path) -> None:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert parse_job(data) == load_job(path), "kubectl reads YAML 1.1: write 1.0e-4, not 1e-4"


@pytest.mark.parametrize(("name", "paper"), METHODS.items())
def test_a_sample_begins_with_what_it_is(name: str, paper: str) -> None:
    first = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert f"arXiv {paper}" in first


@pytest.mark.parametrize("name", METHODS)
def test_a_sample_can_be_planned_where_nothing_was_downloaded(name: str) -> None:
    counted = plan(sample(name))
    assert counted.footprint is not None
    assert counted.footprint.total < 500e6, "the miniature fits anywhere"
    assert describe(counted).startswith(f"{name}: ")


def task(name: str) -> dict[str, Any]:
    """What a sample is asked to do, whatever the method and its optimizer."""
    training = sample(name).spec.training
    parts = {part: getattr(training, part) for part in ("seed", "model", "sampling", "rewards", "evaluation")}
    return parts | {"prompts": training.prompts.path}


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_compared_on_the_same_task(name: str) -> None:
    assert task(name) == task("miniature-g2rpo")


def test_the_quickstart() -> None:
    job = sample("miniature-g2rpo")
    training = job.spec.training
    assert (job.spec.workers.nodes, job.spec.workers.processes_per_node) == (1, 2)
    assert (training.model.path, training.model.max_sequence_length) == ("builtin:miniature", 8)
    assert (training.sampling.height, training.sampling.width, training.sampling.shift) == (16, 32, 1.0)
    assert isinstance(training.algorithm.settings, G2RPOSettings)
    assert [(reward.type, reward.role) for reward in training.rewards] == [
        ("PaddleOCR", "Train"),
        ("DdddOCR", "HeldOut"),
    ]
    assert training.prompts.path == "builtin:numbers"
    assert training.evaluation.prompts_path == "builtin:numbers-heldout"


def test_g2rpo_explores_one_step_at_a_time_with_its_published_law() -> None:
    settings = sample("miniature-g2rpo").spec.training.algorithm.settings
    assert isinstance(settings, G2RPOSettings)
    assert (settings.noise.law, settings.noise.level) == ("Flow", 0.7)
    assert (settings.update, settings.advantage_clip, settings.kl_beta) == ("PerStep", 5.0, 0.0)
    assert settings.first_stochastic_step == 0


def test_flow_grpo_has_its_published_settings() -> None:
    settings = flow_grpo("miniature-flow-grpo")
    assert (settings.group_size, settings.initial_noise, settings.window) == (8, "PerMember", None)
    assert (settings.noise.law, settings.noise.level, settings.train_fraction) == ("Flow", 0.7, 1.0)


def test_dance_grpo_has_its_published_settings() -> None:
    settings = flow_grpo("miniature-dance-grpo")
    assert (settings.group_size, settings.initial_noise, settings.window) == (8, "Shared", None)
    assert (settings.noise.law, settings.noise.level, settings.train_fraction) == ("Dance", 0.3, 0.6)


def test_mix_grpo_has_its_published_settings() -> None:
    settings = flow_grpo("miniature-mix-grpo")
    assert (settings.group_size, settings.initial_noise, settings.train_fraction) == (8, "Shared", 1.0)
    assert settings.window is not None
    assert (settings.window.size, settings.window.move_every_iterations, settings.window.stride) == (4, 25, 1)
    assert (settings.noise.law, settings.noise.level) == ("Flow", 0.7)


@pytest.mark.parametrize("name", METHODS)
def test_the_miniature_asks_a_cluster_for_little_and_for_no_gpu(name: str) -> None:
    workers = sample(name).spec.workers
    assert workers.resource_name is None
    assert workers.resources.requests == {"cpu": "1", "memory": "2Gi"}, "a node of two CPUs has less than two to give"
    assert not sample(name).spec.storage.runs.lasting, "it runs where there is no volume"


def test_sd35_fills_a_node_of_eight_gpus() -> None:
    spec = sample("sd35-ocr-lora").spec
    assert (spec.workers.nodes, spec.workers.processes_per_node) == (1, 8)
    assert spec.workers.resource_name == "nvidia.com/gpu"
    assert spec.training.model.path == "stabilityai/stable-diffusion-3.5-medium"
    assert spec.training.model.train.lora is not None
    assert spec.storage.runs.lasting, "a restart goes on from a checkpoint"


def test_sd35_has_the_papers_settings() -> None:
    training = sample("sd35-ocr-lora").spec.training
    settings = training.algorithm.settings
    assert settings == G2RPOSettings(noise=NoiseSpec(law="Flow", eta=0.7)), "the defaults are the paper's"
    assert (training.sampling.steps, training.sampling.shift) == (16, 3.0)
    assert training.optimizer.weight_decay == 1e-4


def test_flux1_has_the_papers_settings() -> None:
    training = sample("flux1-hps").spec.training
    assert training.algorithm.settings == G2RPOSettings(noise=NoiseSpec(law="Flow", eta=0.7)), "the paper's defaults"
    sampling, optimizer = training.sampling, training.optimizer
    assert (sampling.height, sampling.width, sampling.steps, sampling.shift) == (720, 720, 16, 3.0)
    assert (sampling.guidance_scale, training.model.max_sequence_length) == (3.5, 512)
    assert (optimizer.learning_rate, optimizer.betas, optimizer.weight_decay) == (2e-6, (0.9, 0.999), 1e-4)
    assert optimizer.gradient_clip == 1.0
    trained = {reward.type: reward.weight for reward in training.rewards if reward.role == "Train"}
    assert trained == {"HPSv2": 1.0, "CLIPScore": 1.0}
    assert training.model.train.type == "Full"


def test_flux1_trains_on_16_gpus_with_a_prompt_each() -> None:
    spec = sample("flux1-hps").spec
    assert (spec.workers.ranks, spec.training.prompts.per_iteration, spec.training.iterations) == (16, 16, 300)
    cost = group_cost(spec.training)
    assert (cost.calls, cost.images, cost.forward_backwards) == (1708, 289, 8), "as counted from the paper"
    assert rows_per_velocity(spec.training.model.family, spec.training.sampling.guidance_scale) == 1


def flux_1_dev() -> ModelFiles:
    """FLUX.1-dev by its published configurations; encoders and VAE by the sizes of their weights."""
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        transformer = FluxTransformer2DModel(guidance_embeds=True)
    shapes = {name: tuple(weight.shape) for name, weight in transformer.state_dict().items()}
    return ModelFiles(shapes, 83_819_683, 4_762_310_656 + 123_060_480, 16, 8, 2)


@pytest.mark.parametrize("name", ["flux1-hps", "flux1-hps-lora"])
def test_flux1_fits_gpus_of_80_gb(name: str) -> None:
    spec = sample(name).spec
    parts = footprint(spec.training, spec.workers.ranks, flux_1_dev())
    rewards = 4 * (3 * 986_109_441 + 446_206_689)  # three ViT-H, and a ViT-L with a BERT
    assert parts.total + rewards < 50e9, "what is left is for activations"
    # a rank loads the transformer whole before it is split
    whole = 11_901_408_320 * (4 if spec.training.model.train.lora is None else 2)
    assert whole + parts.vae + parts.text_encoders < 75e9


def test_flux1_with_lora_differs_from_it_in_what_is_trained() -> None:
    full, lora = sample("flux1-hps").spec.training, sample("flux1-hps-lora").spec.training
    for part in ("seed", "iterations", "sampling", "algorithm", "rewards", "evaluation"):
        assert getattr(full, part) == getattr(lora, part)
    assert lora.model.train.lora is not None
    assert sample("flux1-hps-lora").spec.workers.ranks == lora.prompts.per_iteration == 8


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_tokens_come_from_secrets(path: Path) -> None:
    for variable in load_job(path).spec.workers.env:
        assert (variable.value_from is not None) == variable.name.endswith(("TOKEN", "KEY", "SECRET"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_files_of_a_sample_are_mounted_or_shipped(path: Path) -> None:
    job = load_job(path)
    mounts = [mount.mount_path for mount in job.spec.workers.volume_mounts]
    for file in (job.spec.training.prompts.path, job.spec.training.evaluation.prompts_path):
        assert file is not None
        assert file in BUILTIN_PROMPTS or any(file.startswith(f"{mount}/") for mount in mounts)


def test_what_ships_is_what_a_job_may_name() -> None:
    assert set(SHIPPED) == {*BUILTIN_MODELS, *BUILTIN_PROMPTS}
    assert all(path.exists() for path in SHIPPED.values())
