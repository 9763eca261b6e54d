"""`curve`: the reward over the iterations, drawn in the terminal or as the files that the trainer wrote.

Who calls this: the command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from rich.text import Text

from g2rpo_api import contract
from g2rpo_operator.plugin import curves, screen
from g2rpo_operator.plugin.client import Client, connect
from g2rpo_operator.plugin.failures import PluginError
from g2rpo_operator.plugin.jobs import Seen, fetch
from g2rpo_operator.plugin.names import Name
from g2rpo_operator.plugin.options import Where
from g2rpo_operator.plugin.plot import Point
from g2rpo_operator.plugin.plot import curve as plot
from g2rpo_operator.plugin.words import HEADER
from g2rpo_operator.render import curve_name
from g2rpo_operator.resources import CONFIG_MAPS

HEIGHT, WIDEST = 14, 100


@dataclass(frozen=True)
class Form:
    """What is printed in place of a drawing."""

    csv: Annotated[bool, typer.Option("--csv", help="Print curve.csv: every number of every iteration.")] = False
    svg: Annotated[bool, typer.Option("--svg", help="Print curve.svg, the trainer's own drawing.")] = False


def curve(
    *,
    name: Name,
    form: Form,
    reward: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Draw this reward; the trained ones by weight when left out.", show_default=False
        ),
    ] = None,
    where: Where,
) -> None:
    """Draw the reward over the iterations.

    It comes from the ConfigMap in which the operator keeps what the trainer wrote after its last evaluation; what is
    newer comes from the status, which has the shape of the curve.

    \b
    Examples:
      kubectl g2rpo curve portrait
      # One of the rewards, held-out ones by their evaluations
      kubectl g2rpo curve portrait --reward dddd-ocr
      # For other programs
      kubectl g2rpo curve portrait --csv > curve.csv
      kubectl g2rpo curve portrait --svg > curve.svg
    """
    if form.csv and form.svg:
        raise PluginError("--csv and --svg exclude each other")
    client = connect(where)
    job = fetch(client, name)
    files = _files(client, job)
    if form.svg:
        screen.write(_svg(job, files).encode())
    elif form.csv:
        screen.write((files.get(contract.RUN_CURVE_CSV) or curves.to_csv(curves.of_status(job.status))).encode())
    else:
        points = _points(job, files, reward)
        title = Text(f"{name}: {reward or curves.TRAINED}", HEADER)
        screen.show([title, *map(Text, plot(points, min(WIDEST, screen.width()), HEIGHT)), _ends(points)])


def _files(client: Client, job: Seen) -> dict[str, str]:
    """curve.csv and curve.svg by name; none before the operator kept them."""
    found = client.find(CONFIG_MAPS.path(job.namespace, curve_name(job.name)))
    owners = [owner["uid"] for owner in found["metadata"].get("ownerReferences") or ()] if found else []
    return dict(found.get("data") or {}) if found and job.uid in owners else {}


def _svg(job: Seen, files: dict[str, str]) -> str:
    if contract.RUN_CURVE_SVG not in files:
        raise PluginError(
            f"{job.name} has no {contract.RUN_CURVE_SVG} yet: the trainer writes it after its first evaluation"
        )
    return files[contract.RUN_CURVE_SVG]


def _points(job: Seen, files: dict[str, str], reward: str | None) -> list[Point]:
    """What is drawn.

    Raises:
        PluginError: there is nothing yet.
    """
    text = files.get(contract.RUN_CURVE_CSV)
    if text is None and reward is not None:
        raise PluginError(f"single rewards of {job.name} are not kept yet; without --reward there is the trained one")
    rows = curves.rows_of(text or "")
    told = [] if reward else curves.of_status(job.status)
    points = curves.joined(curves.of_reward(rows, reward) if reward else curves.trained(rows, job.spec), told)
    if not points:
        raise PluginError(f"{job.name} has finished no iteration yet; it is {job.status.phase}")
    return points


def _ends(points: list[Point]) -> Text:
    """The first and last value, and the highest: of one iteration, where the status has means of several."""
    first, last, highest = points[0], points[-1], max(points, key=lambda point: point[1])
    ends = f"iteration {first[0]:g}: {first[1]:.4g}   {last[0]:g}: {last[1]:.4g}"
    return Text(f"{ends}   highest {highest[1]:.4g} at {highest[0]:g}")
