"""What the guide to monitoring tells people to write is what Prometheus takes, and what the chart does."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.generate import DASHBOARDS
from testcluster.process import wait_until
from testmonitoring.exposed import exposed
from testmonitoring.promtool import NEEDS_PROMTOOL, RULES, promtool
from testmonitoring.scraping import CHART, CHECKOUT, MISSING, PROGRAM, relabelings, told

GUIDE = CHECKOUT / "docs" / "monitor.md"


def blocks() -> list[str]:
    """The guide's configurations of Prometheus."""
    return re.findall(r"^```yaml\n(scrape_configs:.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def configurations() -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in blocks()]


@NEEDS_PROMTOOL
@pytest.mark.parametrize("number", range(2))
def test_prometheus_takes_the_guides_configuration(number: int, tmp_path: Path) -> None:
    """But for finding pods: Debian builds it without."""
    shutil.copy(RULES, tmp_path / "alerts.yaml")
    text = blocks()[number].replace("kubernetes_sd_configs: [{role: pod}]", "static_configs: []")
    (tmp_path / "prometheus.yml").write_text(text, "utf-8")
    promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_pods_get_the_labels_that_the_charts_monitor_gives_them() -> None:
    pods, operator = configurations()[0]["scrape_configs"]
    chart = relabelings()
    assert chart
    assert [each for each in pods["relabel_configs"] if each in chart] == chart
    named = {each["target_label"] for each in pods["relabel_configs"] if "target_label" in each}
    assert named == {"namespace", "pod", "job_name", "attempt"}
    assert operator["honor_labels"] is True
    assert "honorLabels: true" in (CHART / "templates" / "servicemonitor.yaml").read_text("utf-8")


def discovered(address: str, name: str, phase: str = "Running", port: str = "metrics", **labels: str) -> dict[str, Any]:
    """A pod as Kubernetes' discovery tells of it."""
    told = {"namespace": "a", "pod_name": name, "pod_phase": phase, "pod_container_port_name": port}
    told |= {f"pod_label_{label}": value for label, value in labels.items()}
    told |= {f"pod_labelpresent_{label}": "true" for label in labels}
    return {"targets": [address], "labels": {f"__meta_kubernetes_{key}": value for key, value in told.items()}}


@pytest.mark.skipif(not PROGRAM, reason=MISSING)
def test_by_the_guides_configuration_prometheus_finds_just_the_pods_that_run(tmp_path: Path) -> None:
    """One that is over would not answer, and a job that was restarted has one."""
    runs, operator = "127.0.0.1:1", "127.0.0.1:2"
    pods = [
        discovered("127.0.0.1:3", "j-a1-0", phase="Failed", g2rpo_dev_job="j", g2rpo_dev_attempt="1"),
        discovered(runs, "j-a2-0", g2rpo_dev_job="j", g2rpo_dev_attempt="2"),
        discovered("127.0.0.1:4", "j-a2-0", port="ssh", g2rpo_dev_job="j", g2rpo_dev_attempt="2"),
        discovered("127.0.0.1:5", "stranger"),
        discovered(operator, "operator", app_kubernetes_io_name="g2rpo-operator"),
    ]
    shutil.copy(RULES, tmp_path / "alerts.yaml")
    config = configurations()[0]
    for scrape in config["scrape_configs"]:
        del scrape["kubernetes_sd_configs"]
        scrape["static_configs"] = pods
    with told(config, tmp_path) as prometheus:
        wait_until(lambda: len(prometheus.get("targets")["activeTargets"]) >= 2, "targets are found", 60)
        found = {
            target["labels"]["instance"]: target["labels"] for target in prometheus.get("targets")["activeTargets"]
        }
    own = {"namespace": "a", "pod": "j-a2-0", "job_name": "j", "attempt": "2"}
    assert found == {
        runs: own | {"instance": runs, "job": "g2rpo-trainers"},
        operator: {"instance": operator, "job": "g2rpo-operator"},
    }


def test_the_rules_that_a_run_without_a_cluster_is_told_to_leave_out_are_those_of_the_operator() -> None:
    groups = {group["name"]: group["rules"] for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]}
    assert "g2rpo_operator_" in str(groups.pop("g2rpo-operating"))
    assert "absent(" not in str(groups)


def test_a_run_without_a_cluster_gets_the_same_labels() -> None:
    (trainers,) = configurations()[1]["scrape_configs"]
    (target,) = trainers["static_configs"]
    assert target["labels"].keys() == {"namespace", "job_name", "attempt"}


def test_every_dashboard_is_explained_and_shown() -> None:
    text = GUIDE.read_text("utf-8")
    for name in DASHBOARDS:
        assert f"\n## {name.title()}\n" in text
        assert f"images/dashboard-{name}.png" in text
        assert (GUIDE.parent / "images" / f"dashboard-{name}.png").stat().st_size < 250_000


@pytest.mark.parametrize("guide", sorted((CHECKOUT / "docs").glob("*.md")), ids=lambda path: path.stem)
def test_metrics_that_a_guide_names_exist(guide: Path) -> None:
    named = re.findall(r"\bg2rpo_(?:trainer|operator|job)_\w*[a-z0-9]\b", guide.read_text("utf-8"))
    known = exposed().keys()
    assert set(named) <= {*known, *(name.removesuffix("_bucket") for name in known)}
