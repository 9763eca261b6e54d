"""`python -m testmonitoring [FOLDER]`: draws the dashboards' pictures from jobs that live while it runs.

Who calls this: `make pictures`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from monitoring.pictures import only, page, picture
from testcluster.cluster import Cluster
from testmonitoring import fleet, runs


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or an exception."""
    parser = argparse.ArgumentParser(prog="python -m testmonitoring", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/images"), help="for the PNGs")
    output = parser.parse_args(arguments).folder
    with tempfile.TemporaryDirectory() as scratch:
        with runs.recorded(Path(scratch) / "runs") as made:
            one = {"job_name": [runs.GOOD]}
            for name in ("run", "performance", "rewards"):
                picture(page(name, made.prometheus, made.span, one), output / f"dashboard-{name}.png")
            both = page("run", made.prometheus, made.span)
            picture(only(both, ["Runs by iteration", "Policy"]), output / "dashboard-compare.png")
        with Cluster.started() as cluster, fleet.recorded(cluster, Path(scratch) / "fleet") as (prometheus, span):
            picture(page("fleet", prometheus, span), output / "dashboard-fleet.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
