"""What a job costs, against counts made another way: by hand, by walking, and by the real algorithms."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from g2rpo_api.algorithm import AlgorithmSpec, FlowGRPOSettings, G2RPOSettings, NoiseSpec, WindowSpec
from g2rpo_api.errors import SpecError
from g2rpo_api.job import G2RPOJob
from g2rpo_api.model import Family
from g2rpo_api.parse import parse_job
from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.algorithms.flow_grpo import FlowGRPO, SlidingWindow
from g2rpo_trainer.algorithms.g2rpo import G2RPO
from g2rpo_trainer.algorithms.surrogate import UpdateSettings
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.flow.schedule import shifted_grid
from g2rpo_trainer.planning.plan import GroupCost, Plan, describe, group_cost, plan
from g2rpo_trainer.records import Prompt, PromptBatch, Scores


def job(tmp_path: Path, changes: dict[str, Any] | None = None) -> G2RPOJob:
    """A job on a model of the hub with an existing prompt file; `changes` by dotted path below spec."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\n", encoding="utf-8")
    data: dict[str, Any] = {
        "apiVersion": "g2rpo.dev/v1alpha1",
        "kind": "G2RPOJob",
        "metadata": {"name": "counted"},
        "spec": {
            "training": {
                "iterations": 50,
                "model": {"family": "SD3", "path": "org/model", "train": {"type": "LoRA"}},
                "prompts": {"path": str(prompts)},
                "sampling": {"height": 64, "width": 64},
                "algorithm": {"type": "G2RPO"},
                "rewards": [{"name": "ocr", "type": "PaddleOCR"}],
            }
        },
    }
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        target = data["spec"]
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    return parse_job(data)


def training(algorithm: G2RPOSettings | FlowGRPOSettings, steps: int) -> TrainingSpec:
    """The training part of a job, with these settings."""
    kind = "G2RPO" if isinstance(algorithm, G2RPOSettings) else "FlowGRPO"
    data = {"type": kind, "g2rpo" if kind == "G2RPO" else "flow_grpo": algorithm}
    base = TrainingSpec.model_validate(
        {
            "iterations": 1,
            "model": {"family": "SD3", "path": "org/model", "train": {"type": "LoRA"}},
            "prompts": {"path": "prompts.txt"},
            "sampling": {"height": 64, "width": 64, "steps": steps},
            "algorithm": AlgorithmSpec.model_validate(data),
            "rewards": [{"name": "ocr", "type": "PaddleOCR"}],
        }
    )
    assert base.algorithm.settings == algorithm
    return base


@pytest.mark.parametrize(
    ("granularities", "calls", "images"), [((1,), 1120, 97), ((1, 2), 1504, 193), ((1, 2, 3), 1708, 289)]
)
def test_the_published_geometry(granularities: tuple[int, ...], calls: int, images: int) -> None:
    cost = group_cost(training(G2RPOSettings(granularities=granularities), 16))
    assert cost == GroupCost(branches=96, calls=calls, reference_calls=0, forward_backwards=8, images=images)


@pytest.mark.parametrize(
    ("algorithm", "steps", "calls", "rows"),
    [
        (FlowGRPOSettings(train_fraction=0.6), 16, 192, 108),  # DanceGRPO
        (FlowGRPOSettings(window=WindowSpec()), 25, 300, 48),  # MixGRPO
        (FlowGRPOSettings(group_size=24), 10, 240, 216),  # Flow-GRPO
    ],
)
def test_the_published_baselines(algorithm: FlowGRPOSettings, steps: int, calls: int, rows: int) -> None:
    size = algorithm.group_size
    cost = group_cost(training(algorithm, steps))
    assert cost == GroupCost(branches=size, calls=calls, reference_calls=0, forward_backwards=rows, images=size)


def walked_calls(steps: int, group: int, ks: range, strides: tuple[int, ...]) -> int:
    """Velocities that a walk evaluates when it looks every state up before evaluating it.

    A state is its whole history: the anchor's node, or (k, member) and the nodes it came through. The
    coarse nodes are listed as k + 1, k + 2, k + 2 + stride, ... up to T; the last listed one is where a
    step lands, which T replaces.
    """
    evaluated: set[tuple[Any, ...]] = {("anchor", node) for node in range(steps)}
    for k in ks:
        assert ("anchor", k) in evaluated, "the branch starts with a velocity that the anchor has"
        for member in range(group):
            for stride in strides:
                listed = [k + 1, *range(k + 2, steps + 1, stride)]
                history: tuple[Any, ...] = (k, member)
                for node in listed[:-1]:
                    history = (*history, node)
                    evaluated.add(history)
    return len(evaluated)


@given(data=st.data(), steps=st.integers(2, 20), group=st.integers(2, 4))
def test_calls_are_those_of_a_walk_with_a_memory(data: st.DataObject, steps: int, group: int) -> None:
    first = data.draw(st.integers(0, steps - 2))
    count = data.draw(st.integers(1, steps - 1 - first))
    strides = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    algorithm = G2RPOSettings(
        group_size=group, first_stochastic_step=first, stochastic_steps=count, granularities=strides
    )
    cost = group_cost(training(algorithm, steps))
    assert cost.calls == walked_calls(steps, group, algorithm.steps(), strides)
    assert cost.images == 1 + group * count * len(strides)
    assert cost.forward_backwards == count


class CountingPolicy:
    """A made-up model that counts its rows."""

    latent_shape = (1, 2, 2)

    def __init__(self) -> None:
        self.rows = 0
        self.gradient_rows = 0
        self.reference_rows = 0

    def velocity(self, x: Tensor, sigma: Tensor, prompt: Tensor) -> Tensor:
        assert len(x) == len(sigma) == len(prompt)
        if torch.is_grad_enabled():
            self.gradient_rows += len(x)
        else:
            self.rows += len(x)
        return 0.5 * x + sigma.reshape(-1, 1, 1, 1)

    def reference_velocity(self, x: Tensor, sigma: Tensor, prompt: Tensor) -> Tensor:
        self.reference_rows += len(x)
        return 0.4 * x

    def to_device(self, x: Tensor) -> Tensor:
        return x


class CountingScore:
    """A reward that counts pictures."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, latents: Tensor, prompt: Tensor, batch: PromptBatch) -> Scores:
        self.images += len(latents)
        return Scores(latents.flatten(1).mean(dim=1).unsqueeze(0))


def measured(algorithm: G2RPOSettings | FlowGRPOSettings, steps: int, prompts: int) -> tuple[GroupCost, int]:
    """Cost of a group as the real algorithm runs it, and optimizer steps of the iteration."""
    grid = shifted_grid(steps, 1.0)
    update = UpdateSettings(clip_range=1e-3, kl_beta=algorithm.kl_beta, update=algorithm.update, max_batch=3)
    common: dict[str, Any] = {
        "grid": grid,
        "seed": 1,
        "group_size": algorithm.group_size,
        "law": algorithm.noise.law,
        "eta": algorithm.noise.level,
        "weights": torch.ones(1),
        "advantage_clip": algorithm.advantage_clip,
        "zero_variance_tolerance": algorithm.zero_variance_tolerance,
        "update": update,
    }
    runner: G2RPO | FlowGRPO
    if isinstance(algorithm, G2RPOSettings):
        runner = G2RPO(
            **common,
            steps=tuple(algorithm.steps()),
            granularities=algorithm.granularities,
            aggregate=algorithm.aggregate,
        )
    else:
        window = algorithm.window
        runner = FlowGRPO(
            **common,
            shared_start=algorithm.initial_noise == "Shared",
            window=window and SlidingWindow(window.size, window.stride, window.move_every_iterations),
            train_fraction=algorithm.train_fraction,
        )
    batch = PromptBatch(7, tuple(range(prompts)), tuple(Prompt(i, "p", {}) for i in range(prompts)))
    policy, score = CountingPolicy(), CountingScore()
    experience = runner.collect(policy, batch, score)
    boundaries = sum(loss.boundary for loss in runner.losses(policy, experience))
    branches = experience.rollout.advantages.shape[0] * algorithm.group_size
    counts = (policy.rows, policy.reference_rows, policy.gradient_rows, score.images)
    assert all(count % prompts == 0 for count in counts), "every group costs the same"
    return GroupCost(branches, *(count // prompts for count in counts)), boundaries


ALGORITHMS: dict[str, G2RPOSettings | FlowGRPOSettings] = {
    "g2rpo": G2RPOSettings(group_size=3, stochastic_steps=4),
    "late steps, coarse and repeated strides, KL": G2RPOSettings(
        group_size=2, first_stochastic_step=3, stochastic_steps=3, granularities=(2, 2, 5), kl_beta=0.1
    ),
    "one granularity, one update": G2RPOSettings(
        group_size=2, stochastic_steps=2, granularities=(1,), update="PerIteration"
    ),
    "flow-grpo": FlowGRPOSettings(group_size=3),
    "dance-grpo": FlowGRPOSettings(
        group_size=2, train_fraction=0.6, initial_noise="Shared", noise=NoiseSpec(law="Dance")
    ),
    "mix-grpo with KL": FlowGRPOSettings(group_size=2, window=WindowSpec(size=3), kl_beta=0.1, update="PerStep"),
    "half a window": FlowGRPOSettings(group_size=2, window=WindowSpec(size=5), train_fraction=0.5, update="PerStep"),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
@pytest.mark.parametrize("prompts", [1, 3])
def test_the_algorithms_cost_what_the_plan_says(
    algorithm: G2RPOSettings | FlowGRPOSettings, prompts: int, tmp_path: Path
) -> None:
    steps = 9
    spec = training(algorithm, steps)
    cost, boundaries = measured(algorithm, steps, prompts)
    assert group_cost(spec) == cost
    data = spec.algorithm.model_dump(mode="json", by_alias=True)
    counted = plan(job(tmp_path, {"training.algorithm": data, "training.sampling.steps": steps}))
    assert counted.optimizer_steps == boundaries


@settings(max_examples=25)
@given(
    group=st.integers(2, 4),
    steps=st.integers(3, 8),
    strides=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    data=st.data(),
)
def test_any_g2rpo_costs_what_the_plan_says(
    group: int, steps: int, strides: tuple[int, ...], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, steps - 2))
    count = data.draw(st.integers(1, steps - 1 - first))
    algorithm = G2RPOSettings(
        group_size=group, first_stochastic_step=first, stochastic_steps=count, granularities=strides
    )
    assert measured(algorithm, steps, 1)[0] == group_cost(training(algorithm, steps))


def test_an_iteration_is_groups_times_a_group(tmp_path: Path) -> None:
    changes = {"workers.nodes": 2, "workers.processesPerNode": 2, "training.prompts.perIteration": 12}
    counted = plan(job(tmp_path, changes))
    assert (counted.ranks, counted.groups, counted.prompts_per_rank) == (4, 12, 3)
    assert counted.model_rows == 12 * 1708
    assert counted.gradient_rows == 12 * 8
    assert counted.images == 12 * 289


def test_guidance_doubles_the_rows_but_not_the_pictures(tmp_path: Path) -> None:
    plain = plan(job(tmp_path))
    guided = plan(job(tmp_path, {"training.sampling.guidanceScale": 4.5}))
    assert (guided.model_rows, guided.gradient_rows) == (2 * plain.model_rows, 2 * plain.gradient_rows)
    assert (guided.images, guided.group) == (plain.images, plain.group)


def test_a_local_flux_is_counted_and_its_sizes_are_checked(tmp_path: Path, flux_folders: Mapping[str, Path]) -> None:
    model = {"family": "Flux1", "path": str(flux_folders["dev"]), "precision": "BFloat16", "train": {"type": "LoRA"}}
    size = {"training.model": model, "training.sampling.height": 24, "training.sampling.width": 16}
    parts = plan(job(tmp_path, size)).footprint
    assert parts is not None
    # rank 32: 8 projections 32 x 32 in each of 2 blocks of two streams, 3 in each of 2 blocks of one
    assert parts.trained_parameters == 32 * (32 + 32) * (2 * 8 + 2 * 3)
    with pytest.raises(SpecError, match=r"sampling\.height(.|\n)*a multiple of 4 .* pixels"):
        plan(job(tmp_path, size | {"training.sampling.height": 26}))


@pytest.mark.parametrize(
    ("family", "index", "message"),
    [
        ("Flux1", None, "holds a StableDiffusion3Pipeline, not a FluxPipeline; set spec.training.model.family"),
        ("SD3", '{"_class_name": "FluxPipeline"}', "holds a FluxPipeline, not a StableDiffusion3Pipeline"),
        ("SD3", "{}", "holds a None, not"),
        ("SD3", "{", "model_index.json is not JSON"),
    ],
)
def test_a_model_of_another_family_is_refused(
    family: str, index: str | None, message: str, tmp_path: Path, model_folder: Callable[..., Path]
) -> None:
    folder = model_folder()
    if index is not None:
        (folder / "model_index.json").write_text(index, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        plan(job(tmp_path, {"training.model.path": str(folder), "training.model.family": family}))


def test_attention_that_sd3_cannot_have_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    changes = {"training.model.attention": "NativeFlash"}
    with pytest.raises(SpecError) as refused:
        plan(job(tmp_path, changes))
    (problem,) = refused.value.problems
    assert (problem.key, problem.found, problem.hint) == (
        "spec.training.model.attention", "NativeFlash", "set it to Native",
    )  # fmt: skip
    plan(job(tmp_path, changes | {"training.model.family": "Flux1"}))


def test_the_names_of_pipelines_are_those_of_the_classes_that_load_them() -> None:
    import diffusers

    from g2rpo_trainer.models.facts import PIPELINES
    from g2rpo_trainer.models.loading import FAMILIES

    assert PIPELINES.keys() == FAMILIES.keys() == set(get_args(Family))
    for name in PIPELINES.values():
        assert issubclass(getattr(diffusers, name), diffusers.DiffusionPipeline)


@pytest.mark.parametrize("embeds", [False, None])
def test_guidance_that_the_model_cannot_be_told_is_refused(
    embeds: bool | None, tmp_path: Path, model_folder: Callable[..., Path]
) -> None:
    folder = model_folder()
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}', encoding="utf-8")
    config = folder / "transformer" / "config.json"
    schnell = json.loads(config.read_text()) | ({} if embeds is None else {"guidance_embeds": embeds})
    config.write_text(json.dumps(schnell), encoding="utf-8")
    changes = {"training.model.path": str(folder), "training.model.family": "Flux1"}
    plan(job(tmp_path, changes))
    with pytest.raises(DataError, match=r"^spec\.training\.sampling\.guidanceScale is 3\.5, .*schnell.* set it to 1"):
        plan(job(tmp_path, changes | {"training.sampling.guidanceScale": 3.5}))
    config.write_text(json.dumps(schnell | {"guidance_embeds": True}), encoding="utf-8")
    plan(job(tmp_path, changes | {"training.sampling.guidanceScale": 3.5}))


def test_guidance_that_is_an_input_costs_no_rows(tmp_path: Path) -> None:
    flux = {"training.model.family": "Flux1"}
    guided = plan(job(tmp_path, flux | {"training.sampling.guidanceScale": 3.5}))
    assert guided == plan(job(tmp_path, flux))
    assert guided.rows_per_call == 1


def test_the_kl_term_costs_a_call_per_update_row(tmp_path: Path) -> None:
    plain = plan(job(tmp_path))
    with_kl = plan(job(tmp_path, {"training.algorithm.g2rpo.klBeta": 0.01}))
    assert with_kl.model_rows - plain.model_rows == with_kl.gradient_rows


@pytest.mark.parametrize(
    ("iterations", "every", "keep", "written", "kept"),
    [(50, 20, 3, 3, 3), (60, 20, 3, 3, 3), (61, 20, 3, 4, 3), (5, 20, 3, 1, 1), (100, 1, 2, 100, 2)],
)
def test_checkpoints(iterations: int, every: int, keep: int, written: int, kept: int, tmp_path: Path) -> None:
    by_hand = sum(i % every == 0 or i == iterations for i in range(1, iterations + 1))
    changes = {
        "training.iterations": iterations,
        "training.checkpoint.everyIterations": every,
        "training.checkpoint.keepLast": keep,
    }
    counted = plan(job(tmp_path, changes))
    assert (counted.checkpoints, counted.checkpoints_kept) == (written, kept)
    assert written == by_hand


@pytest.mark.parametrize(("iterations", "every"), [(50, 20), (60, 20), (5, 20), (7, 1)])
def test_evaluations_are_before_after_and_in_between(iterations: int, every: int, tmp_path: Path) -> None:
    by_hand = sum(i % every == 0 or i == iterations for i in range(iterations + 1))
    changes = {"training.iterations": iterations, "training.evaluation.everyIterations": every}
    assert plan(job(tmp_path, changes)).evaluations == by_hand


def test_unseen_prompts_are_evaluated_too(tmp_path: Path) -> None:
    unseen = tmp_path / "unseen.jsonl"
    unseen.write_text('{"prompt": "a dog"}\n', encoding="utf-8")
    changes: dict[str, Any] = {"training.evaluation.maxPrompts": 10}
    assert plan(job(tmp_path, changes)).evaluation_images == 10
    assert plan(job(tmp_path, {**changes, "training.evaluation.promptsPath": str(unseen)})).evaluation_images == 20


def test_missing_prompt_files_are_all_named(tmp_path: Path) -> None:
    changes = {"training.prompts.path": "nowhere.txt", "training.evaluation.promptsPath": str(tmp_path / "gone.jsonl")}
    with pytest.raises(DataError) as caught:
        plan(job(tmp_path, changes))
    first, second = str(caught.value).splitlines()
    assert first.startswith("spec.training.prompts.path: there is no file nowhere.txt;")
    assert second.startswith(f"spec.training.evaluation.promptsPath: there is no file {tmp_path}/gone.jsonl;")


@pytest.mark.parametrize("path", ["/nowhere/model", "./model"])
def test_a_missing_model_folder_is_named(path: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"spec\.training\.model\.path: there is no folder"):
        plan(job(tmp_path, {"training.model.path": path}))


def test_a_model_on_the_hub_has_no_known_size(tmp_path: Path) -> None:
    counted = plan(job(tmp_path))
    assert counted.footprint is None
    assert "memory of a rank\n  unknown" in describe(counted)


def test_pictures_must_fit_the_patches(tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    changes = {
        "training.model.path": str(model_folder()),
        "training.sampling.height": 24,
        "training.sampling.width": 40,
    }
    with pytest.raises(SpecError) as caught:
        plan(job(tmp_path, changes))
    found = [(problem.key, problem.found, problem.hint) for problem in caught.value.problems]
    assert found == [
        ("spec.training.sampling.height", 24, "set it to 32"),
        ("spec.training.sampling.width", 40, "set it to 32"),
    ]
    assert all("multiple of 16" in problem.allowed for problem in caught.value.problems)


TABLE = """\
counted: 50 iterations of G2RPO on 2 ranks

each iteration
  groups (prompts)                   4   2 on each rank
  branches                         384   96 per group
  model calls                   13,664   1,708 per group x 2 for guidance
  forward-backwards                 64   8 per group x 2 for guidance
  pictures scored                1,156   289 per group
  optimizer steps                    8

the whole run
  model calls                  683,200
  pictures scored               57,800
  optimizer steps                  400
  evaluations                        4   of at most 64 pictures
  checkpoints                        3   3 kept

memory of a rank
  unknown                                the model is not in a local folder, so its size is not known here"""


def test_the_table(tmp_path: Path) -> None:
    changes = {
        "workers.processesPerNode": 2,
        "training.prompts.perIteration": 4,
        "training.sampling.guidanceScale": 2,
    }
    assert describe(plan(job(tmp_path, changes))) == TABLE


def test_one_is_not_many(tmp_path: Path) -> None:
    title = describe(plan(job(tmp_path, {"training.iterations": 1}))).splitlines()[0]
    assert title == "counted: 1 iteration of G2RPO on 1 rank"


def test_the_table_tells_what_the_kl_term_costs(tmp_path: Path) -> None:
    table = describe(plan(job(tmp_path, {"training.algorithm.g2rpo.klBeta": 0.01})))
    assert "model calls                    1,716   1,708 + 8 for the KL term per group" in table


def memory_lines(counted: Plan) -> list[str]:
    return describe(counted).split("memory of a rank\n")[1].splitlines()


def test_memory_is_told_part_by_part(tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    counted = plan(job(tmp_path, {"training.model.path": str(model_folder())}))
    assert counted.footprint is not None
    sizes = replace(
        counted.footprint,
        trained_parameters=1_500_000,
        transformer=6 * 2**30,
        master_weights=0,
        gradients=5 * 2**20,
        moments=1024,
        mean_weights=0,
        vae=1023,
        text_encoders=3 * 2**40,
        rollout=0,
        checkpoint=1536,
    )
    table = replace(counted, footprint=sizes)
    assert [line.split("  ")[1].strip() for line in memory_lines(table)] == [
        "transformer",
        "gradients",
        "Adam's moments",
        "VAE",
        "text encoders",
        "together",
    ]
    text = describe(table)
    for shown in ("6.0 GiB   1,500,000 parameters", "5.0 MiB", "1.0 KiB", "1023 B", "3.0 TiB", "3 kept, 1.5 KiB each"):
        assert shown in text
    assert "without activations" in memory_lines(table)[-1]


def test_counting_needs_no_torch() -> None:
    program = (
        "import sys, g2rpo_trainer.planning.plan; print(sorted({'torch', 'numpy', 'diffusers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
