"""What is wrong with a job, in words: the key, what was found there, what is allowed, what to do.

Who calls this: `parse.py` makes them; the trainer prints them, the operator puts them into a condition.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

from g2rpo_api.rules import Fault, Loc
from g2rpo_api.schema import UNTOLD, Schema, allowed, child, description, keys, places_of

WIDTH = 100
LONGEST_FOUND = 80
DOCUMENT = "(document)"
"""Key of a problem that is about the file as a whole."""


@dataclass(frozen=True)
class SpecProblem:
    """One thing that is wrong."""

    key: str
    """Path of the key, such as spec.training.rewards[0].name."""
    found: object
    allowed: str
    hint: str
    """What to do about it."""

    def __str__(self) -> str:
        rows = (("found", str(self.found)), ("allowed", self.allowed), ("hint", self.hint))
        return "\n".join([self.key, *(_row(label, text) for label, text in rows if text != "")])


class SpecError(ValueError):
    """A job that cannot be run, with all its problems."""

    def __init__(self, problems: Iterable[SpecProblem], source: str = "job") -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__(str(self))

    def __str__(self) -> str:
        count = len(self.problems)
        title = f"{self.source}: {count} problem{'' if count == 1 else 's'}"
        return "\n\n".join([title, *(str(problem) for problem in self.problems)])


def _row(label: str, text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=f"  {label:<9}", subsequent_indent=" " * 11)


def key_path(loc: Loc) -> str:
    """("spec", "rewards", 0, "name") -> spec.rewards[0].name."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc]
    return "".join(parts).removeprefix(".") or DOCUMENT


def show(value: Any) -> str:
    """A value as one would write it in YAML, cut where it gets long; mappings by their keys."""
    if isinstance(value, Mapping):
        text = f"a mapping with {', '.join(map(str, value))}" if value else "an empty mapping"
    elif isinstance(value, list | tuple):
        nested = any(isinstance(item, Mapping | list | tuple) for item in value)
        text = f"a list of {len(value)}" if nested else f"[{', '.join(show(item) for item in value)}]"
    elif value is None or isinstance(value, str | bool):
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = str(value)
    return text if len(text) <= LONGEST_FOUND else text[: LONGEST_FOUND - 1] + "…"


def from_fault(fault: Fault) -> SpecProblem:
    """Problem of values that do not go together."""
    return SpecProblem(key_path(fault.at), show(fault.found), fault.allowed, fault.hint)


def from_pydantic(errors: Iterable[ErrorDetails], root: Schema) -> list[SpecProblem]:
    """Problems of single values, in plain words.

    Args:
        errors: pydantic's report on data that was read by YAML keys.
        root: JSON schema of the model that refused it.
    """
    lines = list(errors)
    return [_problem(line, root) for line in lines if not _follows_from_items(line, lines)]


def _follows_from_items(error: ErrorDetails, errors: list[ErrorDetails]) -> bool:
    """pydantic does not count bad items, so a list that has some may also be called too short."""
    size = len(error["loc"])
    return error["type"] == "too_short" and any(
        len(other["loc"]) > size and other["loc"][:size] == error["loc"] for other in errors
    )


def _problem(error: ErrorDetails, root: Schema) -> SpecProblem:
    loc, value = error["loc"], error["input"]
    if error["type"] in ("extra_forbidden", "invalid_key"):
        return _unknown_key((*loc[:-1], str(loc[-1])), value, root)
    if loc[-1:] == ("[key]",):
        return SpecProblem(key_path(loc[:-1]), f"the key {show(value)}", "a text as key", "put the key into quotes")
    node = child(root, loc)
    if error["type"] == "missing":
        meaning = description(root, node)
        return SpecProblem(key_path(loc), "nothing", allowed(root, node), f"add it: {meaning}")
    hint = _hint(value, root, node) or description(root, node) or description(root, child(root, loc[:-1]))
    return SpecProblem(key_path(loc), show(value), allowed(root, node), hint)


def _unknown_key(loc: Loc, value: Any, root: Schema) -> SpecProblem:
    known, name = keys(root, child(root, loc[:-1])), str(loc[-1])
    near = nearest(name, known)
    elsewhere = [key_path(place) for place in places_of(root, name)]
    if near is not None:
        hint = f"did you mean {near}?"
    elif len(elsewhere) == 1:
        hint = f"it belongs to {elsewhere[0]}"
    else:
        hint = "remove it"
    return SpecProblem(key_path(loc), f"an unknown key ({show(value)})", f"the keys {', '.join(known)}", hint)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant: alike but for case, dashes and underscores, or a few letters."""
    plain = {_plain(candidate): candidate for candidate in names}
    matches = get_close_matches(_plain(name), plain, n=1, cutoff=0.7)
    return plain[matches[0]] if matches else None


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _hint(value: Any, root: Schema, node: Schema) -> str:
    """What to do when the mistake can be told from the value; empty when it cannot."""
    kind = node.get("type")
    choices = [choice for choice in node.get("enum", ()) if isinstance(choice, str)]
    if choices:
        near = nearest(value, choices) if isinstance(value, str) else None
        return f"did you mean {near}?" if near else ""
    if value is None:
        return "give it a value"
    if isinstance(value, str) and kind in ("integer", "number", "boolean"):
        return _hint_for_text(value, str(kind))
    if kind == "integer" and isinstance(value, int | float) and value > node["maximum"] in UNTOLD:
        return f"lower it to at most {node['maximum']}"
    if kind == "string" and not isinstance(value, str):
        return "put it into quotes if it is meant as text"
    if kind == "array" and not isinstance(value, list | tuple):
        return "write one item per line, each after a dash"
    if kind == "object" and not isinstance(value, Mapping):
        return f"write its keys below it, indented: {', '.join(keys(root, node))}"
    return ""


def _hint_for_text(value: str, kind: str) -> str:
    words = {"integer": "whole numbers", "number": "numbers", "boolean": "true and false"}
    try:
        float(value)
    except ValueError:
        is_plain = kind == "boolean" and value.lower() in ("true", "false")
    else:
        is_plain = kind != "boolean"
    return f"write {words[kind]} without quotes" if is_plain else ""
