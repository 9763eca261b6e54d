"""The model of the chart's values → values.yaml, its JSON schema, and tables for people. Pure.

Who calls this: `generate.py`.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from g2rpo_api.base import Model, camel
from g2rpo_api.schema import Schema, allowed, child, description, resolve
from g2rpo_api.yamltext import text_of
from g2rpo_operator.settings import Settings
from values.model import CHOSEN_ELSEWHERE, Values

WIDTH = 110
KEPT = (
    "description", "type", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "minItems", "maxItems", "maxProperties", "uniqueItems", "required",
)  # fmt: skip
FROM_PARENTS: Schema = {
    "global": {"description": "Values that charts share. Nothing here reads them.", "type": "object"},
    "enabled": {
        "description": "For the `condition` of a chart that depends on this one. Nothing here reads it.",
        "type": "boolean",
    },
}
"""Keys that Helm, or a chart that depends on this one, puts beside ours."""
ROOT = Values.model_json_schema(by_alias=True)


def values_yaml() -> str:
    """The defaults, each under its meaning."""
    return "\n".join(_lines((), Values(), ""))


def json_schema() -> str:
    """What Helm holds values against."""
    schema = _node(ROOT)
    schema["properties"] |= FROM_PARENTS
    return json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", **schema}, indent=2) + "\n"


def values_table() -> str:
    """All values in Markdown."""
    return _table(_leaves((), Values()))


def settings_table() -> str:
    """The operator's settings as values, in Markdown."""
    fields = Settings.model_fields.items()
    return _table((("settings", camel(name)), field.default) for name, field in fields if name not in CHOSEN_ELSEWHERE)


def _default(value: Any) -> Any:
    """A value as YAML has it; what is not given in a part of a manifest is left out there."""
    if isinstance(value, Values) or _is_section(value):
        return {camel(name): _default(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Model):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return list(value) if isinstance(value, tuple) else value


def _is_section(value: Any) -> bool:
    """Whether a value is a part of our own values, and not of a manifest."""
    return isinstance(value, Model) and type(value).__module__ == Values.__module__


def _lines(at: tuple[str, ...], section: Model, indent: str) -> Iterator[str]:
    """Lines of values.yaml."""
    for name in type(section).model_fields:
        value, path = getattr(section, name), (*at, camel(name))
        if not at:
            yield ""
        words = description(ROOT, child(ROOT, path))
        yield from textwrap.wrap(words, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        if _is_section(value):
            yield f"{indent}{camel(name)}:"
            yield from _lines(path, value, f"{indent}  ")
        else:
            yield textwrap.indent(text_of({camel(name): _default(value)}), indent).rstrip("\n")
    if not at:
        yield ""


def _leaves(at: tuple[str, ...], section: Model) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in type(section).model_fields:
        value, path = getattr(section, name), (*at, camel(name))
        if _is_section(value):
            yield from _leaves(path, value)
        else:
            yield path, _default(value)


def _table(defaults: Iterable[tuple[tuple[str, ...], Any]]) -> str:
    """Rows for values by their paths."""
    lines = ["| Value | Default | Allowed | Meaning |\n|---|---|---|---|\n"]
    for path, default in defaults:
        node = child(ROOT, path)
        shown = json.dumps(default, ensure_ascii=False)
        may = "a setting: see below" if path == ("settings",) else allowed(ROOT, node).replace("|", "\\|")
        lines.append(f"| `{'.'.join(path)}` | `{shown}` | {may} | {description(ROOT, node)} |\n")
    return "".join(lines)


def _node(node: Schema) -> Schema:
    """A node of the schema without references, and without what only the models' other readers need."""
    resolved = resolve(ROOT, node)
    found = {keyword: resolved[keyword] for keyword in KEPT if keyword in resolved}
    if "description" in found:
        found["description"] = " ".join(found["description"].split())
    if "x-kubernetes-int-or-string" in resolved:
        found["type"] = ["string", "number"]
    if resolved.get("nullable"):
        found["type"] = [found["type"], "null"]
    if "properties" in resolved:
        found["properties"] = {name: _node(inner) for name, inner in resolved["properties"].items()}
    if "items" in resolved:
        found["items"] = _node(resolved["items"])
    additional = resolved.get("additionalProperties")
    if additional is not None:
        found["additionalProperties"] = additional if isinstance(additional, bool) else _node(additional)
    return found
