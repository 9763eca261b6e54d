"""`python -m monitoring.generate [--check] [FOLDER]`: writes the chart's dashboards and alerts from their modules.

Who calls this: `make generate`, and `make check-generated`, which writes nothing and fails where a file is not what
the modules say.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring import alerts, fleet, performance, rewards, run

CHART = "charts/g2rpo-operator"
MADE_BY = "# Made by `make generate` from charts/monitoring/alerts.py: change it there.\n"
DASHBOARDS: Mapping[str, Callable[[], Dashboard]] = {
    "run": run.dashboard,
    "performance": performance.dashboard,
    "fleet": fleet.dashboard,
    "rewards": rewards.dashboard,
}


def text_of(dashboard: Dashboard) -> str:
    """The JSON that Grafana imports."""
    return json.dumps(dashboard, cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def files() -> dict[str, str]:
    """Path in the checkout -> its text."""
    dashboards = {f"{CHART}/dashboards/{name}.json": text_of(make()) for name, make in DASHBOARDS.items()}
    rules = yaml.safe_dump(alerts.rules(), sort_keys=False, width=110, allow_unicode=True)
    return {**dashboards, f"{CHART}/rules/alerts.yaml": f"{MADE_BY}{rules}"}


def outdated(root: Path) -> list[str]:
    """Files that are not what the modules say."""
    texts = {root / name: text for name, text in files().items()}
    return [str(path) for path, text in texts.items() if not path.exists() or path.read_text("utf-8") != text]


def write(root: Path) -> list[str]:
    """Write what is not as it should be; the paths of those files."""
    changed = outdated(root)
    for name, text in files().items():
        path = root / name
        if str(path) in changed:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return changed


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 when all is written, or as it should be."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.generate", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is not as it should be")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="the checkout (default: this folder)")
    chosen = parser.parse_args(arguments)
    changed = outdated(chosen.folder) if chosen.check else write(chosen.folder)
    for path in changed:
        print(f"{path} is not what charts/monitoring says: run `make generate`" if chosen.check else f"wrote {path}")
    return 1 if chosen.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
