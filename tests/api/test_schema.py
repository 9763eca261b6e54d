"""What the schema says at a key, in words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from g2rpo_api.base import Items, Model
from g2rpo_api.schema import allowed, child, description, keys, places_of


class Inner(Model):
    """An inner mapping."""

    size: Annotated[int, Field(ge=2, le=9)] = 3
    """How big."""
    rate: Annotated[float, Field(gt=0, lt=1)]
    name: Annotated[str, Field(min_length=1, max_length=5)]


class Outer(Model):
    """An outer mapping."""

    inner: Inner
    """The inner one."""
    maybe: Inner | None = None
    many: Items[Inner] = ()
    pair: Annotated[Items[int], Field(min_length=2, max_length=2)] = (1, 2)
    few: Annotated[Items[bool], Field(min_length=1, max_length=3)] = (True,)
    some: Annotated[Items[str], Field(min_length=1)] = ("a",)
    law: Literal["Flow", "Dance"] = "Flow"
    only: Literal["SD3"] = "SD3"
    labels: dict[str, str] = Field(default_factory=dict)
    snake_case: int | None = None


ROOT: dict[str, Any] = Outer.model_json_schema(by_alias=True)


@pytest.mark.parametrize(
    ("loc", "text"),
    [
        ((), "a mapping with the keys inner, maybe, many, pair, few, some, law, only, labels, snakeCase"),
        (("inner",), "a mapping with the keys size, rate, name"),
        (("inner", "size"), "an integer, at least 2 and at most 9"),
        (("inner", "rate"), "a finite number, above 0 and below 1"),
        (("inner", "name"), "a non-empty text of at most 5 characters"),
        (("maybe",), "a mapping with the keys size, rate, name, or null"),
        (("maybe", "size"), "an integer, at least 2 and at most 9"),
        (("many",), "a list of items, each a mapping with the keys size, rate, name"),
        (("many", 7, "size"), "an integer, at least 2 and at most 9"),
        (("pair",), "a list of 2 items, each an integer"),
        (("pair", 1), "an integer"),
        (("few",), "a list of 1 to 3 items, each true or false"),
        (("some",), "a list of at least 1 items, each a text"),
        (("law",), "Flow or Dance"),
        (("only",), "SD3"),
        (("labels",), "a mapping of texts to texts"),
        (("labels", "anything"), "a text"),
        (("snakeCase",), "an integer, or null"),
        (("nowhere", "at", 3, "all"), "a value"),
    ],
)
def test_what_is_allowed(loc: tuple[str | int, ...], text: str) -> None:
    assert allowed(ROOT, child(ROOT, loc)) == text


def test_descriptions_are_the_fields_not_the_models() -> None:
    assert description(ROOT, child(ROOT, ("inner",))) == "The inner one."
    assert description(ROOT, child(ROOT, ("inner", "size"))) == "How big."
    assert description(ROOT, child(ROOT, ("inner", "rate"))) == ""


def test_keys_are_those_of_yaml() -> None:
    assert keys(ROOT, child(ROOT, ("maybe",))) == ("size", "rate", "name")
    assert keys(ROOT, child(ROOT, ("law",))) == ()


def test_every_place_of_a_name_is_found() -> None:
    assert list(places_of(ROOT, "size")) == [("inner", "size"), ("maybe", "size"), ("many", 0, "size")]
    assert list(places_of(ROOT, "law")) == [("law",)]
    assert list(places_of(ROOT, "colour")) == []
