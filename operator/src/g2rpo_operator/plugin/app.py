"""The command line: which commands there are, and what all of them have in common.

Who calls this: `__main__`.
"""

from __future__ import annotations

import typer

from g2rpo_operator.plugin.commands import curve, logs, report, show, submit, switch
from g2rpo_operator.plugin.options import Command, flat

NAME = "kubectl g2rpo"
COMMANDS: dict[str, Command] = {
    "check": submit.check,
    "submit": submit.submit,
    "list": show.list_jobs,
    "status": show.status,
    "logs": logs.logs,
    "curve": curve.curve,
    "suspend": switch.suspend,
    "resume": switch.resume,
    "stop": switch.stop,
    "report": report.report,
}
HELP = """Train image models with rewards: jobs of the kind G2RPOJob.

The cluster is the one that kubectl talks to: $KUBECONFIG, --kubeconfig, --context, --namespace. Exit code 1 means that
something could not be done; stderr says what.
"""


def command_line(*, completing: bool = False) -> typer.Typer:
    """All commands; `completing` makes a line that answers shells."""
    app = typer.Typer(
        name=NAME, help=HELP, add_completion=completing, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    for name, command in COMMANDS.items():
        app.command(name)(flat(command))
    return app
