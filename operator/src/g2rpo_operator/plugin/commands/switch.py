"""`suspend`, `resume` and `stop`: one switch of the spec, of several jobs.

Who calls this: the command line. What follows from a switch is the operator's business.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from g2rpo_operator.plugin import screen
from g2rpo_operator.plugin.client import Client, connect
from g2rpo_operator.plugin.failures import PluginError
from g2rpo_operator.plugin.jobs import Seen, fetch, seen, until
from g2rpo_operator.plugin.names import Names
from g2rpo_operator.plugin.options import Wait, Where


@dataclass(frozen=True)
class Switch:
    """A key of the spec, its value, and what that leads to."""

    key: str
    value: bool
    word: str
    """What is printed."""
    reached: Callable[[Seen], bool]
    """Whether it has come to this."""


SUSPEND = Switch("suspend", True, "suspended", lambda job: job.status.phase == "Suspended")
RESUME = Switch("suspend", False, "resumed", lambda job: job.status.phase == "Running")
STOP = Switch("stop", True, "stopping", lambda job: job.status.finished)


def suspend(*, names: Names, wait: Wait, where: Where) -> None:
    """Save a checkpoint and free the GPUs until resumed.

    \b
    Examples:
      kubectl g2rpo suspend portrait
      # Wait until no pod is left
      kubectl g2rpo suspend portrait landscape --wait --timeout 10m
    """
    _switch_all(connect(where), names, SUSPEND, wait)


def resume(*, names: Names, wait: Wait, where: Where) -> None:
    """Go on with suspended jobs from their checkpoints.

    \b
    Examples:
      kubectl g2rpo resume portrait
      # Wait until all ranks run
      kubectl g2rpo resume portrait --wait
    """
    _switch_all(connect(where), names, RESUME, wait)


def stop(
    *,
    names: Names,
    wait: Wait,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    where: Where,
) -> None:
    """End training early, for good, and export the weights.

    The job saves a checkpoint, evaluates, exports and is Succeeded. That cannot be taken back, so on a terminal one is
    asked first. To go on later, suspend it instead.

    \b
    Examples:
      kubectl g2rpo stop portrait
      # From a script, until the weights are exported
      kubectl g2rpo stop portrait --yes --wait
    """
    question = f"End training of {', '.join(names)} for good?"
    if not yes and sys.stdin.isatty() and not typer.confirm(question, err=True):
        raise PluginError("nothing was stopped")
    _switch_all(connect(where), names, STOP, wait)


def _switch_all(client: Client, names: Sequence[str], switch: Switch, wait: Wait) -> None:
    """Each job, whatever becomes of the others; then wait for those that were switched.

    Raises:
        typer.Exit: some could not be.
    """
    switched = []
    for name in names:
        try:
            switched.append(_switch(client, name, switch))
        except PluginError as error:
            screen.note(str(error))
    for job in switched if wait.wait else ():
        done = until(client, job, lambda now: switch.reached(now) or now.status.finished, wait.seconds)
        screen.say(f"{job.reference} {done.status.phase.lower()}")
    if len(switched) < len(names):
        raise typer.Exit(1)


def _switch(client: Client, name: str, switch: Switch) -> Seen:
    job = fetch(client, name)
    if job.status.finished:
        raise PluginError(f"{name} is over ({job.status.phase}); nothing of it can be {switch.word}")
    if bool(job.spec.get(switch.key)) is switch.value:
        screen.say(f"{job.reference} {switch.word} (no change)")
        return job
    patch: dict[str, Any] = {"metadata": {"uid": job.uid}, "spec": {switch.key: switch.value}}
    changed = seen(client.merge(job.path, patch))
    screen.say(f"{changed.reference} {switch.word}")
    if switch is STOP and changed.status.phase in ("Suspended", "Suspending"):
        screen.note(f"{name} is suspended: it ends once it is resumed")
    return changed
