"""Every panel of the fleet's dashboard has something to show of jobs that lived, and what it shows is true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from monitoring.ask import Prometheus, Span
from monitoring.pictures import page
from testcluster.cluster import Cluster
from testmonitoring import fleet
from testmonitoring.looking import last, unanswered
from testmonitoring.scraping import MISSING, PROGRAM

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PROGRAM, reason=MISSING)]
Json = dict[str, Any]


@pytest.fixture(scope="module")
def recording(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, Span]]:
    with fleet.recorded(cluster, tmp_path_factory.mktemp("fleet")) as recorded:
        yield recorded


@pytest.fixture(scope="module")
def shown(recording: tuple[Prometheus, Span]) -> Json:
    return page("fleet", *recording)


def test_no_query_is_left_without_an_answer(shown: Json) -> None:
    """But for errors by their kind: there were none."""
    assert unanswered(shown) == [("Looks", "B")]


def test_jobs_are_counted_in_the_phase_they_are_in(shown: Json) -> None:
    phases = {("Running",): 1, ("Succeeded",): 1, ("Failed",): 1, ("Suspended",): 1, ("Queued",): 1}
    assert last(shown, "Jobs") == last(shown, "Jobs by phase") == phases
    assert last(shown, "Waiting jobs") == {(): 1}
    assert last(shown, "Leader") == {(): 1}


def test_a_job_has_one_row_however_often_it_began_again(shown: Json) -> None:
    """Labels are in the order of their names: attempt, name, namespace, phase."""
    phases, attempts, iterations = (last(shown, "Jobs by name", letter) for letter in "ABC")
    assert ("portrait", "art", "Running") in phases
    assert len(phases) == len(attempts) == 5
    assert ("2", "portrait", "art") in attempts
    assert ("1", "still-life", "art") in attempts
    assert iterations[("portrait", "art")] == fleet.LAST - fleet.FIRST + 2
    assert iterations[("still-life", "art")] == 100
    assert ("galaxies", "science") not in iterations
    assert last(shown, "Jobs by name", "D")[("portrait", "art")] == pytest.approx(0.4321)


def test_the_fault_is_a_restart_and_nothing_else_is(shown: Json) -> None:
    """increase() reckons with what it did not see at the ends of the hour: more than 1, less than 2."""
    restarts = last(shown, "Restarts by reason")
    assert {reason for (reason,), count in restarts.items() if count > 0} == {"Bug"}
    assert 1 <= restarts[("Bug",)] < 2


def test_gpus_are_busy_while_a_job_holds_them(shown: Json) -> None:
    hours = last(shown, "Jobs by name", "E")
    assert max(hours, key=hours.__getitem__) == ("portrait", "art")
    assert hours[("galaxies", "science")] == 0
