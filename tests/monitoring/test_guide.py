"""What the guide to monitoring tells people to write is what Prometheus takes, and what the chart does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.generate import DASHBOARDS
from testmonitoring.exposed import exposed
from testmonitoring.promtool import NEEDS_PROMTOOL, promtool
from testmonitoring.scraping import CHART, CHECKOUT, relabelings

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
