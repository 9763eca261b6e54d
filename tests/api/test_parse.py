"""From a file to a job and back; what can be wrong with a file as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from g2rpo_api.algorithm import AlgorithmSpec, FlowGRPOSettings, G2RPOSettings, NoiseSpec, WindowSpec
from g2rpo_api.errors import SpecError, SpecProblem
from g2rpo_api.job import G2RPOJob, JobSpec, Metadata, WorkersSpec
from g2rpo_api.model import Attention, LoRASettings, ModelSpec, SamplingSpec, TrainSpec
from g2rpo_api.parse import dump_job, load_job, parse_job, parse_reward
from g2rpo_api.prompts import EvaluationSpec, PromptsSpec
from g2rpo_api.reward_settings import CLIPScoreSettings, DdddOCRSettings, HPSv2Settings, PaddleOCRSettings
from g2rpo_api.rewards import RewardSpec
from g2rpo_api.stopping import CollapseRule, PlateauRule, StopSpec, TargetRule
from g2rpo_api.training import (
    CheckpointSpec,
    DeepSpeedSpec,
    EMASpec,
    OptimizerSpec,
    SafetySpec,
    TrainingSpec,
)

positive = st.integers(1, 10**6)
above_zero = st.floats(0, 1e9, exclude_min=True)
not_negative = st.floats(0, 1e9)
texts = st.text(min_size=1, max_size=12)
scores = st.sampled_from(["Likelihood", "ExactMatch"])
prompt_files = st.sampled_from(["builtin:numbers", "a.txt", "/data/ü b.jsonl"])
noises = st.builds(NoiseSpec, law=st.sampled_from(["Flow", "Dance", "CPS"]), eta=st.none() | st.floats(1e-3, 1))


@st.composite
def g2rpo_settings(draw: st.DrawFn, steps: int, kl: st.SearchStrategy[float]) -> G2RPOSettings:
    first = draw(st.integers(0, steps - 2))
    return G2RPOSettings(
        group_size=draw(st.integers(2, 100)),
        first_stochastic_step=first,
        stochastic_steps=draw(st.integers(1, steps - 1 - first)),
        granularities=tuple(draw(st.lists(positive, min_size=1, max_size=8))),
        noise=draw(noises),
        clip_range=draw(above_zero),
        advantage_clip=draw(above_zero),
        update=draw(st.sampled_from(["PerStep", "PerIteration"])),
        aggregate=draw(st.sampled_from(["Sum", "Mean"])),
        zero_variance_tolerance=draw(not_negative),
        kl_beta=draw(kl),
    )


@st.composite
def flow_grpo_settings(draw: st.DrawFn, steps: int, kl: st.SearchStrategy[float]) -> FlowGRPOSettings:
    windows = st.builds(WindowSpec, size=st.integers(1, steps - 1), move_every_iterations=positive, stride=positive)
    return FlowGRPOSettings(
        group_size=draw(st.integers(2, 100)),
        initial_noise=draw(st.sampled_from(["Shared", "PerMember"])),
        window=draw(st.none() | windows),
        train_fraction=draw(st.floats(0, 1, exclude_min=True)),
        noise=draw(noises),
        clip_range=draw(above_zero),
        kl_beta=draw(kl),
    )


loras = st.builds(
    LoRASettings,
    rank=positive,
    alpha=above_zero,
    target_modules=st.none() | st.lists(texts, min_size=1, max_size=3).map(tuple),
)
trains = st.just(TrainSpec(type="Full")) | st.builds(TrainSpec, type=st.just("LoRA"), lora=st.none() | loras)


@st.composite
def algorithms(draw: st.DrawFn, steps: int, train: TrainSpec) -> AlgorithmSpec:
    kl = not_negative if train.type == "LoRA" else st.just(0.0)
    if draw(st.booleans()):
        return AlgorithmSpec(type="G2RPO", g2rpo=draw(g2rpo_settings(steps, kl)))
    return AlgorithmSpec(type="FlowGRPO", flow_grpo=draw(flow_grpo_settings(steps, kl)))


OTHER_REWARDS = ("PickScore", "ImageReward", "Aesthetic", "JPEG")


@st.composite
def rewards(draw: st.DrawFn) -> tuple[RewardSpec, ...]:
    trained = RewardSpec(
        name="trained",
        type="PaddleOCR",
        paddle_ocr=draw(st.none() | st.builds(PaddleOCRSettings, score=scores)),
        weight=draw(above_zero),
        on_failure=draw(st.sampled_from(["Fail", "SkipGroup"])),
    )
    held_out = RewardSpec(
        name="held-out",
        type="DdddOCR",
        dddd_ocr=draw(st.none() | st.builds(DdddOCRSettings, score=scores)),
        role="HeldOut",
        batch_size=draw(positive),
    )
    hps = RewardSpec(name="hps", type="HPSv2", hpsv2=draw(st.none() | st.builds(HPSv2Settings, path=texts, clip=texts)))
    clip = RewardSpec(
        name="clip", type="CLIPScore", clip_score=draw(st.none() | st.builds(CLIPScoreSettings, path=texts))
    )
    others = [RewardSpec(name=kind.lower(), type=kind) for kind in draw(st.sets(st.sampled_from(OTHER_REWARDS)))]
    return draw(st.permutations([trained, held_out, hps, clip, *others]).map(tuple) | st.just((trained,)))


evaluations = st.builds(
    EvaluationSpec,
    every_iterations=positive,
    prompts_path=st.none() | prompt_files,
    max_prompts=positive,
    seed=st.integers(0, 2**63 - 1),
    steps=st.none() | st.integers(2, 100),
    probes=st.lists(texts, max_size=16).map(tuple),
)
optimizers = st.builds(
    OptimizerSpec,
    learning_rate=above_zero,
    betas=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
    epsilon=above_zero,
    weight_decay=not_negative,
    gradient_clip=above_zero,
    max_batch=positive,
    schedule=st.sampled_from(["Constant", "Linear", "Cosine"]),
)
shares = st.floats(0, 1, exclude_min=True)
stops = st.builds(
    StopSpec,
    max_hours=st.none() | above_zero,
    max_gpu_hours=st.none() | above_zero,
    target=st.none() | st.builds(TargetRule, reward=st.just("trained"), value=st.floats(-1e9, 1e9)),
    plateau=st.none() | st.builds(PlateauRule, iterations=st.integers(2, 500), min_delta=not_negative),
    collapse=st.none() | st.builds(CollapseRule, reward_drop=shares, zero_variance=shares, diversity_drop=shares),
)


def models(train: TrainSpec) -> st.SearchStrategy[ModelSpec]:
    """Any model of which these weights are trained."""
    return st.builds(
        ModelSpec,
        family=st.sampled_from(["SD3", "Flux1"]),
        path=texts,
        precision=st.sampled_from(["Float32", "BFloat16"]),
        gradient_checkpointing=st.booleans(),
        max_sequence_length=st.integers(1, 512),
        compile=st.booleans(),
        attention=st.sampled_from(get_args(Attention)),
        text_cache=st.none() | texts,
        train=st.just(train),
    )


@st.composite
def jobs(draw: st.DrawFn) -> G2RPOJob:
    """Any valid job."""
    steps, train = draw(st.integers(2, 60)), draw(trains)
    workers = WorkersSpec(nodes=draw(st.integers(1, 9)), processes_per_node=draw(st.integers(1, 9)))
    training = TrainingSpec(
        seed=draw(st.integers(0, 2**63 - 1)),
        iterations=draw(positive),
        model=draw(models(train)),
        prompts=PromptsSpec(path=draw(prompt_files), per_iteration=workers.ranks * draw(st.integers(1, 9))),
        sampling=SamplingSpec(
            steps=steps,
            shift_rule=draw(st.sampled_from(["Fixed", "Model"])),
            shift=draw(above_zero),
            height=draw(st.integers(8, 4096)),
            width=draw(st.integers(8, 4096)),
            guidance_scale=draw(st.floats(1, 20)),
            vae_tiling_above_pixels=draw(positive),
            truncate_timestep=draw(st.booleans()),
        ),
        algorithm=draw(algorithms(steps, train)),
        rewards=draw(rewards()),
        optimizer=draw(optimizers),
        ema=draw(st.none() | st.builds(EMASpec, decay=st.floats(0, 1, exclude_max=True), every_iterations=positive)),
        deepspeed=DeepSpeedSpec(zero_stage=draw(st.integers(0, 3))),
        checkpoint=CheckpointSpec(
            every_iterations=draw(positive), keep_last=draw(positive), keep_best=draw(st.booleans())
        ),
        evaluation=draw(evaluations),
        safety=SafetySpec(max_non_finite_steps=draw(positive)),
        stop=draw(stops),
    )
    metadata = Metadata(
        name=draw(st.from_regex(r"\A[a-z]([-a-z0-9]{0,46}[a-z0-9])?\Z")),
        namespace=draw(st.none() | texts),
        labels=draw(st.dictionaries(texts, st.text(max_size=5), max_size=2)),
    )
    return G2RPOJob(
        api_version="g2rpo.dev/v1alpha1",
        kind="G2RPOJob",
        metadata=metadata,
        spec=JobSpec(workers=workers, training=training),
    )


@settings(max_examples=50)
@given(job=jobs())
def test_a_job_survives_being_written_and_read(job: G2RPOJob) -> None:
    text = dump_job(job)
    assert parse_job(text) == job
    assert dump_job(parse_job(text)) == text, "the resolved job is a fixed point"


@settings(max_examples=50)
@given(job=jobs())
def test_json_is_read_as_well_as_yaml(job: G2RPOJob) -> None:
    assert parse_job(job.model_dump_json(by_alias=True)) == job
    assert parse_job(json.dumps(job.model_dump(mode="json", by_alias=True), indent=2)) == job
    assert parse_job(job.model_dump(mode="json", by_alias=True)) == job


@settings(max_examples=50)
@given(job=jobs())
def test_other_yaml_readers_see_the_same_job(job: G2RPOJob) -> None:
    assert yaml.safe_load(dump_job(job)) == job.model_dump(mode="json", by_alias=True)


def test_the_resolved_job_spells_every_default_out(required: dict[str, Any]) -> None:
    resolved = yaml.safe_load(dump_job(parse_job(required)))
    assert resolved["spec"]["training"]["optimizer"]["betas"] == [0.9, 0.999]
    assert resolved["spec"]["training"]["algorithm"]["g2rpo"]["granularities"] == [1, 2, 3]
    assert "flowGrpo" not in resolved["spec"]["training"]["algorithm"]


def test_small_numbers_without_a_point_are_numbers(required: dict[str, Any]) -> None:
    required["spec"]["training"]["optimizer"] = {"learningRate": "LEARNING_RATE"}
    text = yaml.safe_dump(required).replace("LEARNING_RATE", "2e-6")
    assert parse_job(text).spec.training.optimizer.learning_rate == 2e-6


def problem_of(text: str) -> SpecProblem:
    """The only problem of a text."""
    with pytest.raises(SpecError) as caught:
        parse_job(text, "job.yaml")
    assert caught.value.source == "job.yaml"
    (problem,) = caught.value.problems
    return problem


ONE_JOB = "one YAML document that is a G2RPOJob"


@pytest.mark.parametrize(
    ("text", "key", "found"),
    [
        ("", "(document)", "no document: the file is empty"),
        ("# only a comment\n", "(document)", "no document: the file is empty"),
        ("a: 1\n---\nb: 2\n---\nc: 3\n", "(document)", "3 documents"),
        ("just words", "(document)", '"just words"'),
        ("[1, 2]", "(document)", "[1, 2]"),
        ("42", "(document)", "42"),
        ("a: [1,\nb", "line 2, column 2", "not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n b: 2", "line 2, column 3", "not YAML: mapping values are not allowed here"),
        ("a: !secret x", "line 1, column 4", "not YAML: could not determine a constructor for the tag '!secret'"),
        ("a: &a [*a]", "line 1, column 4", "not YAML: an alias that contains itself"),
        ("[" * 5000, "(document)", "not YAML: nested too deeply"),
    ],
)
def test_texts_that_are_no_job(text: str, key: str, found: str) -> None:
    problem = problem_of(text)
    assert (problem.key, problem.found, problem.allowed) == (key, found, ONE_JOB)


def test_a_character_that_yaml_forbids_is_named_by_its_place() -> None:
    problem = problem_of("a: \x07")
    assert problem.key == "(document)"
    assert "#x0007" in str(problem.found)
    assert "position 3" in str(problem.found)


def test_repeated_keys_are_named_with_both_lines() -> None:
    with pytest.raises(SpecError) as caught:
        parse_job("kind: G2RPOJob\nspec:\n  training: {seed: 1, seed: 2}\nkind: G2RPOJob\n")
    assert sorted((problem.key, problem.found) for problem in caught.value.problems) == [
        ("kind", "the key on line 1 and again on line 4"),
        ("spec.training.seed", "the key on line 3 and again on line 3"),
    ]


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    with pytest.raises(SpecError) as caught:
        load_job(path)
    assert str(caught.value).startswith(f"{path}: 1 problem")
    assert "No such file or directory" in str(caught.value)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="Is a directory"):
        load_job(tmp_path)


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes("kind: é".encode("latin-1"))
    with pytest.raises(SpecError, match="not UTF-8, at position 6"):
        load_job(path)


def test_a_file_is_read(tmp_path: Path, required: dict[str, Any]) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(required), encoding="utf-8")
    assert load_job(path) == parse_job(required)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_files_from_other_editors(encoding: str, newline: str, tmp_path: Path, required: dict[str, Any]) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(yaml.safe_dump(required).replace("\n", newline).encode(encoding))
    assert load_job(path) == parse_job(required)


def test_a_mapping_that_is_no_dict(required: dict[str, Any]) -> None:
    assert parse_job(MappingProxyType(required)) == parse_job(required)


def test_the_given_mapping_is_left_alone(required: dict[str, Any]) -> None:
    before = json.dumps(required)
    parse_job(required)
    assert json.dumps(required) == before


def test_a_reward_alone_is_read_as_in_a_job() -> None:
    data = {"name": "a", "type": "JPEG", "jpeg": {"score": "Incompressibility"}, "batchSize": 3}
    assert parse_reward(data, "here") == RewardSpec.model_validate(data)


def test_mistakes_in_a_reward_alone_have_their_keys_and_hints() -> None:
    with pytest.raises(SpecError) as caught:
        parse_reward({"name": "a", "type": "JPEG", "jpeg": {"score": "incompressibility"}, "batchsize": 3}, "here")
    found = {problem.key: problem.hint for problem in caught.value.problems}
    assert found == {"jpeg.score": "did you mean Incompressibility?", "batchsize": "did you mean batchSize?"}
    assert "here: 2 problems" in str(caught.value)
