"""What is printed, and where: objects as JSON or YAML, tables and pages with colours on a terminal, notes to stderr.

Who calls this: the commands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from g2rpo_api.yamltext import text_of
from g2rpo_operator.plugin.options import ListOutput, Output

UNBOUNDED = 120
"""Columns of what is no terminal."""


def width() -> int:
    """Columns that a page may take."""
    console = Console()
    return console.width if console.is_terminal else UNBOUNDED


def show(parts: Iterable[Text]) -> None:
    """Print lines; one that is too long is left to the terminal."""
    console = Console(highlight=False, emoji=False, markup=False)
    for part in parts:
        console.print(part, soft_wrap=True)


def say(text: str) -> None:
    """Print a line as it is."""
    typer.echo(text)


def note(text: str) -> None:
    """Tell something that is no output."""
    typer.echo(text, err=True)


def write(data: bytes) -> None:
    """Print what somebody else wrote."""
    typer.echo(data, nl=False)


def show_object(manifest: Mapping[str, Any], output: Output | ListOutput) -> None:
    """Print an object, or a list of them."""
    told = _told(manifest)
    if "items" in told:
        told["items"] = [_told(item) for item in told["items"]]
    say(json.dumps(told, indent=4, ensure_ascii=False) if output.value == "json" else text_of(told).rstrip("\n"))


def _told(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The object without the API server's notes on who wrote which field, as kubectl shows it."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    return {**manifest, "metadata": metadata}
