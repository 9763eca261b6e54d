"""docs/troubleshoot.md has an entry for every word that a status, a process or an alert may say, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from g2rpo_api.contract import ExitCode
from g2rpo_api.reasons import Cause, Reason

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/troubleshoot.md").read_text(encoding="utf-8")
ENTRY = re.compile(r"^### (\w+)\n\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
ENTRIES = dict(ENTRY.findall(GUIDE))
WORDS = sorted({*Reason, *Cause})
ALERTS = ROOT / "charts/g2rpo-operator/rules/alerts.yaml"
CODES = {int(code): entry for code, entry in re.findall(r"^\| (\d+) \| .* \| (.*) \|$", GUIDE, re.MULTILINE)}


def alerts() -> list[str]:
    """Names of all alerts of the chart."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]


@pytest.mark.parametrize("word", WORDS)
def test_a_reason_and_a_cause_have_an_entry(word: str) -> None:
    assert len(ENTRIES[word].split()) >= 5


def test_every_exit_code_leads_to_an_entry() -> None:
    assert set(ExitCode) <= set(CODES)
    for code, entry in CODES.items():
        named = re.findall(r"\[(\w+)\]\(#(\w+)\)", entry)
        assert named, code
        assert all(word in ENTRIES and anchor == word.lower() for word, anchor in named), code


def test_every_alert_has_an_entry() -> None:
    assert {name for name in ENTRIES if name.startswith("G2RPO")} == set(alerts())


def test_nothing_has_an_entry_that_is_never_said() -> None:
    assert not {name for name in ENTRIES if not name.startswith("G2RPO")} - set(WORDS)
