"""Every panel about runs shows what the runs wrote of themselves, with one series before and after a restart.

The panels of GPUs are asked about series of DCGM's shape that come from no GPU; see `testmonitoring/dcgm.py`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from g2rpo_trainer.journal import Role
from monitoring.ask import filled
from monitoring.drawing import frames
from monitoring.pictures import page
from testmonitoring.dcgm import GPUS
from testmonitoring.looking import numbers, series_of, unanswered
from testmonitoring.promtool import NEEDS_PROMTOOL, rules_hold
from testmonitoring.replay import replayed
from testmonitoring.runs import BAD, FLAT_ROLES, GOOD, NAMESPACE, ROLES, TRICKED, Recording, recorded
from testmonitoring.scraping import MISSING, PROGRAM

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.skipif(not PROGRAM, reason=MISSING)]
by_grafana = pytest.mark.skipif(not shutil.which("npm"), reason="no npm in PATH; Debian's package of that name has it")
Json = dict[str, Any]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    with recorded(tmp_path_factory.mktemp("runs")) as made:
        yield made


@pytest.fixture(scope="module")
def pages(recording: Recording) -> dict[str, Json]:
    return {name: page(name, recording.prometheus, recording.span) for name in ("run", "performance", "rewards")}


@pytest.mark.parametrize("name", ["run", "performance", "rewards"])
def test_no_query_is_left_without_an_answer(name: str, pages: dict[str, Json]) -> None:
    """But for the share of a card's speed: there is no card."""
    assert unanswered(pages[name]) == ([("MFU", "A")] if name == "performance" else [])


@pytest.mark.parametrize("name", ["run", "performance", "rewards"])
def test_no_two_curves_of_a_panel_have_the_same_name(name: str, pages: dict[str, Json]) -> None:
    """A restart begins another pod; whoever did not aggregate it away would draw every curve twice."""
    for each in pages[name]["panels"]:
        drawn = [
            (named(target["legendFormat"], one["metric"]), each["panel"]["title"])
            for target in each["panel"]["targets"]
            if (each["panel"]["type"], target["refId"]) != ("trend", "B")
            for one in each["answers"][target["refId"]]
        ]
        assert len(set(drawn)) == len(drawn)


def named(legend: str, labels: dict[str, str]) -> str:
    """What the legend calls a series."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend)


def test_a_curve_goes_on_after_a_restart(pages: dict[str, Json], recording: Recording) -> None:
    begins = {record["attempt"]: record["time"] for record in reversed(recording.diary(GOOD))}
    assert begins.keys() == {1, 2}
    for title in ("Trained rewards", "Gradient", "Spread of rewards"):
        for one in series_of(pages["run"], title):
            if one["metric"]["job_name"] == GOOD:
                times = [time for time, _ in one["values"]]
                assert min(times) < begins[2] < max(times), title


@by_grafana
def test_runs_compared_by_iteration_are_what_the_runs_wrote_down(pages: dict[str, Json], recording: Recording) -> None:
    """By Grafana's own transformations. A scrape may miss an iteration, and none shows one that was not."""
    for job in (GOOD, BAD):
        wrote = {record["iteration"]: anchor(record, "paddle") for record in recording.diary(job) if record["policy"]}
        drawn = by_iteration(pages["run"], "Trained rewards by iteration", f"{job} paddle")
        assert drawn.keys() <= wrote.keys()
        assert len(drawn) >= 0.8 * len(wrote)
        assert drawn == {iteration: pytest.approx(wrote[iteration]) for iteration in drawn}


def anchor(record: Json, reward: str) -> float:
    """Mean of a reward over an iteration's deterministic pictures."""
    return next(entry["anchor"]["mean"] for entry in record["rewards"] if entry["name"] == reward)


def by_iteration(page: Json, title: str, curve: str) -> dict[int, float]:
    """What a panel draws over iterations."""
    place = [each["panel"]["title"] for each in page["panels"]].index(title)
    (table,) = frames(page)[place]
    columns = {field["name"]: field["values"] for field in table}
    assert columns["iteration"] == sorted(set(columns["iteration"])), "a trend panel wants ascending numbers"
    pairs = zip(columns["iteration"], columns[curve], strict=True)
    return {round(iteration): value for iteration, value in pairs if value is not None and iteration > 0}


@by_grafana
def test_held_out_rewards_are_compared_by_iteration_too(pages: dict[str, Json], recording: Recording) -> None:
    drawn = by_iteration(pages["run"], "Evaluations by iteration", f"{GOOD} dddd heldout")
    wrote = {record["iteration"]: unseen(record) for record in recording.diary(GOOD) if record["evaluation"]}
    seen = {iteration: wrote[iteration] for iteration in wrote if iteration in drawn}
    assert len(seen) >= 2
    assert {iteration: drawn[iteration] for iteration in seen} == pytest.approx(seen)


def unseen(record: Json) -> float:
    """Mean of the held-out reward on prompts that training never uses."""
    return next(found["rewards"]["dddd"]["mean"] for found in record["evaluation"] if found["split"] == "unseen")


def test_attempts_are_counted(pages: dict[str, Json]) -> None:
    counted = {(GOOD, NAMESPACE): 2, (BAD, NAMESPACE): 1, (TRICKED, NAMESPACE): 1}
    assert numbers(pages["run"], "Is it healthy?", "C") == counted


def test_a_restart_is_marked_where_the_attempt_begins(pages: dict[str, Json], recording: Recording) -> None:
    (mark,) = pages["run"]["dashboard"]["annotations"]["list"]
    chosen = {"namespace": NAMESPACE, "job_name": f"{GOOD}|{BAD}"}
    series = recording.prometheus.over(filled(mark["expr"], chosen), recording.span)
    begins = {(one["metric"]["job_name"], one["metric"]["attempt"]): one["values"][0][0] for one in series}
    assert begins.keys() == {(GOOD, "1"), (GOOD, "2"), (BAD, "1")}
    ended = max(record["time"] for record in recording.diary(GOOD) if record["attempt"] == 1)
    resumed = min(record["time"] for record in recording.diary(GOOD) if record["attempt"] == 2)
    assert ended < begins[(GOOD, "2")] < resumed


@by_grafana
def test_a_collapse_shows(pages: dict[str, Json]) -> None:
    good, bad = (
        max(by_iteration(pages["run"], "Trained rewards by iteration", f"{job} paddle").items())[1]
        for job in (GOOD, BAD)
    )
    assert bad < 0.1 < good
    assert numbers(pages["run"], "Is it learning?")[(BAD, NAMESPACE, "paddle")] == pytest.approx(bad)


def test_a_reward_that_is_tricked_shows_in_the_first_row(pages: dict[str, Json]) -> None:
    """What is trained is above its mean; what is held out is below it, and not where a run learns."""
    trained, held_out = (numbers(pages["run"], f"Is it {question}?", "B") for question in ("learning", "honest"))
    assert trained[(TRICKED, NAMESPACE, "small")] > 0
    assert max(held_out[(TRICKED, NAMESPACE, reader)] for reader in ("paddle", "dddd")) < 0
    assert held_out[(GOOD, NAMESPACE, "dddd")] > 0


def test_gpus_of_other_pods_are_not_shown(pages: dict[str, Json]) -> None:
    found = {(one["metric"]["job_name"], one["metric"]["gpu"]) for one in series_of(pages["performance"], "Power")}
    assert found == {(job, str(gpu)) for job in (GOOD, BAD, TRICKED) for gpu in range(GPUS)}


FIRED = "max by (alertname, reward) (max_over_time(ALERTS{{alertstate='firing',job_name!='',alertname=~'{}'}}[1d]))"


@NEEDS_PROMTOOL
@pytest.mark.parametrize(
    ("job", "roles", "alert", "fired"),
    [
        (GOOD, ROLES, ".*", ()),
        (BAD, ROLES, "G2RPORewardCollapse", ("exact", "paddle")),
        (TRICKED, FLAT_ROLES, "G2RPORewardHackingSuspected", ("dddd", "paddle")),
    ],
)
def test_alerts_are_silent_on_the_run_that_learns_and_fire_on_those_that_do_not(
    job: str, roles: dict[str, Role], alert: str, fired: tuple[str, ...], recording: Recording, tmp_path: Path
) -> None:
    """Had every iteration taken minutes: that is how far back alerts look."""
    samples = [{"labels": f'{{alertname="{alert}",reward="{reward}"}}', "value": 1} for reward in fired]
    lived = replayed(job, recording.diary(job), roles)
    end = max(len(values.split()) for values in lived.values())
    expected = {"expr": FIRED.format(alert), "eval_time": f"{end}m", "exp_samples": samples}
    rules_hold(tmp_path, lived, [expected])
