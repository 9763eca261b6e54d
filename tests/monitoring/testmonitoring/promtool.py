"""promtool, which reads what is written for Prometheus as Prometheus does.

Who calls this: the tests of alerts, guides and metrics.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from testmonitoring.scraping import CHART

RULES = CHART / "rules" / "alerts.yaml"
PROMTOOL = shutil.which("promtool")
NEEDS_PROMTOOL = pytest.mark.skipif(not PROMTOOL, reason="no promtool in PATH; Debian's package prometheus has it")


def promtool(*arguments: str, said: str = "") -> None:
    """It finds nothing wrong with its arguments, or what is said to it."""
    done = subprocess.run([str(PROMTOOL), *arguments], input=said, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def rules_hold(folder: Path, series: Mapping[str, str], expected: Sequence[Mapping[str, Any]]) -> None:
    """The chart's rules make of the series, one value a minute, what promtool's tests of expressions expect."""
    values = [{"series": name, "values": text} for name, text in series.items()]
    test = {"interval": "1m", "input_series": values, "promql_expr_test": expected}
    path = folder / "cases.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}), "utf-8")
    promtool("test", "rules", str(path))
