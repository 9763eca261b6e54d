"""The definition of the custom resource: every key of the models, in the form that Kubernetes takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field

from g2rpo_api.base import MAX_INT64, WHOLE, Items, Model, Union
from g2rpo_api.crd import Walk, custom_resource_definition, object_schema
from g2rpo_api.job import G2RPOJob
from g2rpo_api.notation import Quantity
from g2rpo_api.parse import parse_job
from g2rpo_api.rules import Rule
from g2rpo_api.status import JobStatus
from g2rpo_api.yamltext import text_of

Schema = dict[str, Any]
KEYWORDS = {
    "additionalProperties", "anyOf", "default", "description", "enum", "exclusiveMaximum", "exclusiveMinimum", "format",
    "items", "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minimum", "nullable",
    "pattern", "properties", "required", "type", "x-kubernetes-int-or-string", "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type", "x-kubernetes-map-type", "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}  # fmt: skip
"""Of JSONSchemaProps in apiextensions.k8s.io/v1, without those that a structural schema cannot have."""


class Part(Model):
    """A part."""

    name: str
    """Name."""
    count: int = 1
    """How many."""


class Whole(Model):
    """A whole."""

    unique: ClassVar[dict[str, str]] = {"parts": "name"}
    at_most_one: ClassVar[tuple[str, ...]] = ("maybe", "other")
    rules: ClassVar[tuple[Rule, ...]] = (Rule("self.size > self.rate", "must be larger; raise it", ".size"),)

    size: Annotated[int, Field(ge=0, lt=9), WHOLE]
    """How
    big."""
    seed: Annotated[int, Field(ge=0, le=MAX_INT64), WHOLE] = 0
    rate: Annotated[float, Field(gt=0)] = 0.5
    law: Literal["Flow", "Dance"] = "Flow"
    only: Literal["SD3"] = "SD3"
    maybe: Part | None = None
    other: Part | None = None
    """Another."""
    part: Part = Part(name="a")
    parts: Annotated[Items[Part], Field(min_length=1, max_length=3)] = ()
    limit: int | None = 30
    free: dict[str, Any] = Field(default_factory=dict)
    amounts: Annotated[dict[str, Quantity], Field(max_length=2)] = Field(default_factory=dict)


def structural(model: type[Model], defaults: bool = True) -> Schema:
    schema = model.model_json_schema(by_alias=True)
    return Walk(schema, defaults).schema(schema)


EXPECTED = {
    "size": {
        "description": "How big.",
        "type": "integer",
        "minimum": 0,
        "maximum": 9,
        "exclusiveMaximum": True,
    },
    "seed": {"type": "integer", "minimum": 0, "default": 0},
    "rate": {"type": "number", "minimum": 0, "exclusiveMinimum": True, "default": 0.5},
    "law": {"type": "string", "enum": ["Flow", "Dance"], "default": "Flow"},
    "only": {"type": "string", "enum": ["SD3"], "default": "SD3"},
    "limit": {"type": "integer", "nullable": True, "default": 30},
    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}
PART = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"description": "Name.", "type": "string"},
        "count": {"description": "How many.", "type": "integer", "default": 1},
    },
}


@pytest.mark.parametrize("key", EXPECTED)
def test_single_values(key: str) -> None:
    assert structural(Whole)["properties"][key] == EXPECTED[key]


def test_mappings_stand_where_they_are_used() -> None:
    properties = structural(Whole)["properties"]
    assert properties["maybe"] == {"description": "A part.", **PART}
    assert properties["other"] == {"description": "Another.", **PART}
    assert properties["part"] == {"description": "A part.", **PART, "default": {}}


def test_lists_are_told_apart_by_a_key() -> None:
    assert structural(Whole)["properties"]["parts"] == {
        "type": "array",
        "minItems": 1,
        "maxItems": 3,
        "default": [],
        "items": {"description": "A part.", **PART},
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }


def test_amounts_have_two_types() -> None:
    amounts = structural(Whole)["properties"]["amounts"]
    assert amounts["maxProperties"] == 2
    amount = amounts["additionalProperties"]
    assert amount.pop("pattern").startswith("^")
    assert amount == {
        "x-kubernetes-int-or-string": True,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "minimum": 0,
        "maxLength": 32,
    }


def test_rules_name_key_and_remedy() -> None:
    assert structural(Whole)["x-kubernetes-validations"] == [
        {
            "rule": "!has(self.other) || !(has(self.maybe))",
            "message": "must be absent when another is given: one of maybe, other; remove one of them",
            "reason": "FieldValueForbidden",
            "fieldPath": ".other",
        },
        {
            "rule": "self.size > self.rate",
            "message": "must be larger; raise it",
            "reason": "FieldValueInvalid",
            "fieldPath": ".size",
        },
    ]


def test_a_union_has_a_rule_for_each_member() -> None:
    class Choice(Union):
        members: ClassVar[dict[str, str | None]] = {"None": None, "Part": "big_part"}
        type: Literal["None", "Part"]
        big_part: Part | None = None

    refused, needed = structural(Choice)["x-kubernetes-validations"]
    assert refused["rule"] == "!has(self.bigPart) || self.type == 'Part'"
    assert (refused["fieldPath"], refused["reason"]) == (".bigPart", "FieldValueForbidden")
    assert needed["rule"] == "has(self.bigPart) || self.type != 'Part'"
    assert (needed["fieldPath"], needed["reason"]) == (".bigPart", "FieldValueRequired")


def test_a_member_whose_keys_all_have_defaults_may_be_left_out() -> None:
    class Easy(Model):
        size: int = 3

    class Choice(Union):
        members: ClassVar[dict[str, str | None]] = {"Easy": "easy"}
        type: Literal["Easy"]
        easy: Easy | None = None

    assert [rule["reason"] for rule in structural(Choice)["x-kubernetes-validations"]] == ["FieldValueForbidden"]


def test_without_defaults_nothing_is_filled_in() -> None:
    assert "default" not in text_of(structural(Whole, defaults=False)).replace("defaults", "")


def test_a_keyword_without_a_translation_is_an_error() -> None:
    class Odd(Model):
        even: Annotated[int, Field(multiple_of=2)]

    with pytest.raises(TypeError, match="multipleOf"):
        structural(Odd)


def test_a_value_of_several_types_is_an_error_or_has_none_dropped() -> None:
    class Tangled(Model):
        pair: tuple[int, str]

    with pytest.raises(TypeError, match="prefixItems"):
        structural(Tangled)


def nodes(node: Schema, at: str = "") -> Iterator[tuple[str, Schema]]:
    yield at, node
    for key, inner in node.get("properties", {}).items():
        yield from nodes(inner, f"{at}.{key}")
    for part in ("items", "additionalProperties"):
        if part in node:
            yield from nodes(node[part], f"{at}[]")


ALL = dict(nodes(object_schema()))


def test_the_schema_is_structural() -> None:
    for at, node in ALL.items():
        assert set(node) <= KEYWORDS, at
        assert "type" in node or "x-kubernetes-int-or-string" in node, at
        assert not {"properties", "additionalProperties"} <= set(node), at


def test_every_key_of_the_models_is_there_and_explained() -> None:
    for model, at in ((JobStatus, ".status"), (G2RPOJob.model_fields["spec"].annotation, ".spec")):
        assert model is not None
        keys = {f"{at}.{info.alias}" for info in model.model_fields.values()}
        assert keys == {path for path in ALL if path.rpartition(".")[0] == at and not path.endswith("[]")}
    silent = [at for at, node in ALL.items() if at.startswith((".spec", ".status")) and "description" not in node]
    assert [at for at in silent if not at.endswith("[]")] == []


def defaulted(node: Schema, value: Any) -> Any:
    """The value as the API server completes it."""
    if isinstance(value, dict):
        for key, inner in node.get("properties", {}).items():
            if key not in value and "default" in inner:
                value[key] = inner["default"]
        return {
            key: defaulted(node.get("properties", {}).get(key, node.get("additionalProperties", {})), item)
            for key, item in value.items()
        }
    return [defaulted(node.get("items", {}), item) for item in value] if isinstance(value, list) else value


def test_its_defaults_are_the_models(required: dict[str, Any]) -> None:
    job = parse_job(required)
    filled = defaulted(object_schema(), required)
    assert filled["spec"]["policy"]["startTimeoutSeconds"] == 1800
    assert filled["spec"]["training"]["optimizer"]["betas"] == [0.9, 0.999]
    assert parse_job(filled) == job
    resolved = job.model_dump(mode="json", by_alias=True)["spec"]
    assert filled["spec"]["training"]["sampling"] == resolved["training"]["sampling"]
    assert filled["spec"]["workers"]["security"] == resolved["workers"]["security"]


def test_every_list_has_an_end_so_that_rules_have_a_cost() -> None:
    lists = [at for at, node in ALL.items() if node.get("type") == "array" and "maxItems" not in node]
    assert lists == []


def test_it_is_small_enough_for_etcd_and_for_annotations_of_clients() -> None:
    assert len(text_of(custom_resource_definition()).encode()) < 250_000


def test_names() -> None:
    definition = custom_resource_definition()
    assert definition["metadata"]["name"] == "g2rpojobs.g2rpo.dev"
    spec = definition["spec"]
    assert (spec["group"], spec["scope"]) == ("g2rpo.dev", "Namespaced")
    assert spec["names"] == {
        "kind": "G2RPOJob",
        "listKind": "G2RPOJobList",
        "plural": "g2rpojobs",
        "singular": "g2rpojob",
        "shortNames": ["g2j"],
        "categories": ["g2rpo", "ml"],
    }


def test_there_is_one_version_with_a_status_of_its_own() -> None:
    (version,) = custom_resource_definition()["spec"]["versions"]
    assert (version["name"], version["served"], version["storage"]) == ("v1alpha1", True, True)
    assert version["subresources"] == {"status": {}}
    assert version["selectableFields"] == [{"jsonPath": ".status.phase"}]


def test_columns_show_what_is_there() -> None:
    (version,) = custom_resource_definition()["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    shown = [column["name"] for column in columns if "priority" not in column]
    assert shown == ["Phase", "Iter", "Reward", "Best", "Δ", "Restarts", "GPU-h", "Age"]
    for column in columns:
        path = column["jsonPath"].partition("[?")[0]
        if path.startswith(".status"):
            expected = {"string": ("string", "array"), "date": ("string",)}.get(column["type"], (column["type"],))
            assert ALL[path]["type"] in expected, column


def rules_in(node: object) -> Iterator[dict[str, object]]:
    if isinstance(node, dict):
        yield from node.get("x-kubernetes-validations", ())
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from rules_in(inner)


def test_what_never_changes_is_judged_only_when_it_is_new() -> None:
    spec = object_schema()["properties"]["spec"]["properties"]
    once = {part for part, node in spec.items() if any("optionalOldSelf" in rule for rule in rules_in(node))}
    assert once == {"training", "storage"}
    for rule in (*rules_in(spec["training"]), *rules_in(spec["storage"])):
        assert rule["optionalOldSelf"] is True
        assert re.fullmatch(r"oldSelf\.hasValue\(\) \|\| \(.+\)", str(rule["rule"])), rule
