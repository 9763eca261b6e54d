"""Every kind of mistake is told in words: key, found, allowed, hint."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from g2rpo_api.base import camel
from g2rpo_api.errors import SpecError, SpecProblem, key_path, nearest, show
from g2rpo_api.parse import job_schema, parse_job
from g2rpo_api.schema import child, keys

Find = Callable[[dict[str, Any]], list[SpecProblem]]
T = "spec.training"
SPEC_KEYS = "image, imagePullPolicy, suspend, stop, workers, storage, policy, training"
WORKER_KEYS = (
    "nodes, processesPerNode, resourceName, resources, sharedMemory, rdma, nodeSelector, tolerations, affinity, "
    "priorityClassName, runtimeClassName, schedulerName, serviceAccountName, imagePullSecrets, security, env, volumes, "
    "volumeMounts, labels, annotations"
)

CASES: dict[str, tuple[dict[str, Any], SpecProblem]] = {
    "misspelt key": (
        {f"{T}.sampling.gidanceScale": 3},
        SpecProblem(
            f"{T}.sampling.gidanceScale",
            "an unknown key (3)",
            "the keys steps, shiftRule, shift, height, width, guidanceScale, maxBatch, maxDecodeBatch, "
            "vaeTilingAbovePixels, truncateTimestep",
            "did you mean guidanceScale?",
        ),
    ),
    "snake case": (
        {"spec.workers.processes_per_node": 2},
        SpecProblem(
            "spec.workers.processes_per_node",
            "an unknown key (2)",
            f"the keys {WORKER_KEYS}",
            "did you mean processesPerNode?",
        ),
    ),
    "key in another place": (
        {"spec.zeroStage": 2},
        SpecProblem(
            "spec.zeroStage",
            "an unknown key (2)",
            f"the keys {SPEC_KEYS}",
            "it belongs to spec.training.deepspeed.zeroStage",
        ),
    ),
    "key from elsewhere": (
        {"spec.colour": "red"},
        SpecProblem("spec.colour", 'an unknown key ("red")', f"the keys {SPEC_KEYS}", "remove it"),
    ),
    "key that has several places": (
        {"spec.score": "ExactMatch"},
        SpecProblem("spec.score", 'an unknown key ("ExactMatch")', f"the keys {SPEC_KEYS}", "remove it"),
    ),
    "quoted integer": (
        {f"{T}.iterations": "60"},
        SpecProblem(f"{T}.iterations", '"60"', "an integer, at least 1", "write whole numbers without quotes"),
    ),
    "quoted number": (
        {f"{T}.sampling.shift": "1e0"},
        SpecProblem(f"{T}.sampling.shift", '"1e0"', "a finite number, above 0", "write numbers without quotes"),
    ),
    "quoted boolean": (
        {f"{T}.sampling.truncateTimestep": "True"},
        SpecProblem(f"{T}.sampling.truncateTimestep", '"True"', "true or false", "write true and false without quotes"),
    ),
    "float for an integer": (
        {f"{T}.sampling.steps": 16.5},
        SpecProblem(
            f"{T}.sampling.steps",
            "16.5",
            "an integer, at least 2",
            "Grid steps T from noise to picture. Fewer are faster; judge the quality at the number you will use.",
        ),
    ),
    "more than an integer holds": (
        {f"{T}.sampling.maxBatch": 2**31},
        SpecProblem(f"{T}.sampling.maxBatch", "2147483648", "an integer, at least 1", "lower it to at most 2147483647"),
    ),
    "number for a text": (
        {f"{T}.model.path": 35},
        SpecProblem(f"{T}.model.path", "35", "a non-empty text", "put it into quotes if it is meant as text"),
    ),
    "nearly a choice": (
        {f"{T}.algorithm.g2rpo.noise.law": "flow"},
        SpecProblem(f"{T}.algorithm.g2rpo.noise.law", '"flow"', "Flow or Dance or CPS", "did you mean Flow?"),
    ),
    "text for a list": (
        {f"{T}.evaluation.probes": "a cat"},
        SpecProblem(
            f"{T}.evaluation.probes",
            '"a cat"',
            "a list of 0 to 16 items, each a non-empty text",
            "write one item per line, each after a dash",
        ),
    ),
    "text for a mapping": (
        {f"{T}.prompts": "builtin:numbers"},
        SpecProblem(
            f"{T}.prompts",
            '"builtin:numbers"',
            "a mapping with the keys path, promptKey, target, targetKey, perIteration",
            "write its keys below it, indented: path, promptKey, target, targetKey, perIteration",
        ),
    ),
    "null for a required value": (
        {f"{T}.model.path": None},
        SpecProblem(f"{T}.model.path", "null", "a non-empty text", "give it a value"),
    ),
    "label that is not text": (
        {"metadata.labels": {"team": 7}},
        SpecProblem("metadata.labels.team", "7", "a text", "put it into quotes if it is meant as text"),
    ),
    "label whose name is not text": (
        {"metadata.labels": {7: "team"}},
        SpecProblem("metadata.labels[7]", "the key 7", "a text as key", "put the key into quotes"),
    ),
    "key that is not text": (
        {"spec.workers": {8: 1}},
        SpecProblem("spec.workers.8", "an unknown key (8)", f"the keys {WORKER_KEYS}", "remove it"),
    ),
}


@pytest.mark.parametrize(("changes", "expected"), CASES.values(), ids=CASES)
def test_mistakes_in_words(changes: dict[str, Any], expected: SpecProblem, problems_of: Find) -> None:
    assert problems_of(changes) == [expected]


@pytest.mark.parametrize(
    ("changes", "key", "allowed", "hint"),
    [
        ({f"{T}.sampling.steps": 1}, f"{T}.sampling.steps", "an integer, at least 2", "Grid steps T from noise"),
        ({f"{T}.optimizer.betas": [0.9, 2]}, f"{T}.optimizer.betas[1]", "at least 0 and below 1", "running mean"),
        ({f"{T}.deepspeed.zeroStage": 4}, f"{T}.deepspeed.zeroStage", "at least 0 and at most 3", "splits"),
        ({f"{T}.rewards": []}, f"{T}.rewards", "a list of 1 to 12 items, each a mapping", "role Train"),
        (
            {"metadata.name": "My_Job"},
            "metadata.name",
            "at most 48 characters: lower-case letters and digits",
            "run folder",
        ),
        ({f"{T}.sampling.shift": float("nan")}, f"{T}.sampling.shift", "a finite number", "Time shift"),
        ({f"{T}.algorithm.g2rpo.noise.eta": -1}, f"{T}.algorithm.g2rpo.noise.eta", "above 0, or null", "Noise level"),
    ],
)
def test_without_a_better_hint_the_field_explains_itself(
    changes: dict[str, Any], key: str, allowed: str, hint: str, problems_of: Find
) -> None:
    (problem,) = problems_of(changes)
    assert problem.key == key
    assert allowed in problem.allowed
    assert hint in problem.hint


@pytest.mark.parametrize("path", ["apiVersion", "kind", "metadata", "spec"])
def test_missing_keys_of_a_job(path: str, required: dict[str, Any]) -> None:
    del required[path]
    with pytest.raises(SpecError) as caught:
        parse_job(required)
    (problem,) = caught.value.problems
    assert (problem.key, problem.found) == (path, "nothing")
    assert problem.hint.startswith("add it: ")


@pytest.mark.parametrize("name", ["iterations", "model", "prompts", "sampling", "algorithm", "rewards"])
def test_missing_keys_of_the_training(name: str, required: dict[str, Any]) -> None:
    del required["spec"]["training"][name]
    with pytest.raises(SpecError) as caught:
        parse_job(required)
    assert [problem.key for problem in caught.value.problems] == [f"{T}.{name}"]


def test_every_mistake_is_reported_at_once(problems_of: Find) -> None:
    together = {name: case for name, case in CASES.items() if "not text" not in name}
    changes = {key: value for case, _ in together.values() for key, value in case.items()}
    expected = {problem.key for _, problem in together.values()}
    assert len(changes) == len(together) - 1, "two cases are about model.path"
    assert {problem.key for problem in problems_of(changes)} == expected


def test_bad_items_do_not_make_a_list_too_short(problems_of: Find) -> None:
    assert [problem.key for problem in problems_of({f"{T}.rewards.0.name": "A"})] == [f"{T}.rewards[0].name"]
    assert [problem.key for problem in problems_of({f"{T}.algorithm.g2rpo.granularities": [0]})] == [
        f"{T}.algorithm.g2rpo.granularities[0]"
    ]


def mappings(at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths of all mappings with known keys that no union hides."""
    node = child(job_schema(), at)
    inner = [path for name in keys(job_schema(), node) for path in mappings((*at, name))]
    return [at, *inner] if keys(job_schema(), node) else inner


def siblings(path: tuple[str | int, ...]) -> tuple[str, ...]:
    """Names of the keys of the mapping at a path."""
    return keys(job_schema(), child(job_schema(), path))


NAMES = [(path, name) for path in mappings() if path[:1] != ("metadata",) for name in siblings(path)]
LONG_NAMES = [(path, name) for path, name in NAMES if len(name) >= 6 and "flowGrpo" not in path]


@given(place=st.sampled_from(LONG_NAMES), data=st.data())
def test_a_slip_of_the_pen_is_understood(place: tuple[tuple[str | int, ...], str], data: st.DataObject) -> None:
    path, name = place
    at = data.draw(st.integers(0, len(name) - 1))
    slip = data.draw(st.sampled_from([name[:at] + name[at + 1 :], name[:at] + "x" + name[at:], name.upper()]))
    assume(slip not in siblings(path))
    assert nearest(slip, siblings(path)) == name


@pytest.mark.parametrize(("path", "name"), [(p, n) for p, n in NAMES if n != n.lower()])
def test_python_names_are_not_yaml_names(path: tuple[str | int, ...], name: str) -> None:
    python = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    assert camel(python) == name
    assert nearest(python, siblings(path)) == name


@pytest.mark.parametrize("name", ["", "zzz", "colour", "épée", "_"])
def test_nothing_is_near_to_nonsense(name: str) -> None:
    assert nearest(name, ["steps", "shift", "height"]) is None


@pytest.mark.parametrize(
    ("loc", "path"),
    [
        ((), "(document)"),
        (("spec",), "spec"),
        (("spec", "training", "rewards", 0, "name"), "spec.training.rewards[0].name"),
        (("optimizer", "betas", 1), "optimizer.betas[1]"),
    ],
)
def test_key_paths(loc: tuple[str | int, ...], path: str) -> None:
    assert key_path(loc) == path


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (1e-4, "0.0001"),
        ("a", '"a"'),
        ("été", '"été"'),
        ([1, "b"], '[1, "b"]'),
        ((0.9, 0.999), "[0.9, 0.999]"),
        ([], "[]"),
        ([{}, {}], "a list of 2"),
        ({}, "an empty mapping"),
        ({"a": 1, "b": 2}, "a mapping with a, b"),
    ],
)
def test_values_are_shown_as_in_yaml(value: Any, text: str) -> None:
    assert show(value) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(value=JSON | st.text(min_size=100))
def test_what_is_shown_is_one_short_line(value: Any) -> None:
    assert len(show(value)) <= 80


PLACES = [f"{T}.sampling", f"{T}.rewards", f"{T}.algorithm", "spec", "metadata", "kind"]


@given(value=JSON, place=st.sampled_from(PLACES))
def test_whatever_stands_there_is_answered_with_problems(value: Any, place: str) -> None:
    data = copy.deepcopy(VALID)
    *parents, last = place.split(".")
    target: dict[str, Any] = data
    for parent in parents:
        target = target[parent]
    target[last] = value
    with pytest.raises(SpecError) as caught:
        parse_job(data)
    assert all(problem.key.startswith(place) for problem in caught.value.problems)
    assert "pydantic" not in str(caught.value)
    assert "https://" not in str(caught.value)


VALID: dict[str, Any] = {
    "apiVersion": "g2rpo.dev/v1alpha1",
    "kind": "G2RPOJob",
    "metadata": {"name": "job"},
    "spec": {
        "training": {
            "iterations": 1,
            "model": {"family": "SD3", "path": "m", "train": {"type": "Full"}},
            "prompts": {"path": "p.txt"},
            "sampling": {"height": 8, "width": 8},
            "algorithm": {"type": "G2RPO"},
            "rewards": [{"name": "a", "type": "PaddleOCR"}],
        }
    },
}


def test_the_message_is_a_block_per_problem() -> None:
    problems = [
        SpecProblem("spec.a", "1", "an integer, at least 2", "raise it"),
        SpecProblem("spec.b", "nothing", "a text", ""),
    ]
    assert str(SpecError(problems, "job.yaml")) == (
        "job.yaml: 2 problems\n"
        "\n"
        "spec.a\n"
        "  found    1\n"
        "  allowed  an integer, at least 2\n"
        "  hint     raise it\n"
        "\n"
        "spec.b\n"
        "  found    nothing\n"
        "  allowed  a text"
    )


def test_long_lines_are_wrapped_under_their_beginning() -> None:
    text = str(SpecProblem("spec.a", 1, "a text", "word " * 60))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[3].startswith("  hint     word")
    assert all(line.startswith(" " * 11 + "word") for line in lines[4:])
    assert text.count("word") == 60


def test_one_problem_is_not_two() -> None:
    assert str(SpecError([SpecProblem("a", 1, "2", "3")])).startswith("job: 1 problem\n")
