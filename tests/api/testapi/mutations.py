"""Valid jobs with one mistake each: every kind of mistake, at every key that can have it.

Who calls this: the tests that ask two judges about the same job.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import combinations
from random import Random
from typing import Any

from g2rpo_api.errors import key_path
from g2rpo_api.parse import job_schema
from g2rpo_api.schema import Schema, child, resolve
from testapi.examples import RUNS_SOURCES, SOURCES, Data, Loc, Maker, job_of, put


@dataclass(frozen=True)
class Case:
    """A job, and what is wrong with it."""

    kind: str
    job: Data
    key: str = ""
    """Path of the key that every judge must name; empty for a valid job."""


@dataclass(frozen=True)
class Mistake:
    """Something to be done to a spec."""

    kind: str
    at: Loc
    """Key that is wrong afterwards."""
    value: Any = None
    """What stands there then."""
    remove: Loc | None = None
    """Key that is taken away."""

    def made_in(self, spec: Data) -> Data:
        """The spec with the mistake."""
        wrong = copy.deepcopy(spec)
        if self.remove is not None:
            del parent(wrong, self.remove)[self.remove[-1]]
        if self.kind != "missing":
            holder = parent(wrong, self.at)
            if isinstance(holder, list) and self.at[-1] == len(holder):
                holder.append(self.value)
            else:
                holder[self.at[-1]] = self.value
        return wrong

    @property
    def place(self) -> tuple[str, Loc]:
        """The kind, and the key whatever the item."""
        return self.kind, tuple(0 if isinstance(part, int) else part for part in self.at)


def parent(data: Any, at: Loc) -> Any:
    for part in at[:-1]:
        data = data[part]
    return data


def places(node: Schema, value: Any, at: Loc = ()) -> Iterator[tuple[Loc, Schema, Any]]:
    """Every key of a spec with its schema and value."""
    root = job_schema()
    node = resolve(root, node)
    yield at, node, value
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(node["items"], item, (*at, index))
    elif isinstance(value, dict) and node.get("additionalProperties") is not True:
        for key, item in value.items():
            inner = node.get("properties", {}).get(key) or node["additionalProperties"]
            yield from places(inner, item, (*at, key))


def mistakes(spec: Data) -> Iterator[Mistake]:
    """Everything that one can do wrong in a spec, but for values that do not go together."""
    for at, node, value in places(child(job_schema(), ("spec",)), spec):
        if at:
            yield from wrong_values(at, node)
        if isinstance(value, dict) and "properties" in node:
            yield from wrong_keys(at, node, value)
        if isinstance(value, list) and value and "x-kubernetes-list-map-keys" in node:
            yield Mistake("duplicate", (*at, len(value)), value[0])


def wrong_keys(at: Loc, node: Schema, value: Data) -> Iterator[Mistake]:
    for key in node.get("required", ()):
        yield Mistake("missing", (*at, key), remove=(*at, key))
        yield Mistake("null", (*at, key), None)
    yield Mistake("unknown", (*at, "surprise"), 1)
    yield Mistake("unknown", (*at, "surprise"), None)
    for key in value:
        yield Mistake("misspelt", (*at, f"{key}s"), value[key], remove=(*at, key))
        if key != key.lower():
            snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)
            yield Mistake("misspelt", (*at, snake), value[key], remove=(*at, key))


OTHER_TYPES: dict[str, tuple[Any, ...]] = {
    "boolean": ("true", 1, 0, "yes", [], {}),
    "integer": ("1", True, 1.5, [1], {}, 1e20, 2.0**60, 2**64),
    "number": ("0.5", True, [1], {}),
    "string": (1, True, 1.5, ["a"], {}),
    "array": ("a", {}, 1),
    "object": ("a", [], 1, True),
    "amount": (True, 1.5, -1, 2**64, ["a"], {}),
}
SMALL = {"integer": 1, "number": 0.5, "string": "a", "object": {}}


def wrong_values(at: Loc, node: Schema) -> Iterator[Mistake]:
    kind, amount = node["type"], "x-kubernetes-int-or-string" in node
    if isinstance(at[-1], int):
        yield Mistake("null", at, None)
    for value in OTHER_TYPES["amount" if amount else kind]:
        yield Mistake("type", at, value)
    if "enum" in node:
        yield from (Mistake("enum", at, text) for text in ("Other", node["enum"][1 % len(node["enum"])].swapcase()))
    elif kind in ("integer", "number"):
        yield from (Mistake("range", at, value) for value in outside(node))
    elif kind == "string":
        yield from (Mistake("text", at, value) for value in bad_texts(node))
    else:
        yield from (Mistake("size", at, value) for value in bad_sizes(node))


def outside(node: Schema) -> Iterator[float]:
    """Numbers just beyond each end."""
    if "minimum" in node:
        yield from (node["minimum"] - 1, node["minimum"] - 10**6)
    if "maximum" in node:
        yield node["maximum"] + 1
    yield from (node[end] for end in ("exclusiveMinimum", "exclusiveMaximum") if end in node)


def bad_texts(node: Schema) -> Iterator[str]:
    """Texts that are too long, too short, or do not match."""
    if "maxLength" in node:
        yield from (letter * (node["maxLength"] + 1) for letter in "1é")
    if node.get("minLength"):
        yield ""
    if "pattern" in node:
        whole = re.compile(node["pattern"].removesuffix("$") + r"\Z")
        yield from (text for text in ("", " :", "/:", "/\n", "a\n", "-1", "1 Gi", "1gi", "1e") if not whole.match(text))


def bad_sizes(node: Schema) -> Iterator[Any]:
    """Lists and mappings with too few or too many items."""
    if node.get("minItems"):
        yield []
    if "maxItems" in node:
        yield [SMALL[resolve(job_schema(), node["items"])["type"]]] * (node["maxItems"] + 1)
    if "maxProperties" in node:
        yield {f"k{index}": "1" for index in range(node["maxProperties"] + 1)}


def sources(*names: str) -> Data:
    return {name: SOURCES[name] for name in names}


G2RPO = {"training.algorithm": {"type": "G2RPO", "g2rpo": {}}}
FLOW = {"training.algorithm": {"type": "FlowGRPO", "flowGrpo": {"window": {}}}}
FULL = {"training.model.train": {"type": "Full"}}
ONE = {"workers": {}, "training.prompts.perIteration": 1}
KEY = {"name": "a", "key": "b"}
VOLUME = {"name": "a", "emptyDir": {}}
REWARD = {"name": "a", "type": "PaddleOCR"}
ALGORITHM, NOISE = "training.algorithm", "training.algorithm.g2rpo.noise"
TOGETHER: tuple[tuple[dict[str, Any], str], ...] = (
    ({**G2RPO, "training.sampling.steps": 8}, f"{ALGORITHM}.g2rpo.stochasticSteps"),
    ({ALGORITHM: {"type": "G2RPO"}, "training.sampling.steps": 8}, f"{ALGORITHM}.g2rpo.stochasticSteps"),
    ({**G2RPO, f"{ALGORITHM}.g2rpo.stochasticSteps": 2**31 - 1}, f"{ALGORITHM}.g2rpo.stochasticSteps"),
    (
        {**G2RPO, "training.sampling.steps": 4, f"{ALGORITHM}.g2rpo.firstStochasticStep": 3},
        f"{ALGORITHM}.g2rpo.firstStochasticStep",
    ),
    (
        {**G2RPO, "training.sampling.steps": 4, f"{ALGORITHM}.g2rpo.firstStochasticStep": 2**31 - 1},
        f"{ALGORITHM}.g2rpo.firstStochasticStep",
    ),
    (
        {**G2RPO, "training.sampling.steps": 16, f"{ALGORITHM}.g2rpo.firstStochasticStep": 8},
        f"{ALGORITHM}.g2rpo.stochasticSteps",
    ),
    ({**FLOW, "training.sampling.steps": 4}, f"{ALGORITHM}.flowGrpo.window.size"),
    (
        {**FLOW, "training.sampling.steps": 8, f"{ALGORITHM}.flowGrpo.window.size": 8},
        f"{ALGORITHM}.flowGrpo.window.size",
    ),
    (
        {**G2RPO, **FULL, "training.sampling.steps": 16, f"{ALGORITHM}.g2rpo.klBeta": 1e-300},
        f"{ALGORITHM}.g2rpo.klBeta",
    ),
    ({**FLOW, **FULL, f"{ALGORITHM}.flowGrpo.klBeta": 1}, f"{ALGORITHM}.flowGrpo.klBeta"),
    ({**G2RPO, "training.sampling.steps": 16, NOISE: {"law": "CPS", "eta": 1.0000001}}, f"{NOISE}.eta"),
    ({**G2RPO, "training.sampling.steps": 16, NOISE: {"law": "CPS", "eta": 2}}, f"{NOISE}.eta"),
    ({ALGORITHM: {"type": "G2RPO", "flowGrpo": {}}, "training.sampling.steps": 16}, f"{ALGORITHM}.flowGrpo"),
    ({ALGORITHM: {"type": "FlowGRPO", "g2rpo": {}, "flowGrpo": None}}, f"{ALGORITHM}.g2rpo"),
    ({**FULL, **G2RPO, "training.sampling.steps": 16, "training.model.train.lora": {}}, "training.model.train.lora"),
    ({"training.rewards": [{**REWARD, "ddddOcr": {}}]}, "training.rewards.0.ddddOcr"),
    ({"training.rewards": [REWARD, {"name": "b", "type": "DdddOCR", "paddleOcr": {}}]}, "training.rewards.1.paddleOcr"),
    ({"training.rewards": [{"name": "a", "type": "HPSv2", "clipScore": {}}]}, "training.rewards.0.clipScore"),
    ({"training.rewards": [{"name": "a", "type": "CLIPScore", "hpsv2": {}}]}, "training.rewards.0.hpsv2"),
    ({"training.rewards": [{"name": "a", "type": "CLIPScore", "pickScore": {}}]}, "training.rewards.0.pickScore"),
    ({"training.rewards": [{"name": "a", "type": "PickScore", "imageReward": {}}]}, "training.rewards.0.imageReward"),
    ({"training.rewards": [{"name": "a", "type": "ImageReward", "aesthetic": {}}]}, "training.rewards.0.aesthetic"),
    ({"training.rewards": [{"name": "a", "type": "Aesthetic", "jpeg": {}}]}, "training.rewards.0.jpeg"),
    ({"training.rewards": [{**REWARD, "http": {"url": "http://a"}}]}, "training.rewards.0.http"),
    ({"training.rewards": [{**REWARD, "vlmJudge": {"url": "http://a", "model": "m"}}]}, "training.rewards.0.vlmJudge"),
    ({"training.rewards": [{**REWARD, "custom": {"entryPoint": "a:B"}}]}, "training.rewards.0.custom"),
    ({"training.rewards": [{"name": "a", "type": "HTTP"}]}, "training.rewards.0.http"),
    ({"training.rewards": [{"name": "a", "type": "HTTP", "http": None}]}, "training.rewards.0.http"),
    ({"training.rewards": [{"name": "a", "type": "HTTP", "http": {}}]}, "training.rewards.0.http.url"),
    ({"training.rewards": [{"name": "a", "type": "VLMJudge"}]}, "training.rewards.0.vlmJudge"),
    ({"training.rewards": [{"name": "a", "type": "Custom"}]}, "training.rewards.0.custom"),
    ({"training.rewards": [{**REWARD, "role": "HeldOut"}]}, "training.rewards"),
    ({"training.rewards": [REWARD, {**REWARD, "type": "DdddOCR"}]}, "training.rewards.1"),
    ({"training.rewards": [REWARD], "training.stop.hacking": {}}, "training.stop.hacking"),
    ({"training.rewards": [{**REWARD, "role": "Train"}], "training.stop": {"hacking": {}}}, "training.stop.hacking"),
    (
        {"training.rewards": [REWARD], "training.stop": {"target": {"reward": "b", "value": 0}}},
        "training.stop.target.reward",
    ),
    (
        {"training.iterations": 3, "training.optimizer": {"warmupIterations": 4}},
        "training.optimizer.warmupIterations",
    ),
    ({"training.deepspeed": {"offloadOptimizer": "CPU"}}, "training.deepspeed.offloadOptimizer"),
    (
        {"training.deepspeed": {"zeroStage": 2, "offloadParameters": "CPU"}},
        "training.deepspeed.offloadParameters",
    ),
    ({"training.model.path": "builtin:other"}, "training.model.path"),
    ({"training.model.path": "builtin:"}, "training.model.path"),
    ({"training.prompts.path": "prompts.csv"}, "training.prompts.path"),
    ({"training.prompts.path": "builtin:letters"}, "training.prompts.path"),
    ({"training.evaluation.promptsPath": "txt"}, "training.evaluation.promptsPath"),
    ({**ONE, "workers.nodes": 2}, "training.prompts.perIteration"),
    (
        {"workers": {"nodes": 1024, "processesPerNode": 64}, "training.prompts.perIteration": 2**31 - 1},
        "training.prompts.perIteration",
    ),
    *(
        ({**ONE, f"workers.{place}": {"ok": "1", key: "1"}}, f"workers.{place}")
        for place in ("labels", "annotations", "nodeSelector")
        for key in ("", "a b", "-a", "/a", "A.b/c", "a..b/c", "a/b/c", "n" * 64, "a\n")
    ),
    *(
        ({**ONE, f"workers.resources.{part}": {"cpu": 1, key: 1}}, f"workers.resources.{part}")
        for part in ("requests", "limits")
        for key in ("", "gpu", "CPU", "hugepages-", "nvidia.com/", "/gpu", "n" * 318)
    ),
    *(
        (
            {**ONE, "workers.resourceName": "a.b/c", f"workers.resources.{part}": {"a.b/c": 1}},
            f"workers.resources.{part}",
        )
        for part in ("requests", "limits")
    ),
    ({**ONE, "workers.tolerations": [{}]}, "workers.tolerations.0.operator"),
    ({**ONE, "workers.tolerations": [{"operator": "Equal", "value": "a"}]}, "workers.tolerations.0.operator"),
    ({**ONE, "workers.tolerations": [{"operator": "Exists", "value": "a"}]}, "workers.tolerations.0.value"),
    ({**ONE, "workers.tolerations": [{"key": "a", "tolerationSeconds": 1}]}, "workers.tolerations.0.tolerationSeconds"),
    (
        {**ONE, "workers.tolerations": [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 0}]},
        "workers.tolerations.0.tolerationSeconds",
    ),
    ({**ONE, "workers.env": [{"name": "RANK"}]}, "workers.env.0.name"),
    ({**ONE, "workers.env": [{"name": "OK"}, {"name": "G2RPO_PORT", "value": "1"}]}, "workers.env.1.name"),
    ({**ONE, "workers.env": [{"name": "PET_X", "value": ""}]}, "workers.env.0.name"),
    (
        {**ONE, "workers.env": [{"name": "A", "value": "", "valueFrom": {"secretKeyRef": KEY}}]},
        "workers.env.0.valueFrom",
    ),
    ({**ONE, "workers.env": [{"name": "A", "valueFrom": {}}]}, "workers.env.0.valueFrom"),
    ({**ONE, "workers.env": [{"name": "A", "valueFrom": {"secretKeyRef": None}}]}, "workers.env.0.valueFrom"),
    (
        {**ONE, "workers.env": [{"name": "A", "valueFrom": {"secretKeyRef": KEY, "configMapKeyRef": KEY}}]},
        "workers.env.0.valueFrom.configMapKeyRef",
    ),
    ({**ONE, "workers.volumes": [{"name": "a"}]}, "workers.volumes.0"),
    ({**ONE, "workers.volumes": [{**VOLUME, "name": "g2rpo-data"}]}, "workers.volumes.0.name"),
    ({**ONE, "workers.volumeMounts": [{"name": "a", "mountPath": "/a"}]}, "workers.volumeMounts"),
    (
        {**ONE, "workers.volumes": [VOLUME], "workers.volumeMounts": [{"name": "b", "mountPath": "/a"}]},
        "workers.volumeMounts",
    ),
    (
        {**ONE, "workers.volumes": [VOLUME], "workers.volumeMounts": [{"name": "a", "mountPath": "/runs/x"}]},
        "workers.volumeMounts.0.mountPath",
    ),
    (
        {**ONE, "workers.volumes": [VOLUME], "workers.volumeMounts": [{"name": "a", "mountPath": "/tmp"}]},
        "workers.volumeMounts.0.mountPath",
    ),
    *(
        ({**ONE, "workers.volumes": [VOLUME, {"name": "b", **sources(*two)}]}, f"workers.volumes.1.{two[1]}")
        for two in combinations(SOURCES, 2)
    ),
    *(({"storage": {"runs": sources(*two)}}, f"storage.runs.{two[1]}") for two in combinations(RUNS_SOURCES, 2)),
)
"""Values that are right alone and wrong together: what to set in a spec, and the key that is wrong then."""
PER_SPEC = 5
BAD_NAMES = ("1a", "a.b", "a" * 49, "A", "a_b", "a-", "-a", "0")


@dataclass
class Corpus:
    """Cases, as many as wanted, spread over all kinds of mistakes and all keys."""

    random: Random
    used: Counter[tuple[str, Loc]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.maker = Maker(self.random)

    def valid(self, count: int) -> Iterator[Case]:
        """Jobs without a mistake."""
        for _ in range(count):
            yield Case("valid", job_of(self.maker.spec()))

    def single(self, count: int) -> Iterator[Case]:
        """Jobs with one mistake in a key or a value: those that were made least often so far, some for each spec."""
        for _ in range(0, count, PER_SPEC):
            spec = self.maker.spec()
            found = list(mistakes(spec))
            self.random.shuffle(found)
            for chosen in nsmallest(PER_SPEC, found, key=lambda mistake: self.used[mistake.place]):
                self.used[chosen.place] += 1
                yield Case(chosen.kind, job_of(chosen.made_in(spec)), key_path(("spec", *chosen.at)))

    def together(self, rounds: int) -> Iterator[Case]:
        """Jobs with values that do not go together."""
        for changes, key in TOGETHER * rounds:
            spec = self.maker.spec()
            for path, value in changes.items():
                put(spec, path, copy.deepcopy(value))
            parts = [int(part) if part.isdigit() else part for part in key.split(".")]
            yield Case("together", job_of(spec), key_path(("spec", *parts)))

    def named(self) -> Iterator[Case]:
        """Jobs with a bad name."""
        for name in BAD_NAMES:
            yield Case("name", job_of(self.maker.spec(), name), "metadata.name")
