"""Spans of time against what Kubernetes' own function gives (k8s.io/apimachinery, HumanDuration)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_operator.plugin.ages import age, seconds_of, span
from testoperator.records import at, time

M, H, D = 60, 3600, 86400
Y = 365 * D


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (0.99, "0s"),
        (1, "1s"),
        (119.999, "119s"),
        (2 * M, "2m"),
        (2 * M + 1, "2m1s"),
        (10 * M - 1, "9m59s"),
        (10 * M, "10m"),
        (3 * H - 1, "179m"),
        (3 * H, "3h"),
        (3 * H + M, "3h1m"),
        (8 * H - 1, "7h59m"),
        (8 * H, "8h"),
        (48 * H - 1, "47h"),
        (48 * H, "2d"),
        (2 * D + H, "2d1h"),
        (8 * D - 1, "7d23h"),
        (8 * D, "8d"),
        (2 * Y - 1, "729d"),
        (2 * Y, "2y"),
        (2 * Y + D, "2y1d"),
        (8 * Y - 1, "7y364d"),
        (8 * Y, "8y"),
        (9 * Y - 1, "8y"),
    ],
)
def test_spans_are_those_of_kubectl(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_an_age_counts_from_kubernetes_times() -> None:
    assert age(time(0), at(3 * H + 5 * M)) == "3h5m"
    assert age("", at(0)) == "<unknown>"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("250ms", 0.25),
        (".5m", 30),
        ("2h3m4s", 7384),
    ],
)
def test_times_are_read_as_go_reads_them(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "5d", "-1s", "1h30", "s5", "1m x"])
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"30s, 5m or 1h30m"):
        seconds_of(text)


@given(st.floats(0, 8 * Y))
def test_a_span_is_no_longer_than_what_it_tells_of(seconds: float) -> None:
    units = {"s": 1, "m": M, "h": H, "d": D, "y": Y}
    parts = (
        span(seconds)
        .replace("s", "s ")
        .replace("m", "m ")
        .replace("h", "h ")
        .replace("d", "d ")
        .replace("y", "y ")
        .split()
    )
    told = sum(int(part[:-1]) * units[part[-1]] for part in parts)
    assert told <= seconds < told + {1: units[parts[-1][-1]], 2: units[parts[-1][-1]]}[len(parts)] + 1e-6
