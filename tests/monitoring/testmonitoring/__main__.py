"""`python -m testmonitoring [FOLDER]`: draws the dashboards' pictures from jobs that live while it runs.

Who calls this: `make pictures`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from monitoring.ask import Prometheus, Span
from monitoring.pictures import only, page, picture
from monitoring.queries import TRAINER
from monitoring.run import QUESTIONS
from testcluster.cluster import Cluster
from testmonitoring import fleet, runs


def pictures_of_runs(prometheus: Prometheus, span: Span, output: Path) -> None:
    """Of one that learns, of one beside it that collapses, of one whose reward is tricked."""

    def shown(name: str, *jobs: str) -> dict[str, Any]:
        lived = prometheus.over(f"{TRAINER}iteration{{job_name=~'{'|'.join(jobs)}'}}", span)
        times = [time for one in lived for time, _ in one["values"]]
        return page(name, prometheus, replace(span, start=min(times), end=max(times)), {"job_name": [*jobs]})

    for name in ("run", "performance", "rewards"):
        picture(shown(name, runs.GOOD), output / f"dashboard-{name}.png")
    compared = only(shown("run", runs.GOOD, runs.BAD), ["Runs by iteration", "Policy"])
    picture(compared, output / "dashboard-compare.png")
    tricked = only(shown("run", runs.TRICKED), [QUESTIONS, "Rewards"])
    picture(tricked, output / "dashboard-tricked.png")


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or an exception."""
    parser = argparse.ArgumentParser(prog="python -m testmonitoring", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/images"), help="for the PNGs")
    output = parser.parse_args(arguments).folder
    with tempfile.TemporaryDirectory() as scratch:
        with runs.recorded(Path(scratch) / "runs") as made:
            pictures_of_runs(made.prometheus, made.span, output)
        with Cluster.started() as cluster, fleet.recorded(cluster, Path(scratch) / "fleet") as (prometheus, span):
            picture(page("fleet", prometheus, span), output / "dashboard-fleet.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
