"""Pods and events in tables: what is shown of many, and in which words."""

from __future__ import annotations

import pytest

from g2rpo_operator.plugin.lists import MOST_EVENTS, MOST_PODS, event_rows, pod_rows, state
from g2rpo_operator.plugin.words import style_of
from g2rpo_operator.world import Pod
from plugin.scenes import WIDTH, event
from testoperator.records import at, ended_pod, pending_pod, pod, time


@pytest.mark.parametrize(
    ("seen", "word"),
    [
        (pod(), "Running"),
        (pod(deletion_time=time(300)), "Terminating"),
        (pod(disruption="PreemptionByScheduler"), "PreemptionByScheduler"),
        (pending_pod(), "Pending"),
        (pending_pod(unschedulable="no node fits"), "Unschedulable"),
        (pod(phase="Pending", waiting_reason="ImagePullBackOff"), "ImagePullBackOff"),
        (ended_pod(0, terminated_reason="Completed"), "Completed"),
        (ended_pod(1, terminated_reason="Error"), "Error"),
        (ended_pod(137, terminated_reason="OOMKilled"), "OOMKilled"),
        (ended_pod(None), "Failed"),
        (ended_pod(137, terminated_reason="Error", disruption="Evicted"), "Evicted"),
        (ended_pod(0, terminated_reason="Completed", deletion_time=time(300)), "Completed"),
    ],
)
def test_a_pod_has_one_state(seen: Pod, word: str) -> None:
    assert state(seen) == word


def test_of_many_pods_those_that_do_not_run_are_shown_and_the_rest_counted() -> None:
    pods = [*(pod(index) for index in range(998)), pending_pod(998), ended_pod(1, 999, terminated_reason="Error")]
    lines = [part.plain for part in pod_rows(pods, 1, WIDTH)]
    assert len(lines) == 1 + MOST_PODS + 1
    assert [line.split()[1] for line in lines[1:3]] == ["998", "999"]
    assert lines[-1] == f"and {1000 - MOST_PODS} more: {1000 - MOST_PODS} Running"


def test_the_newest_attempt_comes_first() -> None:
    pods = [pod(0, 1, phase="Failed"), pod(0, 3), pod(0, 2, phase="Failed")]
    assert [part.plain.split()[2] for part in pod_rows(pods, 3, WIDTH)[1:]] == ["3", "2", "1"]


def test_no_pods_and_no_events_are_no_table() -> None:
    assert pod_rows([], 1, WIDTH) == []
    assert event_rows([], at(0), WIDTH) == []


def test_long_messages_are_cut_and_put_on_one_line() -> None:
    (_, line) = event_rows([event("Fault", "first\nsecond " + "x" * 500, 10)], at(20), WIDTH)
    assert "first second" in line.plain
    assert line.plain.endswith("…")
    assert len(line.plain) == WIDTH


def test_a_message_keeps_some_room_on_the_narrowest_screen() -> None:
    (_, line) = event_rows([event("Fault", "x" * 500, 10)], at(20), 10)
    assert line.plain.count("x") == 29


def test_no_line_ends_with_space() -> None:
    rows = [*pod_rows([pod(0), pending_pod(1, unschedulable="no")], 1, WIDTH)]
    assert all(row.plain == row.plain.rstrip() for row in rows)


def test_only_the_newest_events_are_shown() -> None:
    events = [event(f"E{number}", "m", last=number) for number in range(20)]
    names = [part.plain.split()[2] for part in event_rows(events[::-1], at(100), WIDTH)[1:]]
    assert names == [f"E{number}" for number in range(20 - MOST_EVENTS, 20)]


def test_events_of_the_newer_kind_have_their_time_elsewhere() -> None:
    newer = {"metadata": {"creationTimestamp": time(0)}, "eventTime": time(40), "lastTimestamp": None, "count": None}
    (_, line) = event_rows([{**newer, "reason": "R", "type": "Normal", "message": "m"}], at(100), WIDTH)
    assert line.plain.split() == ["60s", "Normal", "R", "m"]


@pytest.mark.parametrize(
    ("word", "style"),
    [
        ("Running", "green"),
        ("Failed", "bold red"),
        ("+0.1", "green"),
        ("-0.1", "bold red"),
        ("-", ""),
        ("ocr", ""),
        ("+", ""),
    ],
)
def test_words_have_their_colours(word: str, style: str) -> None:
    assert style_of(word) == style


def test_colours_are_on_the_words_and_not_on_the_space_behind() -> None:
    (_, line) = pod_rows([pod(0)], 1, WIDTH)
    coloured = [line.plain[span.start : span.end].strip() for span in line.spans if span.style == "green"]
    assert coloured == ["Running"]
