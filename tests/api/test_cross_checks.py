"""Values that are fine alone and wrong together, each with the key to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from g2rpo_api.algorithm import AlgorithmSpec, FlowGRPOSettings, G2RPOSettings, NoiseSpec, WindowSpec
from g2rpo_api.errors import SpecError, SpecProblem
from g2rpo_api.job import JobSpec, WorkersSpec
from g2rpo_api.parse import parse_job
from g2rpo_api.training import TrainingSpec

Find = Callable[[dict[str, Any]], list[SpecProblem]]
Make = Callable[[dict[str, Any]], dict[str, Any]]

TRAINING = "spec.training"
G2RPO = f"{TRAINING}.algorithm.g2rpo"
STEPS = f"{TRAINING}.sampling.steps"


def flow(**settings: Any) -> dict[str, Any]:
    """Change to FlowGRPO with these settings."""
    return {f"{TRAINING}.algorithm": {"type": "FlowGRPO", "flowGrpo": settings}}


def only(problems: list[SpecProblem]) -> SpecProblem:
    assert len(problems) == 1, problems
    return problems[0]


@given(
    steps=st.integers(2, 40),
    first=st.integers(0, 45),
    count=st.integers(1, 45),
)
def test_every_stochastic_step_leaves_a_step_to_go(steps: int, first: int, count: int) -> None:
    settings = G2RPOSettings(first_stochastic_step=first, stochastic_steps=count)
    each_fits = all(k + 1 <= steps - 1 for k in range(first, first + count))
    assert (list(settings.grid_faults(steps)) == []) == each_fits


@given(steps=st.integers(2, 40), size=st.integers(1, 45))
def test_a_window_fits_before_the_last_step(steps: int, size: int) -> None:
    settings = FlowGRPOSettings(window=WindowSpec(size=size))
    assert (list(settings.grid_faults(steps)) == []) == (size < steps)


def test_too_many_stochastic_steps(problems_of: Find) -> None:
    problem = only(problems_of({STEPS: 8}))
    assert problem == SpecProblem(
        key=f"{G2RPO}.stochasticSteps",
        found="8",
        allowed="an integer from 1 to 7 (sampling.steps - 1 - firstStochasticStep)",
        hint="lower it, or raise sampling.steps (now 8): the last one must leave a step to go",
    )
    assert problems_of({STEPS: 9}) == []


def test_what_is_allowed_is_accepted(problems_of: Find) -> None:
    changes = {STEPS: 10, f"{G2RPO}.firstStochasticStep": 4}
    assert "from 1 to 5 " in only(problems_of(changes)).allowed
    assert problems_of({**changes, f"{G2RPO}.stochasticSteps": 5}) == []
    assert problems_of({**changes, f"{G2RPO}.stochasticSteps": 6}) != []


def test_the_first_stochastic_step_beyond_the_grid(problems_of: Find) -> None:
    problem = only(problems_of({STEPS: 4, f"{G2RPO}.firstStochasticStep": 3}))
    assert problem.key == f"{G2RPO}.firstStochasticStep"
    assert problem.allowed == "an integer from 0 to 2 (sampling.steps - 2)"


def test_a_window_wider_than_the_grid(problems_of: Find) -> None:
    changes = {**flow(window={"size": 8}), STEPS: 8}
    problem = only(problems_of(changes))
    assert problem.key == f"{TRAINING}.algorithm.flowGrpo.window.size"
    assert problem.allowed == "an integer from 1 to 7 (sampling.steps - 1)"
    assert problems_of({**changes, STEPS: 9}) == []


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [({f"{G2RPO}.klBeta": 0.04}, f"{G2RPO}.klBeta"), (flow(klBeta=0.04), f"{TRAINING}.algorithm.flowGrpo.klBeta")],
)
def test_the_kl_term_needs_an_adapter_to_switch_off(algorithm: dict[str, Any], key: str, problems_of: Find) -> None:
    full = {f"{TRAINING}.model.train": {"type": "Full"}}
    assert problems_of(algorithm) == []
    problem = only(problems_of({**algorithm, **full}))
    assert (problem.key, problem.found) == (key, "0.04")
    assert "LoRA" in problem.hint
    assert problems_of(full) == []


@pytest.mark.parametrize(("law", "eta", "wrong"), [("CPS", 1.0, False), ("CPS", 1.01, True), ("Flow", 1.5, False)])
def test_cps_replaces_at_most_all_noise(law: str, eta: float, wrong: bool, problems_of: Find) -> None:
    found = problems_of({f"{G2RPO}.noise": {"law": law, "eta": eta}})
    assert [problem.key for problem in found] == ([f"{G2RPO}.noise.eta"] if wrong else [])


def test_reward_names_are_unique(problems_of: Find) -> None:
    def reward(name: str) -> dict[str, Any]:
        return {"name": name, "type": "PaddleOCR"}

    found = problems_of({f"{TRAINING}.rewards": [reward("a"), reward("b"), reward("a"), reward("a")]})
    assert [problem.key for problem in found] == [f"{TRAINING}.rewards[2].name", f"{TRAINING}.rewards[3].name"]
    assert found[0].hint == "rewards[0] has the same name: change or remove one of them"


def test_something_must_be_trained_on(problems_of: Find) -> None:
    problem = only(problems_of({f"{TRAINING}.rewards.0.role": "HeldOut"}))
    assert problem.key == f"{TRAINING}.rewards"
    assert "role Train" in problem.allowed


def test_a_target_is_about_one_of_the_rewards(problems_of: Find) -> None:
    problem = only(problems_of({f"{TRAINING}.stop.target": {"reward": "hps", "value": 0.3}}))
    assert problem == SpecProblem(
        key=f"{TRAINING}.stop.target.reward",
        found='"hps"',
        allowed="a name of the rewards: ocr",
        hint="name one of them",
    )
    assert problems_of({f"{TRAINING}.stop.target": {"reward": "ocr", "value": 0.3}}) == []


def test_hacking_is_seen_by_a_reward_that_is_held_out(problems_of: Find) -> None:
    rule = {f"{TRAINING}.stop.hacking": {}}
    problem = only(problems_of(rule))
    assert problem.key == f"{TRAINING}.stop.hacking"
    assert problem.allowed == "absent without a reward of role HeldOut"
    judge = {f"{TRAINING}.rewards.1": {"name": "reader", "type": "DdddOCR", "role": "HeldOut"}}
    assert problems_of(rule | judge) == []
    alone = problems_of({f"{TRAINING}.stop.hacking": {"evaluations": 1}} | judge)
    assert only(alone).key == f"{TRAINING}.stop.hacking.evaluations", "a change wants two of them"


def test_a_warm_up_ends_within_the_run(problems_of: Find) -> None:
    problem = only(problems_of({f"{TRAINING}.optimizer.warmupIterations": 11}))
    assert problem.key == f"{TRAINING}.optimizer.warmupIterations"
    assert problem.allowed == "at most 10 (iterations)"
    assert problems_of({f"{TRAINING}.optimizer.warmupIterations": 11, f"{TRAINING}.iterations": 11}) == []


@pytest.mark.parametrize(
    ("nodes", "processes", "prompts", "nearest"), [(1, 2, 3, 4), (2, 8, 1, 16), (3, 1, 7, 6), (1, 4, 9, 8)]
)
def test_prompts_are_shared_out_evenly(
    nodes: int, processes: int, prompts: int, nearest: int, problems_of: Find
) -> None:
    workers = {"spec.workers": {"nodes": nodes, "processesPerNode": processes}}
    problem = only(problems_of({**workers, f"{TRAINING}.prompts.perIteration": prompts}))
    assert (problem.key, problem.found) == (f"{TRAINING}.prompts.perIteration", str(prompts))
    assert f"a multiple of {nodes * processes}" in problem.allowed
    assert f"{nodes} x {processes}" in problem.allowed
    assert f"set it to {nearest}," in problem.hint
    assert problems_of({**workers, f"{TRAINING}.prompts.perIteration": nearest}) == []


@given(nodes=st.integers(1, 5), processes=st.integers(1, 5))
def test_ranks_are_processes(nodes: int, processes: int) -> None:
    assert WorkersSpec(nodes=nodes, processes_per_node=processes).ranks == nodes * processes


@pytest.mark.parametrize("path", ["builtin:miniature", "org/model", "/models/sd3", "./sd3"])
def test_model_paths(path: str, problems_of: Find) -> None:
    assert problems_of({f"{TRAINING}.model.path": path}) == []


def test_a_model_that_does_not_ship(problems_of: Find) -> None:
    problem = only(problems_of({f"{TRAINING}.model.path": "builtin:minature"}))
    assert problem.key == f"{TRAINING}.model.path"
    assert "builtin:miniature" in problem.allowed


@pytest.mark.parametrize("key", ["prompts.path", "evaluation.promptsPath"])
@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("a.txt", False),
        ("/data/a.jsonl", False),
        ("builtin:numbers", False),
        ("builtin:numbers-heldout", False),
        ("builtin:letters", True),
        ("a.json", False),
        ("/data/a.parquet", False),
        ("/data/saved/train/", False),
        ("/data/saved/train", True),
        ("a.csv", True),
        ("prompts", True),
    ],
)
def test_prompt_files_are_told_by_their_suffix(key: str, path: str, wrong: bool, problems_of: Find) -> None:
    found = problems_of({f"{TRAINING}.{key}": path})
    assert [problem.key for problem in found] == ([f"{TRAINING}.{key}"] if wrong else [])


def test_all_of_them_are_reported_together(problems_of: Find) -> None:
    changes = {
        "spec.workers.nodes": 2,
        STEPS: 4,
        f"{TRAINING}.prompts.path": "a.csv",
        f"{TRAINING}.model.train": {"type": "Full", "lora": {}},
        f"{G2RPO}.klBeta": 1,
        f"{G2RPO}.noise": {"law": "CPS", "eta": 2},
        f"{TRAINING}.rewards.0.role": "HeldOut",
    }
    assert sorted(problem.key for problem in problems_of(changes)) == [
        f"{G2RPO}.klBeta",
        f"{G2RPO}.noise.eta",
        f"{G2RPO}.stochasticSteps",
        f"{TRAINING}.model.train.lora",
        f"{TRAINING}.prompts.path",
        f"{TRAINING}.prompts.perIteration",
        f"{TRAINING}.rewards",
    ]


def test_they_wait_until_every_value_is_right(problems_of: Find) -> None:
    changes = {STEPS: 4, "spec.workers.nodes": 0}
    assert [problem.key for problem in problems_of(changes)] == ["spec.workers.nodes"]


def test_models_made_in_python_are_held_to_the_same(job_with: Make) -> None:
    training = parse_job(job_with({})).spec.training
    with pytest.raises(ValidationError, match="perIteration"):
        JobSpec(workers=WorkersSpec(nodes=2), training=training)
    with pytest.raises(ValidationError, match="at most 1 when law is CPS"):
        NoiseSpec(law="CPS", eta=1.5)
    wide = AlgorithmSpec(type="FlowGRPO", flow_grpo=FlowGRPOSettings(window=WindowSpec(size=16)))
    with pytest.raises(ValidationError) as caught:
        TrainingSpec.model_validate({**dict(training), "algorithm": wide})
    assert [error["loc"] for error in caught.value.errors()] == [("algorithm", "flowGrpo", "window", "size")]


def test_an_accepted_job_is_accepted_again_by_its_model(job_with: Make) -> None:
    job = parse_job(job_with({"spec.workers.nodes": 2, f"{TRAINING}.prompts.perIteration": 4}))
    assert type(job).model_validate(job.model_dump()) == job


def test_a_rejected_job_never_comes_back(job_with: Make) -> None:
    with pytest.raises(SpecError) as caught:
        parse_job(job_with({STEPS: 4}), "flux.yaml")
    assert str(caught.value).startswith("flux.yaml: 1 problem\n")


@pytest.mark.parametrize(
    ("key", "least", "remedy"), [("offloadOptimizer", 1, "at least 1"), ("offloadParameters", 3, "3")]
)
def test_only_what_a_stage_splits_can_be_offloaded(key: str, least: int, remedy: str, problems_of: Find) -> None:
    for stage in range(4):
        problems = problems_of({f"{TRAINING}.deepspeed": {"zeroStage": stage, key: "CPU"}})
        assert bool(problems) == (stage < least)
        assert not problems_of({f"{TRAINING}.deepspeed": {"zeroStage": stage, key: "None"}})
        for problem in problems:
            assert (problem.key, problem.found) == (f"{TRAINING}.deepspeed.{key}", '"CPU"')
            assert problem.hint == f"remove it, or set zeroStage to {remedy}"
