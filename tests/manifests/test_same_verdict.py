"""The API server and the parser judge alike: thousands of jobs, right and wrong in every way, and what may change."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from g2rpo_api.contract import API_VERSION, PLURAL
from g2rpo_api.crd import object_schema
from g2rpo_api.errors import SpecError
from g2rpo_api.parse import parse_job
from testapi.examples import Data, job_of, put
from testapi.mutations import Case, Corpus
from testcluster.api import JSON, ApiError, checked
from testcluster.cluster import Cluster
from testoperator.definition import define_jobs

CONNECTIONS = 4
DRY = "?dryRun=All&fieldValidation=Strict"
Judged = tuple[Case, Data | str]


def as_kubectl_writes(value: Any) -> Any:
    """16.0 as 16: kubectl and every client in Go write whole floats like this."""
    if isinstance(value, dict):
        return {key: as_kubectl_writes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_kubectl_writes(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


@dataclass(frozen=True)
class Server:
    """The API server, asked about jobs that it does not keep."""

    cluster: Cluster
    path: str

    def judge(self, cases: list[Case]) -> list[Judged]:
        """What the server would store, or why it would not, for each case; over one connection."""
        connection = self.cluster.api.connect(60)
        answers: list[Judged] = []
        for case in cases:
            body = json.dumps(as_kubectl_writes(case.job))
            connection.request("POST", self.path + DRY, body, {"Content-Type": JSON, "Accept": JSON})
            response = connection.getresponse()
            try:
                answers.append((case, checked(response.status, response.read())))
            except ApiError as error:
                answers.append((case, str(error)))
        connection.close()
        return answers

    def judge_all(self, cases: list[Case]) -> Iterator[Judged]:
        """The same over some connections at a time."""
        shares = [cases[start::CONNECTIONS] for start in range(CONNECTIONS)]
        with ThreadPoolExecutor(max_workers=CONNECTIONS) as pool:
            for answers in pool.map(self.judge, shares):
                yield from answers


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> Iterator[Server]:
    """The API server, which knows G2RPOJobs, with a namespace for them."""
    define_jobs(cluster)
    cluster.add_namespace("verdicts")
    yield Server(cluster, f"/apis/{API_VERSION}/namespaces/verdicts/{PLURAL}")
    cluster.remove_namespace("verdicts")


@pytest.fixture(scope="module")
def corpus() -> list[Case]:
    made = Corpus(Random(2510))
    return [*made.valid(400), *made.single(2500), *made.together(3), *made.named()]


@pytest.fixture(scope="module")
def judged(server: Server, corpus: list[Case]) -> list[Judged]:
    return list(server.judge_all(corpus))


def ours(job: Data) -> list[str]:
    """Keys that the parser finds fault with."""
    try:
        parse_job(job)
    except SpecError as error:
        return [problem.key for problem in error.problems]
    return []


def described(case: Case, *verdicts: object) -> str:
    told = "\n".join(map(str, verdicts))
    return f"{case.kind} at {case.key or 'no key'}:\n{told}\n{json.dumps(case.job['spec'])}"


def test_the_corpus_is_wide(corpus: list[Case]) -> None:
    kinds = Counter(case.kind for case in corpus)
    assert len(corpus) >= 2000
    assert set(kinds) == {
        "valid", "missing", "unknown", "misspelt", "type", "range", "enum", "text", "size", "null", "duplicate",
        "together", "name",
    }  # fmt: skip
    assert len({(case.kind, re.sub(r"\[\d+\]", "[]", case.key)) for case in corpus}) > 700


def test_the_parser_judges_as_the_corpus_says(corpus: list[Case]) -> None:
    for case in corpus:
        found = ours(case.job)
        inside = [key for key in found if re.match(rf"{re.escape(case.key)}($|[.\[])", key)]
        assert bool(found) == bool(inside) == bool(case.key), described(case, found)


def test_the_server_judges_as_the_corpus_says(judged: list[Judged]) -> None:
    for case, answer in judged:
        if case.key:
            assert isinstance(answer, str), described(case, "accepted")
            assert re.search(rf"{re.escape(case.key)}(?![\w-])", answer), described(case, answer)
        else:
            assert not isinstance(answer, str), described(case, answer)


def test_what_the_server_stores_is_what_the_parser_reads(judged: list[Judged]) -> None:
    for case, answer in judged:
        if isinstance(answer, dict):
            stored = {key: value for key, value in answer.items() if key != "status"}
            assert parse_job(stored).spec == parse_job(case.job).spec, described(case)


def rules(node: Any) -> Iterator[Data]:
    """Every rule between fields in a definition, but for those about changes."""
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if key == "x-kubernetes-validations":
            yield from (rule for rule in inner if "oldSelf" not in rule["rule"] or "optionalOldSelf" in rule)
        else:
            yield from rules(inner)


def test_every_rule_between_fields_is_broken_by_some_job_and_told_with_its_key(judged: list[Judged]) -> None:
    told = [answer for _, answer in judged if isinstance(answer, str)]
    wanted = list(rules(object_schema()))
    assert len(wanted) > 20
    for rule in wanted:
        place = rule.get("fieldPath", "")
        pattern = re.compile(rf"{re.escape(place)}: [^*]*{re.escape(rule['message'])}")
        assert any(pattern.search(answer) for answer in told), f"no job breaks {rule}"


SMALL: Data = {
    "workers": {"affinity": {"nodeAffinity": {"a": 1}}, "labels": {"a": "b"}},
    "storage": {"runs": {"emptyDir": {}}},
    "training": {
        "iterations": 10,
        "model": {"family": "SD3", "path": "org/model", "train": {"type": "LoRA"}},
        "prompts": {"path": "prompts.txt"},
        "sampling": {"height": 64, "width": 64},
        "algorithm": {"type": "G2RPO"},
        "rewards": [{"name": "ocr", "type": "PaddleOCR"}],
    },
}
RUNNING: Data = {}
SUSPENDED: Data = {"suspend": True}
STOPPED: Data = {"stop": True}
CHANGES: tuple[tuple[Data, Data, str], ...] = (
    (RUNNING, {"training.iterations": 11}, "spec.training"),
    (RUNNING, {"training.algorithm.g2rpo": {}}, "spec.training"),
    (RUNNING, {"training.rewards.0.weight": 2}, "spec.training"),
    (RUNNING, {"training.seed": 0}, ""),
    (RUNNING, {"training.optimizer": {"learningRate": 1e-4}}, ""),
    (SUSPENDED, {"training.seed": 1}, "spec.training"),
    (SUSPENDED, {"training.seed": 1, "suspend": False}, "spec.training"),
    (RUNNING, {"storage.runs.emptyDir.sizeLimit": "1Gi"}, "spec.storage"),
    (RUNNING, {"storage.runs": {}}, "spec.storage"),
    (SUSPENDED, {"storage.runs.subPath": "a"}, "spec.storage"),
    (RUNNING, {"workers.resources.limits": {"cpu": 1}}, "spec.workers"),
    (RUNNING, {"workers.affinity.nodeAffinity.a": 2}, "spec.workers"),
    (RUNNING, {"workers.affinity": {}}, "spec.workers"),
    (RUNNING, {"workers.labels.a": "c"}, "spec.workers"),
    (RUNNING, {"workers.labels.a": "c", "suspend": True}, "spec.workers"),
    (RUNNING, {"workers.nodes": 1, "workers.env": []}, ""),
    (SUSPENDED, {"workers.labels.a": "c"}, ""),
    (SUSPENDED, {"workers.affinity.nodeAffinity.a": 2}, ""),
    (SUSPENDED, {"workers.tolerations": [{"operator": "Exists"}], "suspend": False}, ""),
    (RUNNING, {"suspend": True}, ""),
    (RUNNING, {"stop": True}, ""),
    (STOPPED, {"stop": False}, "spec.stop"),
    (STOPPED, {"stop": None}, "spec.stop"),
    (STOPPED, {"suspend": True}, ""),
    (RUNNING, {"image": "g2rpo/trainer:2", "imagePullPolicy": "Always"}, ""),
    (RUNNING, {"policy.maxRestarts": 9, "policy.startTimeoutSeconds": None}, ""),
)


def changed(spec: Data, changes: Data) -> Data:
    new = copy.deepcopy(spec)
    for path, value in changes.items():
        put(new, path, copy.deepcopy(value))
    return new


@pytest.fixture(scope="module")
def stored(server: Server) -> dict[str, Data]:
    """Jobs that exist: one that runs, one that is suspended, one that was stopped."""
    states = {"running": RUNNING, "suspended": SUSPENDED, "stopped": STOPPED}
    jobs = {name: job_of({**SMALL, **state}, name) for name, state in states.items()}
    return {name: server.cluster.api.create(server.path, job) for name, job in jobs.items()}


@pytest.mark.parametrize(("before", "changes", "key"), CHANGES, ids=lambda value: json.dumps(value)[:60])
def test_what_may_change(before: Data, changes: Data, key: str, server: Server, stored: dict[str, Data]) -> None:
    name = {"suspend": "suspended", "stop": "stopped"}.get(next(iter(before), ""), "running")
    new = {**stored[name], "spec": changed({**SMALL, **before}, changes)}
    parse_job({**job_of(new["spec"], name)})
    try:
        server.cluster.api.request("PUT", f"{server.path}/{name}{DRY}", new)
        told = ""
    except ApiError as error:
        told = str(error)
    assert (f"{key}: Forbidden" in told) if key else (told == ""), told


def test_a_new_spec_is_compared_whatever_is_said_of_the_status_beside_it(server: Server) -> None:
    """What is sent beside a spec does not count as its status, which is how the rule knows a write of the status."""
    path = f"{server.path}/with-status"
    job = server.cluster.api.create(server.path, job_of({**SMALL, **RUNNING}, "with-status"))
    told = {"attempt": 1, "usage": {"time": "2026-03-01T12:00:00Z"}}
    job = server.cluster.api.request("PUT", f"{path}/status", {**job, "status": told})
    job["spec"] = changed(job["spec"], {"training.seed": 5})
    for status in (told, {"usage": {"time": "2026-03-01T13:00:00Z"}}, {}):
        with pytest.raises(ApiError, match=r"spec\.training: Forbidden"):
            server.cluster.api.request("PUT", f"{path}{DRY}", {**job, "status": status})


AMOUNTS = [
    "1",
    "+1",
    "1.",
    ".5",
    "0",
    "1e3",
    "1E3",
    "1e-3",
    "1E",
    "12k",
    "3Ki",
    "1n",
    "2u",
    "5m",
    "6M",
    "7Gi",
    "8T",
    "9P",
]
NO_AMOUNTS = [" ", "1 Gi", "1gi", "1GB", "1KI", "1K", "1e", "1e3Mi", "1.2.3", "1,5", "0x1", "1e1.5", "１"]
NOTHING = ["Gi", "+", ".", "e3"]
"""No amounts by Kubernetes' description, yet its reader takes them for 0."""


@pytest.mark.parametrize("text", [*AMOUNTS, *NO_AMOUNTS, *NOTHING])
def test_amounts_are_what_kubernetes_itself_takes_for_one(text: str, server: Server) -> None:
    spec: dict[str, Any] = {**SMALL, "workers": {"sharedMemory": text}}
    limits = {"containers": [{"name": "a", "image": "a", "resources": {"limits": {"memory": text}}}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": limits}
    assert ours(job_of(spec)) == ([] if text in AMOUNTS else ["spec.workers.sharedMemory"])
    path = f"/api/v1/namespaces/verdicts/pods{DRY}"
    if text in NO_AMOUNTS:
        with pytest.raises(ApiError, match=r"quantities must match|unable to parse quantity"):
            server.cluster.api.create(path, pod)
    else:
        server.cluster.api.create(path, pod)
