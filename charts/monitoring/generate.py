"""`python -m monitoring.generate [--check] [FOLDER]`: writes the chart's dashboards and alerts from their modules.

Who calls this: `make generate`, and `make check-generated`, which writes nothing and fails where a file is not what
the modules say.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from g2rpo_api.chart import FOLDER
from g2rpo_api.generate import Files
from g2rpo_api.generate import run as write_or_check
from monitoring import alerts, fleet, performance, rewards, run

MADE_BY = "# Made by `make generate` from charts/monitoring/alerts.py: change it there.\n"
DASHBOARDS: Mapping[str, Callable[[], Dashboard]] = {
    "run": run.dashboard,
    "performance": performance.dashboard,
    "fleet": fleet.dashboard,
    "rewards": rewards.dashboard,
}


def dashboard(name: str) -> str:
    """The JSON that Grafana imports."""
    made = DASHBOARDS[name]()
    return json.dumps(made, cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def rules() -> str:
    """A rule file of Prometheus."""
    return MADE_BY + yaml.safe_dump(alerts.rules(), sort_keys=False, width=110, allow_unicode=True)


FILES: Files = {
    **{f"{FOLDER}/dashboards/{name}.json": partial(dashboard, name) for name in DASHBOARDS},
    f"{FOLDER}/rules/alerts.yaml": rules,
}

if __name__ == "__main__":
    sys.exit(write_or_check(FILES, "python -m monitoring.generate", sys.argv[1:]))
