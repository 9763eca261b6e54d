"""Valid jobs of every shape, made from the models: every union, every optional key, values from end to end.

Who calls this: the tests that ask two judges about the same job.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from random import Random
from typing import Any, get_args

from g2rpo_api.base import WORDS, Model, Union, camel
from g2rpo_api.job import JobSpec
from g2rpo_api.parse import job_schema
from g2rpo_api.schema import Schema, child

Data = dict[str, Any]
Loc = tuple[str | int, ...]

TEXTS: Mapping[str, tuple[Any, ...]] = {
    "": ("a", "ü b", "x" * 40, "日本"),
    "lower-case letters, digits and -, a letter first": ("a", "ocr-2", "b" * 63),
    "no spaces": ("g2rpo/trainer:1", "host:5000/a@sha256:0", "i" * 512),
    "lower-case letters and digits, - inside": ("a", "data-1", "0", "v" * 40),
    "lower-case letters and digits, - and . inside": ("a", "my.secret-1", "n" * 253),
    "a name such as team or example.com/team": ("team", "example.com/Team_1", "a" * 63, f"{'d' * 253}/{'n' * 63}"),
    "letters and digits, -, _ and . inside": ("", "A", "a_b.C-1", "l" * 63),
    "a name such as nvidia.com/gpu": ("nvidia.com/gpu", "amd.com/gpu", "nvidia.com/mig-3g.40gb"),
    "an amount such as 500m, 16Gi or 8": ("500m", "16Gi", ".5", "1e3", 8, 0),
    "/ first, no colon": ("/data", "/a/b c", "/ü"),
    "no / first": ("team/runs", "a"),
    "letters, digits, -, _ and .": ("token", "a.b_C-1"),
    "a URL such as http://rewards:8000": ("http://rewards:8000", "https://a.b/v1/", "http://ü/b"),
    "a class such as package.module:Class": ("a:B", "my_rewards.sharpness:Sharpness"),
    "letters, digits and _, no digit first": ("HF_TOKEN", "_a", "NCCL_DEBUG"),
}
"""Texts of a kind, by the words for it; a new kind wants a line here."""
PATHS = {
    ("training", "model", "path"): ("builtin:miniature", "org/model", "./sd3"),
    ("training", "prompts", "path"): ("builtin:numbers", "a.txt", "/data/ü b.jsonl", "/data/set/"),
    ("training", "evaluation", "promptsPath"): ("builtin:numbers-heldout", "b.txt", "b.json", "b.parquet"),
}
SOURCES: dict[str, Data] = {
    "persistentVolumeClaim": {"claimName": "data"},
    "secret": {"secretName": "token"},
    "configMap": {"name": "prompts"},
    "emptyDir": {},
    "hostPath": {"path": "/mnt/data"},
    "nfs": {"server": "nas", "path": "/export"},
}
"""Sources of volumes, each as it may be written."""
RUNS_SOURCES = ("persistentVolumeClaim", "nfs", "hostPath", "emptyDir")
"""Those that may hold run folders."""
LABELS = ("team", "example.com/Team_1", "a")
RESOURCES: Mapping[str, tuple[Any, ...]] = {
    "cpu": ("500m", 2, "1.5"),
    "memory": ("16Gi", "1e9", 2**30),
    "example.com/fpga": (1, "2", 8.0),
}
"""Amounts of resources, beside accelerators."""
EXTREME = 0.3
"""Share of numbers that are as small or as large as they may be."""


@cache
def schema_at(at: Loc) -> Schema:
    """Schema of a key of a spec."""
    return child(job_schema(), ("spec", *at))


def model_in(annotation: Any) -> type[Model] | None:
    """The model inside `X | None`, `tuple[X, ...]`, `Annotated[X, ...]` and so on."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next(filter(None, map(model_in, get_args(annotation))), None)


class Maker:
    """Makes specs by chance."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def spec(self) -> Data:
        """A valid spec."""
        made = self.mapping(JobSpec, ())
        self.agree(made)
        return made

    def mapping(self, model: type[Model], at: Loc) -> Data:
        """A mapping of a model's keys: the needed ones, and some of the others."""
        share = self.random.choice((0.1, 0.5, 0.9))
        unwanted = self.unwanted(model)
        needed = set(model.exactly_one)
        made: Data = {}
        if issubclass(model, Union):
            made["type"] = self.random.choice(list(model.members))
            named = model.members[made["type"]]
            needed |= {named} & model.needed_members()
            unwanted = {name for name in model.members.values() if name not in (None, named)}
        for name, info in model.model_fields.items():
            key, need = camel(name), info.is_required() or name in needed
            wanted = need or self.random.random() < share
            if name not in unwanted and wanted and key not in made:
                empty = not need and self.random.random() < 0.05
                made[key] = None if empty else self.value(model_in(info.annotation), (*at, key))
        return made

    def unwanted(self, model: type[Model]) -> set[str]:
        """Fields beside the chosen one of those that exclude each other."""
        choices = model.exactly_one or model.at_most_one
        return set(choices) - {self.random.choice(choices)} if choices else set()

    def value(self, model: type[Model] | None, at: Loc) -> Any:
        """A value for a key."""
        node = schema_at(at)
        if node.get("type") == "array":
            least, most = node.get("minItems", 0), node.get("maxItems", 4)
            return [self.value(model, (*at, 0)) for _ in range(self.random.randint(least, min(most, least + 3)))]
        if node.get("type") == "object" and model is not None:
            return self.mapping(model, at)
        return self.plain(node, at)

    def plain(self, node: Schema, at: Loc) -> Any:
        """A value that is no model."""
        if "enum" in node:
            return self.random.choice(node["enum"])
        if node["type"] == "boolean":
            return self.random.random() < 0.5
        if node["type"] in ("integer", "number"):
            return self.number(node)
        if node["type"] == "object":
            return self.free(node, at)
        found = PATHS.get(at) or [text for text in TEXTS[node.get(WORDS, "")] if self.fits(text, node)]
        return self.random.choice(found)

    @staticmethod
    def fits(text: Any, node: Schema) -> bool:
        return len(str(text)) <= node.get("maxLength", 1000)

    def number(self, node: Schema) -> float:
        """A number in its range, ends included."""
        whole = node["type"] == "integer"
        least = node.get("minimum", node.get("exclusiveMinimum", -1000))
        most = node.get("maximum", node.get("exclusiveMaximum", least + 1000))
        if self.random.random() < EXTREME:
            ends = [node[end] for end in ("minimum", "maximum") if end in node]
            return self.random.choice(ends or [least + 1e-9])
        if whole:
            value = self.random.randint(least, min(most, least + 40))
            return float(value) if self.random.random() < 0.1 else value
        return least + (most - least) * self.random.choice((1e-6, 0.25, 0.5, 0.999))

    def free(self, node: Schema, at: Loc) -> Data:
        """A mapping with free keys."""
        if node.get("additionalProperties") is True:
            term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}
            return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
        keys = self.random.sample(LABELS, self.random.randint(0, 3))
        return {key: self.value(None, (*at, key)) for key in keys}

    def agree(self, spec: Data) -> None:
        """Make values go together that are right alone."""
        workers, training = spec.get("workers") or {}, spec["training"]
        self.agree_workers(workers)
        nodes, processes = workers.get("nodes"), workers.get("processesPerNode")
        ranks = int(1 if nodes is None else nodes) * int(1 if processes is None else processes)
        training["prompts"]["perIteration"] = ranks * self.random.randint(1, 3)
        self.agree_steps(training)
        names = iter(range(100))
        for reward in training["rewards"]:
            reward["name"] = f"r{next(names)}"
        training["rewards"][-1]["role"] = self.random.choice(("Train", None))
        self.agree_course(training)

    def agree_course(self, training: Data) -> None:
        """Rules about rewards that the job has; a rate that gets warm in time."""
        rewards, stop = training["rewards"], training.get("stop") or {}
        if stop.get("target") is not None:
            stop["target"]["reward"] = self.random.choice(rewards)["name"]
        if all(reward.get("role") != "HeldOut" for reward in rewards):
            stop.pop("hacking", None)
        optimizer = training.get("optimizer") or {}
        if optimizer.get("warmupIterations") is not None:
            optimizer["warmupIterations"] = min(optimizer["warmupIterations"], training["iterations"])
        sharding = training.get("deepspeed") or {}
        for key, least in (("offloadOptimizer", 1), ("offloadParameters", 3)):
            if (sharding.get("zeroStage") or 0) < least:
                sharding.pop(key, None)

    def agree_workers(self, workers: Data) -> None:
        for items, key in (("volumes", "name"), ("env", "name"), ("volumeMounts", "mountPath")):
            for index, item in enumerate(workers.get(items) or ()):
                item[key] = f"{'/' if key == 'mountPath' else 'v'}{index}"
        self.agree_pods(workers)
        names = [volume["name"] for volume in workers.get("volumes") or ()]
        if not names:
            workers.pop("volumeMounts", None)
        for mount in workers.get("volumeMounts") or ():
            mount["name"] = self.random.choice(names)
        for variable in workers.get("env") or ():
            if variable.get("valueFrom") is not None:
                variable.pop("value", None)

    def agree_pods(self, workers: Data) -> None:
        if workers.get("resources") is not None:
            amounts = {key: self.random.choice(some) for key, some in RESOURCES.items() if self.random.random() < 0.6}
            workers["resources"] = {part: amounts for part in ("requests", "limits") if self.random.random() < 0.7}
            if "limits" not in workers["resources"]:
                workers["resources"]["requests"] = {"cpu": 1}
        for toleration in workers.get("tolerations") or ():
            if toleration.get("key") is None:
                toleration["operator"] = "Exists"
            if toleration.get("operator") == "Exists":
                toleration["value"] = self.random.choice(("", None))
            if toleration.get("tolerationSeconds") is not None:
                toleration["effect"] = "NoExecute"

    def agree_steps(self, training: Data) -> None:
        steps, algorithm = self.random.choice((2, 3, 16, 2**31 - 1)), training["algorithm"]
        training["sampling"]["steps"] = steps
        first = self.random.randint(0, min(steps - 2, 50))
        count = self.random.randint(1, min(steps - 1 - first, 50))
        if algorithm["type"] == "G2RPO":
            settings = algorithm["g2rpo"] = algorithm.get("g2rpo") or {}
            settings |= {"firstStochasticStep": first, "stochasticSteps": count}
        else:
            settings = algorithm.get("flowGrpo") or {}
        if settings.get("window") is not None:
            settings["window"]["size"] = min(steps - 1, 4)
        if training["model"]["train"]["type"] == "Full":
            settings.pop("klBeta", None)
        noise = settings.get("noise") or {}
        if noise.get("law") == "CPS":
            noise["eta"] = self.random.choice((1, 1.0, 0.5, None))


def put(data: Any, path: str, value: Any) -> None:
    """Set spec.rewards.0.name and the like, making mappings and lists of one item on the way."""
    parts: list[str | int] = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part, following in pairwise(parts):
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(part, int) and part == len(data):
            data.append(empty)
        elif isinstance(part, str) and not data.get(part):
            data[part] = empty
        data = data[part]
    if isinstance(data, list) and parts[-1] == len(data):
        data.append(value)
    else:
        data[parts[-1]] = value


def job_of(spec: Data, name: str = "job") -> Data:
    """The manifest of a job with a spec of its own."""
    return {
        "apiVersion": "g2rpo.dev/v1alpha1",
        "kind": "G2RPOJob",
        "metadata": {"name": name},
        "spec": copy.deepcopy(spec),
    }
