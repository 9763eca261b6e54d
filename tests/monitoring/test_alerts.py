"""Each alert fires on the series that it is for, and bears the others: promtool evaluates the chart's rules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from monitoring.alerts import ALERTS, RECORDS, RUNBOOKS, Alert
from testmonitoring.alertcases import CASES, Case
from testmonitoring.exposed import exposed
from testmonitoring.promtool import NEEDS_PROMTOOL, RULES, promtool, rules_hold
from testmonitoring.scraping import CHECKOUT

BY_NAME = {alert.name: alert for alert in ALERTS}


def expected(case: Case) -> list[dict[str, Any]]:
    """Exactly these alerts fire."""
    severity = BY_NAME[case.alert].severity
    name = f"G2RPO{case.alert}"
    every = {"__name__": "ALERTS", "alertname": name, "alertstate": "firing", "severity": severity}
    return [
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


@NEEDS_PROMTOOL
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.story}")
def test_an_alert_fires_when_it_should_and_not_else(case: Case, tmp_path: Path) -> None:
    assert () in case.fires.values()
    rules_hold(tmp_path, case.series, expected(case))


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
