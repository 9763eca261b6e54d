"""Each alert fires on the series that it is for, and bears the others: promtool evaluates the chart's rules."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.alerts import ALERTS, RECORDS, RUNBOOKS, Alert
from testmonitoring.alertcases import CASES, Case
from testmonitoring.exposed import exposed
from testmonitoring.scraping import CHART, CHECKOUT

RULES = CHART / "rules" / "alerts.yaml"
PROMTOOL = shutil.which("promtool")
NEEDS_PROMTOOL = pytest.mark.skipif(not PROMTOOL, reason="no promtool in PATH; Debian's package prometheus has it")
BY_NAME = {alert.name: alert for alert in ALERTS}


def promtool(*arguments: str) -> None:
    """It finds nothing wrong."""
    done = subprocess.run([str(PROMTOOL), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def unit_test(case: Case) -> dict[str, Any]:
    """A test of promtool: exactly these alerts fire."""
    severity = BY_NAME[case.alert].severity
    name = f"G2RPO{case.alert}"
    every = {"__name__": "ALERTS", "alertname": name, "alertstate": "firing", "severity": severity}
    expected = [
        {
            "expr": f'ALERTS{{alertname="{name}",alertstate="firing"}}',
            "eval_time": f"{minute}m",
            "exp_samples": [
                {"labels": "{" + ",".join(f'{k}="{v}"' for k, v in (every | labels).items()) + "}", "value": 1}
                for labels in firing
            ],
        }
        for minute, firing in case.fires.items()
    ]
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    return {"name": case.story, "interval": "1m", "input_series": series, "promql_expr_test": expected}


@NEEDS_PROMTOOL
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.story}")
def test_an_alert_fires_when_it_should_and_not_else(case: Case, tmp_path: Path) -> None:
    assert () in case.fires.values()
    path = tmp_path / "cases.yaml"
    content = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [unit_test(case)]}
    path.write_text(yaml.safe_dump(content), "utf-8")
    promtool("test", "rules", str(path))


@NEEDS_PROMTOOL
def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_fires_in_some_case(alert: Alert) -> None:
    assert any(any(case.fires.values()) for case in CASES if case.alert == alert.name)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_a_runbook_is_there(alert: Alert) -> None:
    page, anchor = alert.rule()["annotations"]["runbook_url"].split("#")
    assert page == RUNBOOKS
    headings = re.findall(r"^### (\w+)$", (CHECKOUT / page).read_text("utf-8"), re.MULTILINE)
    assert [heading for heading in headings if heading.lower() == anchor] == [f"G2RPO{alert.name}"]


def test_metrics_exist() -> None:
    """A name that nobody exposes would make an alert that never fires."""
    asked = re.findall(r"g2rpo_[a-z0-9_]+", " ".join([*RECORDS.values(), *(alert.expr for alert in ALERTS)]))
    assert asked
    assert set(asked) <= exposed().keys()
