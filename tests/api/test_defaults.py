"""The defaults are those of the papers and of the documentation, and every field explains itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest

from g2rpo_api.algorithm import DEFAULT_ETA, FlowGRPOSettings, G2RPOSettings, Law, NoiseSpec, WindowSpec
from g2rpo_api.base import Model
from g2rpo_api.job import G2RPOJob
from g2rpo_api.parse import parse_job

G2RPO_DEFAULTS = {
    "groupSize": 12,
    "firstStochasticStep": 0,
    "stochasticSteps": 8,
    "granularities": [1, 2, 3],
    "noise": {"law": "Flow", "eta": None},
    "clipRange": 1e-4,
    "advantageClip": 5.0,
    "update": "PerStep",
    "aggregate": "Sum",
    "zeroVarianceTolerance": 1e-6,
    "klBeta": 0.0,
}
FLOW_GRPO_DEFAULTS = {
    "groupSize": 12,
    "initialNoise": "PerMember",
    "window": None,
    "trainFraction": 1.0,
    "noise": {"law": "Flow", "eta": None},
    "clipRange": 1e-4,
    "advantageClip": 5.0,
    "update": "PerIteration",
    "zeroVarianceTolerance": 1e-6,
    "klBeta": 0.0,
}
WORKERS_DEFAULTS = {
    "nodes": 1,
    "processesPerNode": 1,
    "resourceName": None,
    "resources": {"requests": {}, "limits": {}},
    "sharedMemory": None,
    "rdma": None,
    "nodeSelector": {},
    "tolerations": [],
    "affinity": {},
    "priorityClassName": None,
    "runtimeClassName": None,
    "schedulerName": None,
    "serviceAccountName": None,
    "imagePullSecrets": [],
    "security": {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532},
    "env": [],
    "volumes": [],
    "volumeMounts": [],
    "labels": {},
    "annotations": {},
}
REWARD_DEFAULTS = {"role": "Train", "weight": 1.0, "onFailure": "Fail", "batchSize": 64}
RESOLVED = {
    "apiVersion": "g2rpo.dev/v1alpha1",
    "kind": "G2RPOJob",
    "metadata": {"name": "job", "namespace": None, "labels": {}, "annotations": {}},
    "spec": {
        "image": None,
        "imagePullPolicy": "IfNotPresent",
        "suspend": False,
        "stop": False,
        "workers": WORKERS_DEFAULTS,
        "storage": {
            "runs": {"persistentVolumeClaim": None, "nfs": None, "hostPath": None, "emptyDir": None, "subPath": None}
        },
        "policy": {
            "maxRestarts": 3,
            "maxDisruptions": 20,
            "restartBackoffSeconds": 10,
            "activeDeadlineSeconds": None,
            "startTimeoutSeconds": 1800,
            "progressTimeoutSeconds": 1800,
            "ttlSecondsAfterFinished": None,
            "terminationGracePeriodSeconds": 300,
            "keepFailedAttempts": 2,
        },
        "training": {
            "seed": 0,
            "iterations": 10,
            "model": {
                "family": "SD3",
                "path": "org/model",
                "precision": "Float32",
                "gradientCheckpointing": False,
                "maxSequenceLength": 256,
                "compile": False,
                "attention": "Native",
                "textCache": None,
                "train": {"type": "LoRA", "lora": {"rank": 32, "alpha": 64.0, "targetModules": None}},
            },
            "prompts": {
                "path": "prompts.txt",
                "promptKey": "prompt",
                "target": "Key",
                "targetKey": "target",
                "perIteration": 1,
            },
            "sampling": {
                "steps": 16,
                "shiftRule": "Fixed",
                "shift": 3.0,
                "height": 64,
                "width": 64,
                "guidanceScale": 1.0,
                "maxBatch": 64,
                "maxDecodeBatch": 16,
                "vaeTilingAbovePixels": 4194304,
                "truncateTimestep": False,
            },
            "algorithm": {"type": "G2RPO", "g2rpo": G2RPO_DEFAULTS},
            "rewards": [{"name": "ocr", "type": "PaddleOCR", "paddleOcr": {"score": "Likelihood"}, **REWARD_DEFAULTS}],
            "optimizer": {
                "learningRate": 1e-4,
                "warmupIterations": 0,
                "schedule": "Constant",
                "betas": [0.9, 0.999],
                "epsilon": 1e-8,
                "weightDecay": 1e-4,
                "gradientClip": 1.0,
                "maxBatch": 8,
            },
            "ema": None,
            "deepspeed": {"zeroStage": 0, "offloadOptimizer": "None", "offloadParameters": "None"},
            "checkpoint": {"everyIterations": 20, "keepLast": 3, "keepBest": False},
            "evaluation": {
                "everyIterations": 20,
                "promptsPath": None,
                "maxPrompts": 64,
                "seed": 0,
                "steps": None,
                "probes": [],
            },
            "safety": {"maxNonFiniteSteps": 10},
            "tracking": {"tensorboard": False, "wandb": None},
            "stop": {
                "maxHours": None,
                "maxGpuHours": None,
                "target": None,
                "plateau": None,
                "collapse": None,
                "hacking": None,
            },
        },
    },
}


def test_a_job_of_required_keys_gets_the_documented_defaults(required: dict[str, Any]) -> None:
    assert parse_job(required).model_dump(mode="json", by_alias=True) == RESOLVED


def test_flow_grpo_has_the_documented_defaults() -> None:
    assert FlowGRPOSettings().model_dump(mode="json", by_alias=True) == FLOW_GRPO_DEFAULTS


def test_a_window_has_the_settings_of_mix_grpo() -> None:
    assert WindowSpec().model_dump(by_alias=True) == {"size": 4, "moveEveryIterations": 25, "stride": 1}


def test_ddddocr_judges_by_exact_match(required: dict[str, Any]) -> None:
    required["spec"]["training"]["rewards"].append({"name": "dddd", "type": "DdddOCR", "role": "HeldOut"})
    reward = parse_job(required).spec.training.rewards[1]
    assert reward.settings.score == "ExactMatch"


def test_hpsv2_is_the_published_one_and_clip_score_by_the_clip_it_was_tuned_from(required: dict[str, Any]) -> None:
    rewards = [{"name": "hps", "type": "HPSv2"}, {"name": "clip", "type": "CLIPScore", "clipScore": {}}]
    required["spec"]["training"]["rewards"] = rewards
    hps, clip = (reward.settings for reward in parse_job(required).spec.training.rewards)
    assert hps.path == "xswu/HPSv2"
    assert hps.clip == clip.path == "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


@pytest.mark.parametrize(("law", "eta"), [("Flow", 0.7), ("Dance", 0.3), ("CPS", 0.8)])
def test_each_noise_law_has_its_published_level(law: Law, eta: float) -> None:
    assert NoiseSpec(law=law).level == eta
    assert NoiseSpec(law=law, eta=0.25).level == 0.25


def test_every_noise_law_has_a_default() -> None:
    assert set(DEFAULT_ETA) == set(get_args(Law))


def test_stochastic_steps_are_consecutive_from_the_first() -> None:
    assert list(G2RPOSettings(first_stochastic_step=2, stochastic_steps=3).steps()) == [2, 3, 4]


@pytest.mark.parametrize(
    ("settings", "steps", "stochastic", "trained"),
    [
        (FlowGRPOSettings(), 16, 15, 15),
        (FlowGRPOSettings(train_fraction=0.6), 16, 15, 9),
        (FlowGRPOSettings(train_fraction=0.5), 16, 15, 8),
        (FlowGRPOSettings(train_fraction=0.01), 16, 15, 1),
        (FlowGRPOSettings(window=WindowSpec()), 25, 4, 4),
        (FlowGRPOSettings(window=WindowSpec(), train_fraction=0.5), 25, 4, 2),
    ],
)
def test_flow_grpo_counts_its_steps(settings: FlowGRPOSettings, steps: int, stochastic: int, trained: int) -> None:
    assert settings.stochastic_count(steps) == stochastic
    assert settings.trained_count(steps) == trained


def models(model: type[Model], seen: set[type[Model]]) -> Iterator[type[Model]]:
    """Every model class that a job is made of."""
    if model in seen:
        return
    seen.add(model)
    yield model
    for info in model.model_fields.values():
        for inner in model_classes(info.annotation):
            yield from models(inner, seen)


def model_classes(annotation: Any) -> Iterator[type[Model]]:
    """Models inside `X | None`, `tuple[X, ...]`, `Annotated[X, ...]` and so on."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for argument in get_args(annotation):
        yield from model_classes(argument)


MODELS = sorted(models(G2RPOJob, set()), key=lambda model: model.__name__)


def test_the_walk_meets_the_far_corners() -> None:
    assert {"WindowSpec", "LoRASettings", "DdddOCRSettings", "SafetySpec"} <= {model.__name__ for model in MODELS}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_model_and_field_is_documented(model: type[Model]) -> None:
    assert model.__doc__
    undocumented = [name for name, info in model.model_fields.items() if not (info.description or "").endswith(".")]
    assert not undocumented, "each field needs a docstring that ends in a sentence"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_models_are_frozen_and_strict(model: type[Model]) -> None:
    assert model.model_config["frozen"]
    assert model.model_config["strict"]


def test_a_job_cannot_be_changed(required: dict[str, Any]) -> None:
    training = parse_job(required).spec.training
    with pytest.raises(ValueError, match="frozen"):
        training.iterations = 3  # type: ignore[misc]
    assert isinstance(training.rewards, tuple)
    assert isinstance(training.algorithm.settings, G2RPOSettings)
    assert isinstance(training.algorithm.settings.granularities, tuple)
