"""Dataclasses of options become options of a command, and what was typed comes back as the dataclass."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from g2rpo_operator.plugin.app import COMMANDS
from g2rpo_operator.plugin.options import Command, Wait, Where, flat


@dataclass(frozen=True)
class Colour:
    """An example."""

    red: Annotated[int, typer.Option("--red", "-r")] = 1
    name: Annotated[str | None, typer.Option()] = None


def command_line(command: Command) -> typer.Typer:
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command()(flat(command))
    return app


def test_a_group_comes_back_whole() -> None:
    got = []

    def paint(*, what: Annotated[str, typer.Argument()], colour: Colour, twice: bool = False) -> None:
        got.append((what, colour, twice))

    done = CliRunner().invoke(command_line(paint), ["wall", "-r", "7", "--name", "x", "--twice"])
    assert done.exit_code == 0, done.output
    assert got == [("wall", Colour(7, "x"), True)]


def test_defaults_are_those_of_the_dataclass() -> None:
    got = []

    def paint(*, colour: Colour, where: Where, wait: Wait) -> None:
        got.append((colour, where, wait))

    assert CliRunner().invoke(command_line(paint), []).exit_code == 0
    assert got == [(Colour(), Where(), Wait())]


def test_help_is_the_docstring_of_the_command() -> None:
    def paint(*, colour: Colour) -> None:
        """Give it a colour."""

    help_text = CliRunner().invoke(command_line(paint), ["--help"]).output
    assert "Give it a colour." in help_text
    assert "--red" in help_text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_finds_its_cluster_as_kubectl_does(name: str) -> None:
    shown = inspect.signature(flat(COMMANDS[name])).parameters
    assert {"namespace", "context", "kubeconfig"} <= set(shown)


@pytest.mark.parametrize(("text", "seconds"), [("0s", 0), ("90s", 90), ("1h30m", 5400)])
def test_a_wait_is_given_as_kubectl_takes_it(text: str, seconds: float) -> None:
    got = []

    def hold(*, wait: Wait) -> None:
        got.append(wait.seconds)

    assert CliRunner().invoke(command_line(hold), ["--timeout", text]).exit_code == 0
    assert got == [seconds]


def test_a_wrong_time_is_refused_before_the_command_runs() -> None:
    def hold(*, wait: Wait) -> None:
        raise AssertionError("it must not run")

    done = CliRunner().invoke(command_line(hold), ["--timeout", "soon"])
    assert done.exit_code == 2
    assert "'soon' is no time; write it as 30s, 5m or 1h30m" in done.output
