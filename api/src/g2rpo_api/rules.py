"""Checks between the fields of a model, in both their forms: for Python, and for the API server in CEL.

Who calls this: `base.py`, whose models declare them. A check that knows single fields stands with its model,
the two forms side by side; here are those that many models need. Where its business ends: it knows no model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import InitErrorDetails, PydanticCustomError

Loc = tuple[str | int, ...]
RuleReason = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"]


@dataclass(frozen=True)
class Fault:
    """A value that is fine alone and wrong beside another."""

    at: Loc
    """YAML keys from the model that found it down to the value."""
    found: Any
    allowed: str
    hint: str

    def details(self) -> InitErrorDetails:
        """As a line of a pydantic error."""
        context = {"allowed": self.allowed, "hint": self.hint}
        kind = PydanticCustomError("fault", "must be {allowed}; {hint}", context)
        return InitErrorDetails(type=kind, loc=self.at, input=self.found)


@dataclass(frozen=True)
class Rule:
    """The same as the API server checks it, in CEL; one that names `oldSelf` is about changes only."""

    cel: str
    """True where all is well; `self` is the model, by YAML keys."""
    message: str
    """What is allowed, and what to do."""
    at: str = ""
    """YAML path from the model down to the value, such as .sampling.steps; empty for the model itself."""
    reason: RuleReason = "FieldValueInvalid"

    def schema(self) -> dict[str, str]:
        """As an item of x-kubernetes-validations."""
        place = {"fieldPath": self.at} if self.at else {}
        return {"rule": self.cel, "message": self.message, "reason": self.reason, **place}


@dataclass(frozen=True)
class Spelling:
    """What the keys of a mapping look like that users name themselves."""

    pattern: str
    """From ^ to $, in the syntax that Go, Rust and Python share; no single quote in it."""
    most: int
    """Characters."""
    words: str
    """What the pattern says."""


def key_faults(mapping: str, keys: Iterable[str], spelling: Spelling) -> Iterator[Fault]:
    """Faults of a mapping, for each key that is spelt otherwise."""
    for key in keys:
        if len(key) > spelling.most or not re.fullmatch(spelling.pattern.removesuffix("$"), key):
            yield Fault((mapping, key), f"the key {key}", spelling.words, "mend the key")


def key_rule(mapping: str, spelling: Spelling) -> Rule:
    """`key_faults` for the API server."""
    fits = f"key.size() <= {spelling.most} && key.matches(r'{spelling.pattern}')"
    message = f"must have keys of the kind {spelling.words}; mend the key"
    return Rule(f"!has(self.{mapping}) || self.{mapping}.all(key, {fits})", message, f".{mapping}")


def choice_faults(given: Sequence[str], choices: Sequence[str], *, required: bool) -> Iterator[Fault]:
    """Faults where several of some keys are given, or none.

    Args:
        given: keys that are there, in the order of `choices`.
        choices: all of them.
        required: whether one must be there.
    """
    names = ", ".join(choices)
    for name in given[1:]:
        allowed = f"absent when {given[0]} is given: one of {names}"
        yield Fault((name,), f"{name} beside {given[0]}", allowed, "remove one of them")
    if required and choices and not given:
        yield Fault((), "none of them", f"exactly one of {names}", "add one")


def choice_rules(choices: Sequence[str], *, required: bool) -> Iterator[Rule]:
    """`choice_faults` for the API server."""
    names = ", ".join(choices)
    for index, name in enumerate(choices[1:], start=1):
        earlier = " || ".join(f"has(self.{other})" for other in choices[:index])
        message = f"must be absent when another is given: one of {names}; remove one of them"
        yield Rule(f"!has(self.{name}) || !({earlier})", message, f".{name}", "FieldValueForbidden")
    if required and choices:
        there = " || ".join(f"has(self.{name})" for name in choices)
        yield Rule(there, f"must be exactly one of {names}; add one", reason="FieldValueRequired")


def repeated_faults(items: str, key: str, values: Sequence[str]) -> Iterator[Fault]:
    """Faults of a list whose items are told apart by a key, for each value that occurs again.

    The API server knows such lists itself (x-kubernetes-list-type: map).

    Args:
        items: YAML key of the list.
        key: YAML key in each of its items.
        values: what the items have there.
    """
    for index, value in enumerate(values):
        if value in values[:index]:
            first = values.index(value)
            hint = f"{items}[{first}] has the same {key}: change or remove one of them"
            yield Fault((items, index, key), value, f"unique among the {items}", hint)


def member_rules(members: Mapping[str, str | None], needed: Collection[str]) -> Iterator[Rule]:
    """Rules of a union: only the member that `type` names may be there, and some must.

    Args:
        members: value of `type` -> YAML key of its settings (None: it has none).
        needed: YAML keys of settings that cannot be left out when `type` names them.
    """
    for variant, key in members.items():
        if key is not None:
            message = f"must be absent when type is not {variant}; remove it, or set type: {variant}"
            yield Rule(f"!has(self.{key}) || self.type == '{variant}'", message, f".{key}", "FieldValueForbidden")
        if key in needed:
            message = f"must be given when type is {variant}; add it"
            yield Rule(f"has(self.{key}) || self.type != '{variant}'", message, f".{key}", "FieldValueRequired")
