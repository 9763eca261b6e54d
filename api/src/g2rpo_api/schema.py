"""Reading the models' JSON schema: what lies at a key, and what is allowed there, in words.

Who calls this: `errors.py`. Works on any schema that pydantic writes for the models of this package.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from g2rpo_api.base import MAX_INT32, MAX_INT64, WORDS
from g2rpo_api.rules import Loc

Schema = dict[str, Any]
UNTOLD = (None, MAX_INT32, MAX_INT64)
"""Bounds that go without saying: those of Kubernetes' kinds of integers."""


def resolve(root: Schema, node: Schema) -> Schema:
    """The node without `$ref`, and without the `null` of an optional value; siblings are kept."""
    if "$ref" in node:
        target: Schema = root["$defs"][node["$ref"].removeprefix("#/$defs/")]
        return {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    if "anyOf" in node:
        chosen = next(option for option in node["anyOf"] if option.get("type") != "null")
        siblings = {key: value for key, value in node.items() if key != "anyOf"}
        return {**resolve(root, chosen), **siblings, "nullable": True}
    if "const" in node:
        return {**node, "enum": [node["const"]]}
    return node


def child(root: Schema, loc: Loc) -> Schema:
    """The node at a key path; an empty schema where the path leaves the schema."""
    node = resolve(root, root)
    for part in loc:
        if isinstance(part, int):
            inner = node.get("items", {})
        else:
            inner = node.get("properties", {}).get(part, node.get("additionalProperties") or {})
        node = resolve(root, inner)
    return node


def keys(root: Schema, node: Schema) -> tuple[str, ...]:
    """Names of a mapping's keys."""
    return tuple(resolve(root, node).get("properties", {}))


def description(root: Schema, node: Schema) -> str:
    """The docstring of the field, on one line."""
    return " ".join(str(resolve(root, node).get("description", "")).split())


def places_of(root: Schema, name: str, at: Loc = ()) -> Iterator[Loc]:
    """Every key path below `at` that ends in this name; lists are looked into by their first item."""
    node = child(root, at)
    for key in keys(root, node):
        if key == name:
            yield (*at, key)
        yield from places_of(root, name, (*at, key))
    if "items" in node:
        yield from places_of(root, name, (*at, 0))


def allowed(root: Schema, node: Schema) -> str:
    """What a value may be: kind, range, choices."""
    node = resolve(root, node)
    text = _choices(node) if "enum" in node else _KINDS.get(node.get("type", ""), _anything)(root, node)
    return f"{text}, or null" if node.get("nullable") else text


def _choices(node: Schema) -> str:
    return " or ".join(str(choice) for choice in node["enum"])


def _anything(_root: Schema, _node: Schema) -> str:
    return "a value"


def _boolean(_root: Schema, _node: Schema) -> str:
    return "true or false"


def _integer(_root: Schema, node: Schema) -> str:
    return f"an integer{_range(node)}"


def _number(_root: Schema, node: Schema) -> str:
    return f"a finite number{_range(node)}"


def _range(node: Schema) -> str:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    bounds = [f"{word} {node[keyword]}" for keyword, word in words.items() if node.get(keyword) not in UNTOLD]
    return f", {' and '.join(bounds)}" if bounds else ""


def _text(_root: Schema, node: Schema) -> str:
    if "x-kubernetes-int-or-string" in node:
        return str(node[WORDS])
    longest = f" of at most {node['maxLength']} characters" if "maxLength" in node else ""
    words = f": {node[WORDS]}" if WORDS in node else f" that matches {node['pattern']}" if "pattern" in node else ""
    return ("a non-empty text" if node.get("minLength") else "a text") + longest + words


def _list(root: Schema, node: Schema) -> str:
    least, most = node.get("minItems", 0), node.get("maxItems")
    if most is None:
        size = f"at least {least} items" if least else "items"
    else:
        size = f"{most} items" if least == most else f"{least} to {most} items"
    return f"a list of {size}, each {allowed(root, node['items'])}"


def _mapping(root: Schema, node: Schema) -> str:
    names, values = keys(root, node), node.get("additionalProperties", True)
    if names:
        return f"a mapping with the keys {', '.join(names)}"
    if values is True:
        return "a mapping"
    return f"a mapping of texts to {'amounts' if 'x-kubernetes-int-or-string' in values else 'texts'}"


_KINDS = {
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "string": _text,
    "array": _list,
    "object": _mapping,
}
