"""Every value is held to its kind and range, and the error names its key.

The cases come from the job's JSON schema, so that a new field is covered the day it appears; the
ranges that matter are written down once more by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from g2rpo_api.algorithm import G2RPOSettings
from g2rpo_api.errors import SpecProblem, key_path
from g2rpo_api.parse import job_schema, parse_job
from g2rpo_api.schema import child, keys

Find = Callable[[dict[str, Any]], list[SpecProblem]]
Make = Callable[[dict[str, Any]], dict[str, Any]]

FLOW = {"spec.training.algorithm": {"type": "FlowGRPO", "flowGrpo": {"window": {}}}}
DDDD = {"spec.training.rewards.0": {"name": "ocr", "type": "DdddOCR"}}


def leaves(at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of all single values in a job; the first item stands for a list."""
    node = child(job_schema(), at)
    names = keys(job_schema(), node)
    for name in names:
        yield from leaves((*at, name))
    if "items" in node:
        yield from leaves((*at, 0))
    elif not names and at:
        yield at


LEAVES = [path for path in leaves() if path[:2] not in (("metadata", "labels"), ("metadata", "annotations"))]


def kinds(*names: str) -> list[str]:
    """Dotted paths of the leaves of these JSON types that have no closed list of choices."""
    found = []
    for path in LEAVES:
        node = child(job_schema(), path)
        if node.get("type") in names and not {"enum", "x-kubernetes-int-or-string"} & set(node):
            found.append(".".join(map(str, path)))
    return found


def changes_for(path: str, value: Any) -> dict[str, Any]:
    """The change, with the variant that the key belongs to, and the list that the item is in."""
    base: dict[str, Any] = {}
    if ".flowGrpo" in path:
        base |= FLOW
    if ".ddddOcr" in path:
        base |= DDDD
    if ".tolerations.0." in path:
        base |= {"spec.workers.tolerations.0": {"key": "a", "effect": "NoExecute"}}
    if path == "spec.training.optimizer.betas.0":
        return {**base, "spec.training.optimizer.betas": [value, value]}
    return {**base, path: value}


def keys_of(problems: list[SpecProblem]) -> set[str]:
    return {problem.key for problem in problems}


def parts(path: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdigit() else part for part in path.split("."))


def shown(path: str) -> str:
    return key_path(parts(path))


def test_the_schema_was_walked() -> None:
    assert len(LEAVES) > 60
    assert "spec.training.optimizer.betas.0" in kinds("number")
    assert "spec.training.algorithm.flowGrpo.window.size" in kinds("integer")


@pytest.mark.parametrize("path", kinds("integer"))
@pytest.mark.parametrize("value", ["1", True, 1.5, 1e20, [1], {}], ids=repr)
def test_integers_are_not_guessed_from_other_kinds(path: str, value: Any, problems_of: Find) -> None:
    assert shown(path) in keys_of(problems_of(changes_for(path, value)))


@pytest.mark.parametrize("path", kinds("number"))
@pytest.mark.parametrize("value", ["0.5", True, [1], {}, float("nan"), float("inf")], ids=repr)
def test_numbers_are_finite_and_not_guessed(path: str, value: Any, problems_of: Find) -> None:
    assert shown(path) in keys_of(problems_of(changes_for(path, value)))


@pytest.mark.parametrize("path", kinds("boolean"))
@pytest.mark.parametrize("value", ["true", 1, 0, "yes"], ids=repr)
def test_booleans_are_not_guessed(path: str, value: Any, problems_of: Find) -> None:
    assert shown(path) in keys_of(problems_of(changes_for(path, value)))


@pytest.mark.parametrize("path", kinds("string"))
@pytest.mark.parametrize("value", [1, True, 1.5, ["a"], {}], ids=repr)
def test_texts_are_not_guessed(path: str, value: Any, problems_of: Find) -> None:
    assert shown(path) in keys_of(problems_of(changes_for(path, value)))


@pytest.mark.parametrize("path", kinds("integer"))
def test_an_integer_may_be_written_as_a_whole_float_as_in_json(path: str, problems_of: Find) -> None:
    small = float(max(2, child(job_schema(), parts(path))["minimum"]))
    assert shown(path) not in keys_of(problems_of(changes_for(path, small)))
    assert shown(path) in keys_of(problems_of(changes_for(path, 2.0**60))), (
        "floats of this size stand for many integers"
    )


def test_a_whole_float_is_an_integer_from_then_on(job_with: Make) -> None:
    job = parse_job(job_with({"spec.training.seed": 16.0, "spec.training.algorithm.g2rpo.granularities": [1.0, 2]}))
    assert repr(job.spec.training.seed) == "16"
    assert repr(job.spec.training.algorithm.settings) == repr(G2RPOSettings(granularities=(1, 2)))


@pytest.mark.parametrize("path", [".".join(map(str, path)) for path in LEAVES])
def test_null_is_refused_where_there_is_no_default(path: str, problems_of: Find) -> None:
    parent, last = parts(path)[:-1], parts(path)[-1]
    needed = isinstance(last, int) or last in child(job_schema(), parent).get("required", ())
    assert (shown(path) in keys_of(problems_of(changes_for(path, None)))) == needed


NULLS = [
    "workers",
    "workers.nodes",
    "policy.maxRestarts",
    "training.optimizer",
    "training.sampling.steps",
    "workers.env",
]


@pytest.mark.parametrize("path", NULLS)
def test_null_counts_as_left_out_where_there_is_a_default(path: str, job_with: Make) -> None:
    assert parse_job(job_with({f"spec.{path}": None})) == parse_job(job_with({}))


@pytest.mark.parametrize("field", ["startTimeoutSeconds", "progressTimeoutSeconds"])
def test_null_switches_a_timeout_off(field: str, job_with: Make) -> None:
    assert parse_job(job_with({})).spec.policy.model_dump(by_alias=True)[field] == 1800
    assert parse_job(job_with({f"spec.policy.{field}": None})).spec.policy.model_dump(by_alias=True)[field] is None


def test_null_leaves_the_ownership_of_volumes_alone(job_with: Make) -> None:
    assert parse_job(job_with({"spec.workers.security.fsGroup": None})).spec.workers.security.fs_group is None


def test_empty_values_of_free_keys_are_dropped(job_with: Make) -> None:
    workers = parse_job(job_with({"spec.workers.labels": {"a": None, "b": "c"}})).spec.workers
    assert workers.labels == {"b": "c"}


@pytest.mark.parametrize("path", kinds("integer", "number"))
def test_bounds_are_enforced_where_the_schema_states_them(path: str, problems_of: Find) -> None:
    node = child(job_schema(), parts(path))
    outside = {
        "minimum": lambda bound: bound - 1,
        "exclusiveMinimum": lambda bound: bound,
        "maximum": lambda bound: bound + 1,
        "exclusiveMaximum": lambda bound: bound,
    }
    bounds = [keyword for keyword in outside if keyword in node]
    assert bounds, "no number of a job is without a bound"
    assert "maximum" in node or node["type"] == "number", "integers have 32 bits, or 64"
    for keyword in bounds:
        assert shown(path) in keys_of(problems_of(changes_for(path, outside[keyword](node[keyword])))), keyword


@pytest.mark.parametrize("path", [".".join(map(str, path)) for path in LEAVES if "enum" in child(job_schema(), path)])
def test_choices_are_a_closed_list(path: str, problems_of: Find) -> None:
    assert shown(path) in keys_of(problems_of(changes_for(path, "something else")))


SMALLEST = {
    "spec.workers.nodes": 1,
    "spec.workers.processesPerNode": 1,
    "spec.training.seed": 0,
    "spec.training.iterations": 1,
    "spec.training.model.maxSequenceLength": 1,
    "spec.training.model.train.lora.rank": 1,
    "spec.training.prompts.perIteration": 1,
    "spec.training.sampling.guidanceScale": 1,
    "spec.training.sampling.maxBatch": 1,
    "spec.training.algorithm.g2rpo.groupSize": 2,
    "spec.training.algorithm.g2rpo.firstStochasticStep": 0,
    "spec.training.algorithm.g2rpo.stochasticSteps": 1,
    "spec.training.algorithm.g2rpo.zeroVarianceTolerance": 0,
    "spec.training.algorithm.g2rpo.klBeta": 0,
    "spec.training.rewards.0.batchSize": 1,
    "spec.training.optimizer.weightDecay": 0,
    "spec.training.optimizer.maxBatch": 1,
    "spec.training.deepspeed.zeroStage": 0,
    "spec.training.checkpoint.everyIterations": 1,
    "spec.training.checkpoint.keepLast": 1,
    "spec.training.evaluation.everyIterations": 1,
    "spec.training.evaluation.maxPrompts": 1,
    "spec.training.evaluation.steps": 2,
    "spec.training.evaluation.seed": 0,
    "spec.training.optimizer.warmupIterations": 0,
    "spec.training.ema.decay": 0,
    "spec.training.ema.everyIterations": 1,
    "spec.training.safety.maxNonFiniteSteps": 1,
    "spec.training.stop.plateau.iterations": 2,
    "spec.training.stop.plateau.minDelta": 0,
    "spec.training.stop.collapse.iterations": 2,
}


@pytest.mark.parametrize(("path", "least"), SMALLEST.items())
def test_the_smallest_value_is_accepted_and_the_next_is_not(path: str, least: int, problems_of: Find) -> None:
    assert problems_of({path: least}) == []
    assert keys_of(problems_of({path: least - 1})) == {shown(path)}


LARGEST = {
    "spec.training.seed": 2**63 - 1,
    "spec.training.model.maxSequenceLength": 512,
    "spec.training.deepspeed.zeroStage": 3,
    "spec.training.evaluation.seed": 2**63 - 1,
    "spec.training.optimizer.warmupIterations": 10,
    "spec.training.stop.collapse.rewardDrop": 1,
    "spec.training.stop.collapse.zeroVariance": 1,
    "spec.training.stop.collapse.diversityDrop": 1,
}


@pytest.mark.parametrize(("path", "most"), LARGEST.items())
def test_the_largest_value_is_accepted_and_the_next_is_not(path: str, most: int, problems_of: Find) -> None:
    assert problems_of({path: most}) == []
    assert keys_of(problems_of({path: most + 1})) == {shown(path)}


ABOVE_ZERO = [
    "spec.training.sampling.shift",
    "spec.training.model.train.lora.alpha",
    "spec.training.algorithm.g2rpo.noise.eta",
    "spec.training.algorithm.g2rpo.clipRange",
    "spec.training.algorithm.g2rpo.advantageClip",
    "spec.training.rewards.0.weight",
    "spec.training.optimizer.learningRate",
    "spec.training.optimizer.epsilon",
    "spec.training.optimizer.gradientClip",
    "spec.training.stop.maxHours",
    "spec.training.stop.maxGpuHours",
    "spec.training.stop.collapse.rewardDrop",
    "spec.training.stop.collapse.zeroVariance",
    "spec.training.stop.collapse.diversityDrop",
]


@pytest.mark.parametrize("path", ABOVE_ZERO)
def test_what_must_be_above_zero(path: str, problems_of: Find) -> None:
    assert problems_of({path: 1e-12}) == []
    assert keys_of(problems_of({path: 0})) == {shown(path)}


def test_a_whole_number_will_do_for_a_number(problems_of: Find) -> None:
    assert problems_of({"spec.training.sampling.shift": 3, "spec.training.optimizer.gradientClip": 1}) == []


@pytest.mark.parametrize(
    ("value", "wrong"),
    [([1], False), ([1, 1, 1], False), ([1] * 8, False), ([], True), ([1] * 9, True), ([0], True), ([1, -2], True)],
)
def test_granularities(value: list[int], wrong: bool, problems_of: Find) -> None:
    assert bool(problems_of({"spec.training.algorithm.g2rpo.granularities": value})) == wrong


@pytest.mark.parametrize(
    ("value", "wrong"), [([0, 0.5], False), ([0.9], True), ([0.9, 1.0], True), ([-0.1, 0.9], True)]
)
def test_betas(value: list[float], wrong: bool, problems_of: Find) -> None:
    assert bool(problems_of({"spec.training.optimizer.betas": value})) == wrong


@pytest.mark.parametrize(("count", "wrong"), [(0, False), (16, False), (17, True)])
def test_probes(count: int, wrong: bool, problems_of: Find) -> None:
    assert bool(problems_of({"spec.training.evaluation.probes": ["a"] * count})) == wrong


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("a", False),
        ("flux1-hps", False),
        ("a0", False),
        ("a" * 48, False),
        ("a" * 49, True),
        ("", True),
        ("0", True),
        ("1a", True),
        ("A", True),
        ("a_b", True),
        ("a.b", True),
        ("-a", True),
        ("a-", True),
        ("a\n", True),
    ],
)
def test_the_name_is_a_dns_label_that_begins_with_a_letter_and_has_room_for_suffixes(
    name: str, wrong: bool, problems_of: Find
) -> None:
    assert keys_of(problems_of({"metadata.name": name})) == ({"metadata.name"} if wrong else set())


@pytest.mark.parametrize(
    ("name", "wrong"), [("ocr-2", False), ("2ocr", True), ("OCR", True), ("a_b", True), ("", True)]
)
def test_reward_names(name: str, wrong: bool, problems_of: Find) -> None:
    found = keys_of(problems_of({"spec.training.rewards.0.name": name}))
    assert found == ({"spec.training.rewards[0].name"} if wrong else set())


def test_what_the_api_server_adds_to_the_metadata_is_let_pass(problems_of: Find) -> None:
    added = {"metadata.uid": "1-2", "metadata.generation": 3, "metadata.managedFields": [{"manager": "kubectl"}]}
    assert problems_of(added) == []
