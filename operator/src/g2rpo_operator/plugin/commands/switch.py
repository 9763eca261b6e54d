"""`suspend`, `resume` and `stop`: one switch of the spec, of several jobs.

Who calls this: the command line. What follows from a switch is the operator's business.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from g2rpo_api.volumes import RunsVolume
from g2rpo_operator.plugin import screen
from g2rpo_operator.plugin.client import Client, connect
from g2rpo_operator.plugin.failures import PluginError
from g2rpo_operator.plugin.jobs import Seen, fetch, seen, until
from g2rpo_operator.plugin.names import Names
from g2rpo_operator.plugin.options import Wait, Where

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True)
class Switch:
    """A key of the spec, its value, and what that leads to."""

    key: str
    value: bool
    word: str
    """What is printed."""
    reached: Callable[[Seen], bool]
    """Whether it has come to this."""
    lost: str = ""
    """What goes with the pods of a job that has no volume that lasts; empty where they stay."""


SUSPEND = Switch(
    "suspend", True, "suspended", lambda job: job.status.phase == "Suspended", "resumed, it begins again at iteration 0"
)
RESUME = Switch("suspend", False, "resumed", lambda job: job.status.phase == "Running")
STOP = Switch("stop", True, "stopping", lambda job: job.status.finished, "its report and exported weights go with them")


def suspend(*, names: Names, wait: Wait, yes: Yes = False, where: Where) -> None:
    """Save a checkpoint and free the GPUs until resumed.

    A job whose spec.storage.runs names no volume that lasts loses its training by this, so on a terminal one is asked
    first.

    \b
    Examples:
      kubectl g2rpo suspend portrait
      # Wait until no pod is left
      kubectl g2rpo suspend portrait landscape --wait --timeout 10m
    """
    _switch_all(connect(where), names, SUSPEND, wait, asks=not yes)


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
    yes: Yes = False,
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
    if not yes:
        _ask(f"End training of {', '.join(names)} for good?")
    _switch_all(connect(where), names, STOP, wait)


def lasting(job: Seen) -> bool:
    """Whether what a job makes outlives its pods."""
    return RunsVolume.model_validate(job.spec.get("storage", {}).get("runs", {})).lasting


def _ask(question: str) -> None:
    """Ask, where somebody can answer.

    Raises:
        PluginError: the answer is no.
    """
    if sys.stdin.isatty() and not typer.confirm(question, err=True):
        raise PluginError("nothing was changed")


def _switch_all(client: Client, names: Sequence[str], switch: Switch, wait: Wait, asks: bool = False) -> None:
    """Each job, whatever becomes of the others; then wait for those that were switched.

    Args:
        client: for the API.
        names: of jobs.
        switch: what to turn.
        wait: whether, and how long, to wait for what follows.
        asks: whether to ask before a job loses what it has made.

    Raises:
        typer.Exit: some could not be.
    """
    switched = []
    for name in names:
        try:
            switched.append(_switch(client, name, switch, asks))
        except PluginError as error:
            screen.note(str(error))
    for job in switched if wait.wait else ():
        done = until(client, job, lambda now: switch.reached(now) or now.status.finished, wait.seconds)
        screen.say(f"{job.reference} {done.status.phase.lower()}")
    if len(switched) < len(names):
        raise typer.Exit(1)


def _switch(client: Client, name: str, switch: Switch, asks: bool) -> Seen:
    job = fetch(client, name)
    if job.status.finished:
        raise PluginError(f"{name} is over ({job.status.phase}); nothing of it can be {switch.word}")
    if bool(job.spec.get(switch.key)) is switch.value:
        screen.say(f"{job.reference} {switch.word} (no change)")
        return job
    lost = switch.lost if job.status.attempt and not lasting(job) else ""
    if lost and asks:
        _ask(f"No volume of {name} lasts longer than its pods: {lost}. Have it {switch.word} all the same?")
    patch: dict[str, Any] = {"metadata": {"uid": job.uid}, "spec": {switch.key: switch.value}}
    changed = seen(client.merge(job.path, patch))
    screen.say(f"{changed.reference} {switch.word}")
    if lost:
        screen.note(f"spec.storage.runs of {name} names no volume that lasts longer than its pods: {lost}")
    if switch is STOP and changed.status.phase in ("Suspended", "Suspending"):
        screen.note(f"{name} is suspended: it ends once it is resumed")
    return changed
