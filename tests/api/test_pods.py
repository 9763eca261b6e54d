"""What a job may say about its pods: Kubernetes' own notation, one source per volume, nothing that ranks rely on."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from g2rpo_api.contract import CACHE_DIR, CONFIG_DIR, RESERVED_ENV, RUNS_DIR
from g2rpo_api.errors import SpecProblem
from g2rpo_api.parse import parse_job
from g2rpo_api.pods import ResourcesSpec
from g2rpo_api.volumes import RunsVolume
from testapi.examples import RUNS_SOURCES, SOURCES

Find = Callable[[dict[str, Any]], list[SpecProblem]]
Make = Callable[[dict[str, Any]], dict[str, Any]]
W = "spec.workers"


def keys_of(problems: list[SpecProblem]) -> list[str]:
    return [problem.key for problem in problems]


def digits(least: int = 1) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=least, max_size=4)


numbers = (
    digits()
    | st.builds("{}.{}".format, digits(), digits(0))
    | st.builds(".{}".format, digits())
    | st.builds("+{}".format, digits())
)
suffixes = st.sampled_from(["", *"numkMGTPE", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
exponents = st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 9))


@given(text=st.builds("{}{}".format, numbers, suffixes | exponents))
def test_every_amount_that_kubernetes_grammar_makes_is_taken_as_it_is_written(text: str) -> None:
    assert ResourcesSpec(limits={"memory": text}).limits == {"memory": text}
    assert parse_quantity(text) >= 0, "another reader of the notation agrees"


@pytest.mark.parametrize(
    "text", ["", " ", "1 Gi", "1gi", "1GB", "1KI", "Gi", "-1", "-1Gi", "1e", "e3", "1e3Mi", "1.2.3"]
)
def test_what_is_no_amount_is_refused(text: str, problems_of: Find) -> None:
    assert keys_of(problems_of({f"{W}.resources.limits": {"memory": text}})) == [f"{W}.resources.limits.memory"]


@pytest.mark.parametrize(
    ("value", "text"), [(8, "8"), (8.0, "8"), (0, "0"), ("500m", "500m"), ("1.5", "1.5"), ("16Gi", "16Gi")]
)
def test_amounts_without_quotes_are_the_same_amounts(value: Any, text: str, job_with: Make) -> None:
    resources = parse_job(job_with({f"{W}.resources.requests": {"cpu": value}})).spec.workers.resources
    assert resources.requests == {"cpu": text}
    assert parse_quantity(text) == parse_quantity(str(Decimal(value) if not isinstance(value, str) else value))


@pytest.mark.parametrize("value", [1.5, True, -1, 2**63, [1], {"a": 1}], ids=repr)
def test_other_kinds_are_no_amounts(value: Any, problems_of: Find) -> None:
    assert keys_of(problems_of({f"{W}.sharedMemory": value})) == [f"{W}.sharedMemory"]


@pytest.mark.parametrize("name", [*RESERVED_ENV, "G2RPO_ATTEMPT", "G2RPO_", "PET_NNODES", "TORCHELASTIC_RUN_ID"])
def test_the_place_of_a_rank_is_not_for_users_to_set(name: str, problems_of: Find) -> None:
    (problem,) = problems_of({f"{W}.env": [{"name": "OK"}, {"name": name, "value": "1"}]})
    assert (problem.key, problem.found) == (f"{W}.env[1].name", f'"{name}"')
    assert problem.hint == "remove it: the operator sets it for every rank"


@pytest.mark.parametrize("name", ["HF_TOKEN", "NCCL_DEBUG", "RANKS", "_RANK", "g2rpo_x", "PETS", "OMP_NUM_THREADS"])
def test_other_variables_are(name: str, problems_of: Find) -> None:
    assert problems_of({f"{W}.env": [{"name": name, "value": "1"}]}) == []


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A.B", "Ä"])
def test_names_of_variables(name: str, problems_of: Find) -> None:
    assert keys_of(problems_of({f"{W}.env": [{"name": name}]})) == [f"{W}.env[0].name"]


def test_a_variable_has_one_value(problems_of: Find) -> None:
    source = {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert problems_of({f"{W}.env": [{"name": "A", "value": ""}, {"name": "B", "valueFrom": source}]}) == []
    both = {"name": "A", "value": "x", "valueFrom": source}
    assert keys_of(problems_of({f"{W}.env": [both]})) == [f"{W}.env[0].valueFrom"]


def test_a_source_of_a_variable_is_one_thing(problems_of: Find) -> None:
    key = {"name": "hub", "key": "token"}
    none, both = {"name": "A", "valueFrom": {}}, {"secretKeyRef": key, "configMapKeyRef": key}
    found = problems_of({f"{W}.env": [none, {"name": "B", "valueFrom": both}]})
    assert keys_of(found) == [f"{W}.env[0].valueFrom", f"{W}.env[1].valueFrom.configMapKeyRef"]
    assert found[0].allowed == "exactly one of secretKeyRef, configMapKeyRef"


@pytest.mark.parametrize("source", SOURCES)
def test_a_volume_has_one_source(source: str, problems_of: Find) -> None:
    one = {"name": "a", source: SOURCES[source]}
    assert problems_of({f"{W}.volumes": [one]}) == []
    for other in SOURCES:
        if other != source:
            later = max(source, other, key=list(SOURCES).index)
            found = problems_of({f"{W}.volumes": [{**one, other: SOURCES[other]}]})
            assert keys_of(found) == [f"{W}.volumes[0].{later}"]


def test_a_volume_without_a_source_is_none(problems_of: Find) -> None:
    (problem,) = problems_of({f"{W}.volumes": [{"name": "a"}]})
    assert (problem.key, problem.found) == (f"{W}.volumes[0]", '"none of them"')


@pytest.mark.parametrize("kind", RUNS_SOURCES)
def test_runs_are_kept_in_one_place_at_most(kind: str, problems_of: Find) -> None:
    assert problems_of({"spec.storage.runs": {kind: SOURCES[kind], "subPath": "team/runs"}}) == []
    for other in RUNS_SOURCES[: RUNS_SOURCES.index(kind)]:
        found = problems_of({"spec.storage.runs": {kind: SOURCES[kind], other: SOURCES[other]}})
        assert keys_of(found) == [f"spec.storage.runs.{kind}"]
        assert found[0].hint == "remove one of them"


def test_only_some_runs_outlive_their_pods() -> None:
    assert not RunsVolume().lasting
    lasting = {
        kind: RunsVolume.model_validate({kind: SOURCES[kind]}, by_alias=True, by_name=False).lasting
        for kind in RUNS_SOURCES
    }
    assert lasting == {"persistentVolumeClaim": True, "nfs": True, "hostPath": True, "emptyDir": False}


def volume(name: str) -> dict[str, Any]:
    return {"name": name, "emptyDir": {}}


def test_what_is_mounted_is_there(problems_of: Find) -> None:
    mounts = [{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b"}]
    assert problems_of({f"{W}.volumes": [volume("b"), volume("a")], f"{W}.volumeMounts": mounts}) == []
    (problem,) = problems_of({f"{W}.volumes": [volume("a")], f"{W}.volumeMounts": mounts})
    assert problem.key == f"{W}.volumeMounts[1].name"
    assert problem.allowed == "the name of one of workers.volumes (a)"
    assert "there are none" in problems_of({f"{W}.volumeMounts": mounts})[0].allowed


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        *((path, True) for path in (RUNS_DIR, CACHE_DIR, CONFIG_DIR, "/dev/shm", "/tmp", f"{RUNS_DIR}/mine")),
        *((path, False) for path in ("/data", f"{RUNS_DIR}2", "/etc", "/var/tmp", "/opt/dev")),
    ],
)
def test_the_operators_own_mounts_are_left_alone(path: str, wrong: bool, problems_of: Find) -> None:
    changes = {f"{W}.volumes": [volume("a")], f"{W}.volumeMounts": [{"name": "a", "mountPath": path}]}
    assert keys_of(problems_of(changes)) == ([f"{W}.volumeMounts[0].mountPath"] if wrong else [])


@pytest.mark.parametrize(
    ("items", "one", "key"),
    [
        ("volumes", volume("a"), "name"),
        ("env", {"name": "A"}, "name"),
        ("volumeMounts", {"name": "a", "mountPath": "/a"}, "mountPath"),
    ],
)
def test_items_are_told_apart(items: str, one: dict[str, Any], key: str, problems_of: Find) -> None:
    changes = {f"{W}.volumes": [volume("a")], f"{W}.{items}": [one, one]}
    (problem,) = problems_of(changes)
    assert problem.key == f"{W}.{items}[1].{key}"
    assert problem.hint == f"{items}[0] has the same {key}: change or remove one of them"


@pytest.mark.parametrize(
    ("image", "wrong"),
    [("g2rpo/trainer:1", False), ("host:5000/a@sha256:0", False), ("a b", True), ("", True), ("a" * 513, True)],
)
def test_images(image: str, wrong: bool, problems_of: Find) -> None:
    assert keys_of(problems_of({"spec.image": image})) == (["spec.image"] if wrong else [])


def test_affinity_is_passed_on_as_it_is(job_with: Make) -> None:
    affinity = {"nodeAffinity": {"anything": [1, None, {"a": "b"}]}}
    assert parse_job(job_with({f"{W}.affinity": affinity})).spec.workers.affinity == affinity


@pytest.mark.parametrize("user", ["runAsUser", "runAsGroup", "fsGroup"])
def test_the_trainer_is_never_root(user: str, problems_of: Find) -> None:
    assert keys_of(problems_of({f"{W}.security.{user}": 0})) == [f"{W}.security.{user}"]


TOLERATIONS: list[tuple[dict[str, Any], str]] = [
    ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}, ""),
    ({"key": "a", "value": "b"}, ""),
    ({"key": "a"}, ""),
    ({"operator": "Exists"}, ""),
    ({"operator": "Exists", "value": ""}, ""),
    ({"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}, ""),
    ({}, "operator"),
    ({"value": "b"}, "operator"),
    ({"key": "a", "operator": "Exists", "value": "b"}, "value"),
    ({"key": "a", "tolerationSeconds": 5}, "tolerationSeconds"),
    ({"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5}, "tolerationSeconds"),
    ({"key": "a b"}, "key"),
    ({"key": "a", "value": "b c"}, "value"),
]


@pytest.mark.parametrize(("toleration", "wrong"), TOLERATIONS, ids=str)
def test_tolerations_are_those_that_kubernetes_takes(toleration: dict[str, Any], wrong: str, problems_of: Find) -> None:
    found = keys_of(problems_of({f"{W}.tolerations": [toleration]}))
    assert found == ([f"{W}.tolerations[0].{wrong}"] if wrong else [])


@pytest.mark.parametrize("mapping", ["labels", "annotations", "nodeSelector"])
@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("team", False),
        ("a.b/C_d.e", False),
        ("n" * 63, False),
        ("n" * 64, True),
        ("", True),
        ("a b", True),
        ("-a", True),
        ("a/", True),
        ("A/b", True),
        ("a..b/c", True),
        ("a/b/c", True),
        ("a\n", True),
    ],
)
def test_names_of_labels(mapping: str, key: str, wrong: bool, problems_of: Find) -> None:
    found = problems_of({f"{W}.{mapping}": {"ok": "1", key: "1"}})
    assert keys_of(found) == ([f"{W}.{mapping}.{key}"] if wrong else [])
    if wrong:
        assert (found[0].allowed, found[0].hint) == ("a name such as team or example.com/team", "mend the key")


@pytest.mark.parametrize(
    ("value", "wrong"), [("", False), ("A_b.c-1", False), ("a b", True), ("-a", True), ("ü", True)]
)
def test_values_of_labels(value: str, wrong: bool, problems_of: Find) -> None:
    assert bool(problems_of({f"{W}.labels": {"a": value}})) == wrong
    assert problems_of({f"{W}.annotations": {"a": value}}) == [], "annotations hold any text"


@pytest.mark.parametrize("part", ["requests", "limits"])
@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("cpu", False),
        ("memory", False),
        ("ephemeral-storage", False),
        ("hugepages-2Mi", False),
        ("nvidia.com/gpu", False),
        ("gpu", True),
        ("Memory", True),
        ("hugepages-", True),
        ("nvidia.com/", True),
    ],
)
def test_names_of_resources(part: str, key: str, wrong: bool, problems_of: Find) -> None:
    found = keys_of(problems_of({f"{W}.resources.{part}": {key: 1}}))
    assert found == ([f"{W}.resources.{part}.{key}"] if wrong else [])


@pytest.mark.parametrize("part", ["requests", "limits"])
def test_accelerators_are_counted_once(part: str, problems_of: Find) -> None:
    amounts = {f"{W}.resources.{part}": {"nvidia.com/gpu": 8, "cpu": 1}}
    assert problems_of({**amounts, f"{W}.resourceName": "amd.com/gpu"}) == []
    (problem,) = problems_of({**amounts, f"{W}.resourceName": "nvidia.com/gpu"})
    assert problem.key == f"{W}.resources.{part}.nvidia.com/gpu"
    assert "processesPerNode" in problem.hint


@pytest.mark.parametrize(("name", "wrong"), [("nvidia.com/gpu", False), ("cpu", True), ("gpu", True), ("/gpu", True)])
def test_an_accelerator_is_an_extended_resource(name: str, wrong: bool, problems_of: Find) -> None:
    assert keys_of(problems_of({f"{W}.resourceName": name})) == ([f"{W}.resourceName"] if wrong else [])
