"""Options that several commands have, as dataclasses, and how these become options of a command.

Who calls this: the modules of commands. What an option does is the command's business.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Annotated, Any, get_type_hints

import typer

from g2rpo_operator.plugin.ages import seconds_of

Command = Callable[..., None]


class Output(StrEnum):
    """Ways to print an object."""

    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class ListOutput(StrEnum):
    """Ways to print a list."""

    JSON = "json"
    YAML = "yaml"
    WIDE = "wide"
    NAME = "name"


Printed = Annotated[Output | None, typer.Option("--output", "-o", help="Print the object instead.")]


def time(text: str) -> Any:
    """An option that takes a time as kubectl does; `ages.seconds_of` reads what it gives."""
    return typer.Option(help=text, callback=_checked, metavar="TIME")


def _checked(text: str) -> str:
    try:
        seconds_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return text


@dataclass(frozen=True)
class Where:
    """Which cluster, as whom, and which namespace."""

    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", metavar="NAME", help="Namespace; that of the context when left out."),
    ] = None
    context: Annotated[str | None, typer.Option(metavar="NAME", help="Context of the kubeconfig to use.")] = None
    kubeconfig: Annotated[str | None, typer.Option(metavar="FILE", help="Kubeconfig; $KUBECONFIG when left out.")] = (
        None
    )


@dataclass(frozen=True)
class Wait:
    """Whether to wait for what was asked."""

    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is so.")] = False
    timeout: Annotated[str, time("How long to wait at most, as 30s or 2h; 0s is for ever.")] = "0s"

    @property
    def seconds(self) -> float:
        """The longest wait; 0 is for ever."""
        return seconds_of(self.timeout)


def flat(command: Command) -> Command:
    """A command in which each parameter that is a dataclass of options stands as those options.

    typer reads options from the parameters of a function; the command itself gets the dataclasses.
    """
    own = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, Any] = {
        name: parameter.annotation for name, parameter in own.items() if is_dataclass(parameter.annotation)
    }

    @functools.wraps(command)
    def run(**given: Any) -> None:
        held = {
            name: group(**{part.name: given.pop(part.name) for part in fields(group)}) for name, group in groups.items()
        }
        command(**given, **held)

    by_name = {name: [_parameter(group, part) for part in fields(group)] for name, group in groups.items()}
    shown = [of for name, parameter in own.items() for of in by_name.get(name, [parameter])]
    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in shown]
    run.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
    return run


def _parameter(group: Any, part: Field[Any]) -> inspect.Parameter:
    hints = get_type_hints(group, include_extras=True)
    default = inspect.Parameter.empty if part.default is MISSING else part.default
    return inspect.Parameter(part.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[part.name])
