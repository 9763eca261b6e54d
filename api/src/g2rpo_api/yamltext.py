"""YAML as jobs are written in it: YAML 1.2's plain scalars, and no key twice.

Who calls this: `parse.py`. PyYAML alone follows YAML 1.1, where 1e-4 is a text, `on` is true and the
last of two equal keys wins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)$|0x[0-9a-fA-F]+$")
_FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
)
_SCALARS = (
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+0123456789."),
    ("null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("merge", re.compile(r"<<$"), "<"),
)


Place = tuple[tuple[str | int, ...], int, int]
"""Key path, line of the first occurrence, line of the second; lines from 1."""


class Loader(yaml.SafeLoader):
    """Safe loader with the scalars of YAML 1.2's core schema (and merge keys)."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML's own attribute


class Dumper(yaml.SafeDumper):
    """Safe dumper that quotes every text that YAML 1.1 or 1.2 would read as something else."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists below their key."""
        super().increase_indent(flow, False)


for _tag, _pattern, _first in _SCALARS:
    for _class in (Loader, Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, list(_first))


# An integer in YAML 1.2, a text here and in YAML 1.1.
Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"0o[0-7]+$"), ["0"])


def _represent_text(dumper: Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML folds these line breaks to spaces unless they are escaped, which only double quotes can do.
    style = '"' if any(character in text for character in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Dumper.add_representer(str, _represent_text)


class Repeated(yaml.YAMLError):
    """Keys that occur twice in one mapping."""

    def __init__(self, places: list[Place]) -> None:
        super().__init__("repeated keys")
        self.places = places


def documents(text: str) -> list[Any]:
    """All documents of a YAML text that are not empty; a JSON text is one.

    JSON is read as JSON: YAML knows neither its escapes for characters beyond U+FFFF nor all its texts.

    Raises:
        Repeated: a mapping names a key twice.
        yaml.YAMLError: the text is not YAML, or asks for anything but plain data.
    """
    if text.lstrip().startswith("{"):
        try:
            return [json.loads(text, object_pairs_hook=_without_repeats)]
        except (ValueError, RecursionError):
            pass  # YAML's own braces, or a mistake that the YAML reader explains with its line
    loader = Loader(text)
    try:
        values = []
        while loader.check_node():
            node = loader.get_node()
            assert node is not None, "check_node promised one"
            repeated = list(_repeated(node, (), frozenset()))
            if repeated:
                raise Repeated(repeated)
            values.append(loader.construct_document(node))
        return [value for value in values if value is not None]
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
    finally:
        loader.dispose()


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key twice")
    return found


def text_of(value: Any) -> str:
    """YAML text of plain data, keys in their order."""
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)


def _repeated(node: yaml.Node, at: tuple[str | int, ...], above: frozenset[int]) -> Iterator[Place]:
    if id(node) in above:
        raise yaml.constructor.ConstructorError(None, None, "an alias that contains itself", node.start_mark)
    inside = above | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated(item, (*at, index), inside)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in first:
                yield (*at, name), first[name], line
            first.setdefault(name, line)
            yield from _repeated(value, (*at, name), inside)
