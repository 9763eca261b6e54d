"""The models → the CustomResourceDefinition: a structural schema, rules between fields, columns for kubectl.

Who calls this: `generate.py`. Where its business ends: what a key is called, may hold and means stands in the
models; a keyword of their JSON schema that is not known here is an error, never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from g2rpo_api.base import MAX_INT64, WORDS
from g2rpo_api.contract import GROUP, KIND, PLURAL, VERSION
from g2rpo_api.errors import show
from g2rpo_api.job import FIXED
from g2rpo_api.parse import job_schema
from g2rpo_api.schema import Schema, child, description, resolve
from g2rpo_api.status import JobStatus

RULES = "x-kubernetes-validations"
WHOLE = {"x-kubernetes-map-type": "atomic"}
"""Of a part that has one owner, who writes all of it. Otherwise the API server would note in `metadata.managedFields`
who owns which key, default or not: half of the object, and 45 % of what a write of its status costs."""
SHORT_NAME = "g2j"
CATEGORIES = ("g2rpo", "ml")
"""`kubectl get g2rpo` lists jobs, and `kubectl get ml` those beside others' of this category."""
COLUMNS: tuple[tuple[str, str, str, int], ...] = (
    ("Phase", "string", ".status.phase", 0),
    ("Iter", "string", ".status.progress.step", 0),
    ("Reward", "number", ".status.progress.reward", 0),
    ("Best", "number", ".status.progress.best", 0),
    ("Δ", "number", ".status.progress.delta", 0),
    ("Restarts", "integer", ".status.restarts", 0),
    ("GPU-h", "number", ".status.usage.gpuHours", 0),
    ("Held-out", "number", ".status.progress.heldOut", 1),
    ("Clip", "number", ".status.progress.clipRatio", 1),
    ("Img/s", "number", ".status.progress.imagesPerSecond", 1),
    ("ETA(s)", "integer", ".status.progress.etaSeconds", 1),
    ("Attempt", "integer", ".status.attempt", 1),
    ("Message", "string", '.status.conditions[?(@.type=="Running")].message', 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)
"""Name, type, path in the object, and priority: those of priority 1 are shown by `-o wide` only."""


@dataclass(frozen=True)
class Walk:
    """From JSON schema as pydantic writes it to the structural schema that Kubernetes takes."""

    root: Schema
    """Holds the definitions that nodes refer to."""
    defaults: bool
    """Whether defaults are filled in by the API server."""

    def schema(self, node: Schema) -> Schema:
        """The structural schema of a node.

        Raises:
            TypeError: it has a keyword that has no translation here.
        """
        resolved = resolve(self.root, node)
        unknown = set(resolved) - set(KEYWORDS)
        if unknown:
            raise TypeError(f"no translation of {', '.join(sorted(unknown))} in {show(resolved)}")
        found: Schema = {}
        for keyword, translate in KEYWORDS.items():
            if keyword in resolved:
                found |= translate(self, resolved, resolved[keyword])
        return found


Translate = Callable[[Walk, Schema, Any], Schema]


def _as_it_is(keyword: str) -> Translate:
    return lambda _walk, _node, value: {keyword: value}


def _nothing(_walk: Walk, _node: Schema, _value: Any) -> Schema:
    return {}


def _description(walk: Walk, node: Schema, _value: Any) -> Schema:
    return {"description": description(walk.root, node)}


def _type(_walk: Walk, node: Schema, value: str) -> Schema:
    """Amounts are written with and without quotes, so they have no type of their own."""
    return {} if "x-kubernetes-int-or-string" in node else {"type": value}


def _int_or_string(_walk: Walk, _node: Schema, value: bool) -> Schema:
    return {"x-kubernetes-int-or-string": value, "anyOf": [{"type": "integer"}, {"type": "string"}], "minimum": 0}


def _nullable(_walk: Walk, node: Schema, value: bool) -> Schema:
    """Null beside a default is a value of its own; otherwise it is the same as leaving the key out."""
    return {"nullable": value} if node.get("default") is not None else {}


def _default(walk: Walk, _node: Schema, value: Any) -> Schema:
    """A mapping's default is empty: its own keys have theirs."""
    if value is None or not walk.defaults:
        return {}
    return {"default": {} if isinstance(value, Mapping) else value}


def _maximum(_walk: Walk, _node: Schema, value: float) -> Schema:
    """The API server reads bounds as floats, which the largest integer is not; it is what `integer` means anyway."""
    return {} if value == MAX_INT64 else {"maximum": value}


def _exclusive(bound: str, keyword: str) -> Translate:
    return lambda _walk, _node, value: {bound: value, keyword: True}


def _properties(walk: Walk, _node: Schema, value: Mapping[str, Schema]) -> Schema:
    return {"properties": {name: walk.schema(node) for name, node in value.items()}}


def _items(walk: Walk, _node: Schema, value: Schema) -> Schema:
    return {"items": walk.schema(value)}


def _additional(walk: Walk, _node: Schema, value: bool | Schema) -> Schema:
    """False says that unknown keys are refused, which the API server does anyway; True that anything may stand here."""
    if isinstance(value, bool):
        return {"x-kubernetes-preserve-unknown-fields": True} if value else {}
    return {"additionalProperties": walk.schema(value)}


KEYWORDS: Mapping[str, Translate] = {
    "$defs": _nothing,
    "title": _nothing,
    WORDS: _nothing,
    "const": _nothing,  # `resolve` made an enum of it
    "description": _description,
    "type": _type,
    "format": _as_it_is("format"),
    "x-kubernetes-int-or-string": _int_or_string,
    "nullable": _nullable,
    "enum": _as_it_is("enum"),
    "pattern": _as_it_is("pattern"),
    "minLength": _as_it_is("minLength"),
    "maxLength": _as_it_is("maxLength"),
    "minimum": _as_it_is("minimum"),
    "maximum": _maximum,
    "exclusiveMinimum": _exclusive("minimum", "exclusiveMinimum"),
    "exclusiveMaximum": _exclusive("maximum", "exclusiveMaximum"),
    "minItems": _as_it_is("minItems"),
    "maxItems": _as_it_is("maxItems"),
    "maxProperties": _as_it_is("maxProperties"),
    "default": _default,
    "required": _as_it_is("required"),
    "properties": _properties,
    "items": _items,
    "additionalProperties": _additional,
    "x-kubernetes-list-type": _as_it_is("x-kubernetes-list-type"),
    "x-kubernetes-list-map-keys": _as_it_is("x-kubernetes-list-map-keys"),
    RULES: _as_it_is(RULES),
}
"""In the order in which they stand in the definition."""


def judged_once(node: Any) -> Any:
    """The schema of what stays as it was created, with rules that look at it when it is new.

    Otherwise the API server would go through all of them whenever the operator writes a status: a sixth of what that
    costs.
    """
    if isinstance(node, Mapping):
        return {key: [_when_new(rule) for rule in it] if key == RULES else judged_once(it) for key, it in node.items()}
    return [judged_once(item) for item in node] if isinstance(node, list) else node


def _when_new(rule: Schema) -> Schema:
    return {**rule, "rule": f"oldSelf.hasValue() || ({rule['rule']})", "optionalOldSelf": True}


def object_schema() -> Schema:
    """The structural schema of a G2RPOJob, status included."""
    job, status = job_schema(), JobStatus.model_json_schema(by_alias=True)
    walk = Walk(job, defaults=True)
    name = walk.schema(child(job, ("metadata", "name")))
    del name["description"]  # of the metadata, Kubernetes takes bounds of the name and nothing else
    spec = walk.schema(child(job, ("spec",)))
    parts = spec["properties"]
    parts |= {part: judged_once(parts[part]) for part in FIXED}
    parts |= {part: {**schema, **WHOLE} for part, schema in parts.items() if schema.get("type") == "object"}
    return {
        "description": description(job, job),
        "type": "object",
        "required": ["spec"],
        RULES: job[RULES],
        "properties": {
            **{key: {**walk.schema(child(job, (key,))), "type": "string"} for key in ("apiVersion", "kind")},
            "metadata": {"type": "object", "properties": {"name": name}},
            "spec": spec,
            "status": {**Walk(status, defaults=False).schema(status), **WHOLE},
        },
    }


def custom_resource_definition() -> dict[str, Any]:
    """The manifest that makes an API server know jobs."""
    columns = [
        {"name": name, "type": kind, "jsonPath": path, **({"priority": priority} if priority else {})}
        for name, kind, path, priority in COLUMNS
    ]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "selectableFields": [{"jsonPath": ".status.phase"}],
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": object_schema()},
    }
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": KIND.lower(),
        "shortNames": [SHORT_NAME],
        "categories": list(CATEGORIES),
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }
