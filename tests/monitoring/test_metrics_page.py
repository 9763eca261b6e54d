"""The page of metrics is true of a trainer and of an operator that live, and promtool finds nothing wrong with them."""

from __future__ import annotations

import math
import re
import time
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from live.operators import PORT, Stage, install
from live.recorder import Recorder
from live.world import World
from testcluster.cluster import Cluster
from testcluster.locks import CHECKOUT
from testcluster.process import wait_until
from testmonitoring.fleet import trained
from testmonitoring.promtool import NEEDS_PROMTOOL, promtool
from testmonitoring.runs import PATIENCE_SECONDS, iteration, started, written
from testmonitoring.scraping import Pod, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
PAGE = CHECKOUT / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(g2rpo_\w+)` \| (\w+) \| (.*?) \| (.*?) \| (.*) \|$", re.MULTILINE)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
MANY = 6
"""Iterations after which labels would have grown."""
ONLY_ON_A_GPU = {"g2rpo_trainer_mfu_ratio"}
TEAM = "metrics"
LIMIT_BYTES = 64 * 1024


@dataclass(frozen=True)
class Told:
    """What the page says of a metric."""

    kind: str
    labels: frozenset[str]
    unit: str
    meaning: str


def told(section: str) -> dict[str, Told]:
    """The page's table about trainers or operators."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return {
        name: Told(kind, frozenset(re.findall(r"`(\w+)`", labels)), unit, meaning.replace("\\|", "|"))
        for name, kind, labels, unit, meaning in ROW.findall(text)
    }


def fetched(url: str, accept: str = "*/*") -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=30) as answer:
        return str(answer.read().decode())


@dataclass(frozen=True)
class Exposition:
    """A page of metrics, as a Prometheus and as an older reader get it."""

    openmetrics: str
    plain: str

    @classmethod
    def of(cls, url: str) -> Exposition:
        return cls(fetched(url, OPENMETRICS), fetched(url))

    def families(self) -> dict[str, Metric]:
        """By the name that a query asks for."""
        endings = {"counter": "_total", "info": "_info"}
        found = text_string_to_metric_families(self.openmetrics)
        return {family.name + endings.get(family.type, ""): family for family in found}

    def label_sets(self) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        """Every series."""
        return {
            (one.name, frozenset(one.labels.items())) for family in self.families().values() for one in family.samples
        }


@pytest.fixture(scope="module")
def scrapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Exposition, Exposition]:
    """Of a run on two ranks: after its first iteration, and after many."""
    folder = tmp_path_factory.mktemp("run")
    rewards = [
        {"name": "small", "type": "JPEG"},
        {"name": "light", "type": "JPEG", "weight": 0.5},
        {"name": "dddd", "type": "DdddOCR", "role": "HeldOut"},
    ]
    often = {"everyIterations": 2}
    evaluation = {**often, "maxPrompts": 2, "promptsPath": "builtin:numbers-heldout"}
    job = written(folder, "page", 2, iterations=100, rewards=rewards, checkpoint=often, evaluation=evaluation)
    pod = Pod(f"127.0.0.1:{free_port()}", "page", 1)
    where = f"http://{pod.address}/metrics"
    with started(job, pod, folder):
        wait_until(lambda: iteration(pod) >= 1, "the first iteration", PATIENCE_SECONDS)
        first = Exposition.of(where)
        wait_until(lambda: iteration(pod) >= MANY, "many iterations", PATIENCE_SECONDS)
        return first, Exposition.of(where)


@pytest.fixture(scope="module")
def operator(cluster: Cluster) -> Iterator[Exposition]:
    """Of an operator whose job runs and tells of its iterations."""
    install(cluster)
    recorder = Recorder(cluster.api)
    recorder.start()
    stage = Stage(cluster, recorder)
    cluster.add_namespace(TEAM)
    node, *_ = cluster.nodes(1, gpus=0, prefix=TEAM)
    try:
        operator = stage.operator(TEAM)
        operator.start()
        wait_until(operator.leads, "the operator leads")
        world = World(stage, operator, TEAM, "portrait")
        world.create()
        trained(world, attempt=1)
        yield Exposition.of(f"http://{operator.address}:{PORT}/metrics")
    finally:
        stage.close()
        cluster.remove_namespace(TEAM)
        cluster.remove_node(node)


def agrees(found: dict[str, Metric], page: dict[str, Told], never_seen: set[str]) -> None:
    """The page and what lives name the same metrics, of the same types, meanings and labels."""
    assert found.keys() == page.keys()
    types = {name: (family.type, family.documentation) for name, family in found.items()}
    assert types == {name: (row.kind, row.meaning) for name, row in page.items()}
    assert {name for name, family in found.items() if not family.samples} <= never_seen
    for name, family in found.items():
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == page[name].labels, name


def values(family: Metric) -> Iterable[float]:
    """Of its series, but for what counts observations."""
    uncounted = (one for one in family.samples if not one.name.endswith(("_bucket", "_count")))
    return (one.value for one in uncounted if not math.isnan(one.value))


def fits(unit: str, value: float) -> bool:
    """Whether a value can be of this unit: a rank's memory is megabytes, and what is told of runs is of today."""
    now = time.time()
    return {
        "Unix time": now - 86400 < value <= now,
        "seconds": 0 <= value < 10 * PATIENCE_SECONDS,
        "bytes": 2**24 < value < 2**40,
        "0 to 1": 0 <= value <= 1,
        "": True,
    }[unit]


def test_the_page_is_true_of_a_run(scrapes: tuple[Exposition, Exposition]) -> None:
    agrees(scrapes[1].families(), told("Trainer"), ONLY_ON_A_GPU)


def test_the_page_is_true_of_an_operator(operator: Exposition) -> None:
    """But for what went wrong: nothing did."""
    agrees(operator.families(), told("Operator"), {"g2rpo_operator_reconcile_errors_total"})


@pytest.mark.parametrize("who", ["Trainer", "Operator"])
def test_values_are_of_the_units_that_the_page_names(who: str, request: pytest.FixtureRequest) -> None:
    exposition: Any = request.getfixturevalue("scrapes")[1] if who == "Trainer" else request.getfixturevalue("operator")
    page = told(who)
    odd = {
        name: value
        for name, family in exposition.families().items()
        for value in values(family)
        if not fits(page[name].unit, value)
    }
    assert odd == {}


def test_no_label_takes_more_values_with_time(scrapes: tuple[Exposition, Exposition]) -> None:
    first, later = scrapes
    assert later.label_sets() == first.label_sets()


def sample(exposition: Exposition, name: str, **labels: str) -> Sample:
    family = exposition.families()[name]
    (found,) = [one for one in family.samples if one.labels == labels]
    return found


def test_rewards_were_asked_on_all_ranks_and_at_evaluations(scrapes: tuple[Exposition, Exposition]) -> None:
    """The one that is held out, at evaluations only: four of them and two splits, each in one batch on both ranks."""
    name = "g2rpo_trainer_reward_calls_total"
    done = int(sample(scrapes[1], "g2rpo_trainer_iteration").value)
    assert sample(scrapes[1], name, reward="dddd", result="ok").value == 2 * 2 * (1 + done // 2)
    for result in ("unscored", "invalid", "failed"):
        assert sample(scrapes[1], name, reward="small", result=result).value == 0
    assert (
        sample(scrapes[1], name, reward="small", result="ok").value
        > sample(scrapes[0], name, reward="small", result="ok").value
        > 0
    )


def test_a_scrape_is_small(scrapes: tuple[Exposition, Exposition]) -> None:
    assert len(scrapes[1].openmetrics.encode()) < LIMIT_BYTES
    assert len(scrapes[1].plain.encode()) < LIMIT_BYTES


@NEEDS_PROMTOOL
@pytest.mark.parametrize("who", ["Trainer", "Operator"])
def test_promtool_finds_nothing_wrong(who: str, request: pytest.FixtureRequest) -> None:
    exposition: Any = request.getfixturevalue("scrapes")[1] if who == "Trainer" else request.getfixturevalue("operator")
    promtool("check", "metrics", said=exposition.plain)
