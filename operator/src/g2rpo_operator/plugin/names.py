"""Names of jobs on the command line, which a shell completes by asking the cluster.

Who calls this: the commands.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

import typer

from g2rpo_operator.plugin.client import NAMES, connect
from g2rpo_operator.plugin.failures import PluginError
from g2rpo_operator.plugin.options import Where
from g2rpo_operator.resources import JOBS


def known(context: typer.Context, incomplete: str) -> list[str]:
    """Jobs whose names begin so; none when the cluster cannot be asked."""
    where = Where(**{part.name: context.params.get(part.name) for part in fields(Where)})
    try:
        client = connect(where)
        pages = list(client.pages(JOBS.path(client.namespace), NAMES))
    except PluginError:
        return []
    names = [str(item["metadata"]["name"]) for page in pages for item in page["items"] or ()]
    return [name for name in names if name.startswith(incomplete)]


Name = Annotated[str, typer.Argument(help="Name of the job.", metavar="NAME", show_default=False, autocompletion=known)]
Names = Annotated[
    list[str], typer.Argument(help="Names of jobs.", metavar="NAME", show_default=False, autocompletion=known)
]
