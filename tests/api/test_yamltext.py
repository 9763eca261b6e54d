"""YAML 1.2's scalars, no key twice, and text that every YAML reader reads alike."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_api.yamltext import Repeated, documents, text_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E-4", 1e-4),
        ("1e4", 10000.0),
        ("+1.5e+3", 1500.0),
        ("-1.0e-3", -0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5", -0.5),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("12", 12),
        ("0x1F", 31),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_scalars_of_yaml_1_2(text: str, value: Any) -> None:
    (found,) = documents(f"key: {text}")
    assert found == {"key": value}
    assert type(found["key"]) is type(value)


PLAIN = ["yes", "no", "on", "off", "y", "1_000", "1:30", "010", "0o17", "2026-01-31", "e5", "1e", ".", "=", "+"]


@pytest.mark.parametrize("text", PLAIN)
def test_what_yaml_1_2_reads_as_text(text: str) -> None:
    assert documents(f"key: {text}") == [{"key": text}]


@given(value=st.floats(allow_nan=False))
def test_every_float_is_read_as_python_writes_it(value: float) -> None:
    text = repr(value).replace("inf", ".inf")
    (found,) = documents(f"key: {text}")
    assert found["key"] == value
    assert isinstance(found["key"], float)


@given(value=st.integers())
def test_every_integer_is_read_as_python_writes_it(value: int) -> None:
    assert documents(f"key: {value}") == [{"key": value}]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(value=st.dictionaries(st.text(), DATA, min_size=1, max_size=4))
def test_what_is_written_is_read_back(value: dict[str, Any]) -> None:
    assert documents(text_of(value)) == [value]


@given(value=st.dictionaries(st.text(), DATA, min_size=1, max_size=4))
def test_readers_of_yaml_1_1_agree(value: dict[str, Any]) -> None:
    assert yaml.safe_load(text_of(value)) == value


AMBIGUOUS = ["1e-4", "1e5", "on", "yes", "010", "1:30", "1_000", "2026-01-31", "0o17", "null", "~", "true", ".5", "<<"]


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_text_that_some_reader_takes_for_something_else_is_quoted(text: str) -> None:
    written = text_of({"key": text})
    assert written == f"key: '{text}'\n"


HARD = ["a\nb\n", "a\x85b", "\u2028", "\u2029 x", " lead", "trail ", "\ttab", "\ufeff", "\x7f", "𝄞"]


@pytest.mark.parametrize("text", HARD)
def test_texts_that_are_hard_to_write(text: str) -> None:
    assert documents(text_of({"key": text})) == [{"key": text}]
    assert yaml.safe_load(text_of({"key": text})) == {"key": text}


def test_keys_keep_their_order_and_lists_are_indented() -> None:
    assert text_of({"b": 1, "a": [{"d": 2, "c": 3}]}) == "b: 1\na:\n  - d: 2\n    c: 3\n"


@given(value=st.dictionaries(st.text(), DATA, max_size=4), indent=st.none() | st.just(2), ascii_only=st.booleans())
def test_json_is_read_as_json(value: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    assert documents(json.dumps(value, indent=indent, ensure_ascii=ascii_only)) == [value]


def test_a_key_twice_is_found_in_json_too() -> None:
    with pytest.raises(Repeated) as caught:
        documents('{"a": 1,\n "b": {"c": 1, "c": 2}}')
    assert caught.value.places == [(("b", "c"), 2, 2)]


def test_braces_of_yaml_are_still_yaml() -> None:
    assert documents("{a: 1e-4, b: [x, 'y']} # so\n") == [{"a": 1e-4, "b": ["x", "y"]}]


def test_a_key_twice_is_found_wherever_it_is() -> None:
    text = "a: 1\nb:\n  c: 1\n  d: [{e: 1}, {e: 2, e: 3}]\n  c: 2\na: 2\na: 3\n"
    with pytest.raises(Repeated) as caught:
        documents(text)
    assert sorted(caught.value.places) == [
        (("a",), 1, 6),
        (("a",), 1, 7),
        (("b", "c"), 3, 5),
        (("b", "d", 1, "e"), 4, 4),
    ]


def test_equal_keys_of_different_mappings_are_fine() -> None:
    assert documents("a: {x: 1}\nb: {x: 1}\nc: [{x: 1}, {x: 1}]") == [
        {"a": {"x": 1}, "b": {"x": 1}, "c": [{"x": 1}, {"x": 1}]}
    ]


def test_aliases_and_merge_keys_work() -> None:
    text = "base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\nsame: *base"
    assert documents(text) == [{"base": {"a": 1, "b": 2}, "more": {"a": 1, "b": 3}, "same": {"a": 1, "b": 2}}]


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "&a [[*a]]"])
def test_an_alias_that_contains_itself_is_refused(text: str) -> None:
    with pytest.raises(yaml.MarkedYAMLError, match="contains itself"):
        documents(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: b: c",
        "\ta: 1",
        "a: *nowhere",
        "a: !!python/object/apply:os.system ['true']",
        "a: !secret x",
        "? [1]\n: 2",
        'a: "\\q"',
        "a: \x00",
    ],
)
def test_what_is_not_plain_yaml_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        documents(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("# nothing\n", []),
        ("---\n---\n", []),
        ("---\na: 1\n", [{"a": 1}]),
        ("a: 1\n---\n", [{"a": 1}]),
        ("a: 1\n---\nb: 2\n...\n", [{"a": 1}, {"b": 2}]),
        ('{"a": [1, 2.5e-3, "x", null]}', [{"a": [1, 0.0025, "x", None]}]),
    ],
)
def test_documents(text: str, values: list[Any]) -> None:
    assert documents(text) == values
