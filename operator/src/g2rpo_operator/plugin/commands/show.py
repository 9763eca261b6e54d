"""`list` and `status`: all jobs in a table as the API server makes it, one job on a page.

Who calls this: the command line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from g2rpo_operator.plugin import screen
from g2rpo_operator.plugin.client import TABLE, Client, Manifest, connect
from g2rpo_operator.plugin.failures import PluginError, ServerError
from g2rpo_operator.plugin.jobs import EXPIRED, RESOURCE, WATCH_SECONDS, events_of, fetch, pods_of
from g2rpo_operator.plugin.names import Name
from g2rpo_operator.plugin.options import ListOutput, Output, Printed, Where
from g2rpo_operator.plugin.page import Scene, page
from g2rpo_operator.plugin.table import Columns, Widths
from g2rpo_operator.plugin.words import HEADER, styled
from g2rpo_operator.resources import JOBS


@dataclass(frozen=True)
class Choice:
    """Which jobs a list has."""

    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False
    selector: Annotated[
        str,
        typer.Option(
            "--selector",
            "-l",
            help="With these labels, as team=vision,stage!=test.",
            metavar="LABELS",
            show_default=False,
        ),
    ] = ""

    def query(self) -> dict[str, str]:
        """What the API server is asked."""
        return {"labelSelector": self.selector} if self.selector else {}


def list_jobs(
    *,
    choice: Choice,
    output: Annotated[ListOutput | None, typer.Option("--output", "-o", help="Print more, or objects.")] = None,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Without the line of names.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with each change.")] = False,
    where: Where,
) -> None:
    """List jobs with phase, reward and GPU-hours, as kubectl get.

    \b
    Examples:
      kubectl g2rpo list
      # Of all namespaces, with held-out reward, clip ratio, speed, time left and message
      kubectl g2rpo list -A -o wide
      # Those of one team, and every change
      kubectl g2rpo list -l team=vision --watch
    """
    client = connect(where)
    path = JOBS.path(None if choice.all_namespaces else client.namespace)
    if output in (None, ListOutput.WIDE):
        listing = Listing(client, path, choice, wide=output is ListOutput.WIDE, headers=not no_headers)
        screen.show(listing.lines(watch=watch))
        if not listing.widths.columns:
            screen.note("No resources found" + ("" if choice.all_namespaces else f" in {client.namespace} namespace."))
        return
    if watch:
        raise PluginError(f"--watch goes with the table only, not with -o {output}")
    items = client.items(path, **choice.query())
    if output is ListOutput.NAME:
        for item in items:
            screen.say(f"{RESOURCE}/{item['metadata']['name']}")
    else:
        screen.show_object(
            {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}, output
        )


@dataclass
class Listing:
    """The table of jobs, and what happens to it."""

    client: Client
    path: str
    choice: Choice
    wide: bool
    headers: bool
    """Whether the line of names is still to come."""

    def __post_init__(self) -> None:
        """Nothing is known yet."""
        self.widths = Widths()
        self.columns: Columns | None = None
        self.version = ""

    def lines(self, *, watch: bool) -> Iterator[Text]:
        """The table; with `watch`, a line for each change until somebody interrupts."""
        for table in self.client.pages(self.path, TABLE, **self.choice.query()):
            yield from self._rows(table)
            self.version = table["metadata"]["resourceVersion"]
        while watch:
            yield from self._changes()

    def _changes(self) -> Iterator[Text]:
        """Lines of one watch, which the server ends after some time."""
        query = {**self.choice.query(), "resourceVersion": self.version}
        try:
            for _, table in self.client.watch(self.path, WATCH_SECONDS, TABLE, **query):
                yield from self._rows(table)
                self.version = table["rows"][-1]["object"]["metadata"]["resourceVersion"]
        except ServerError as error:
            if error.code != EXPIRED:
                raise
            self.version = self.client.get(self.path, limit="1")["metadata"]["resourceVersion"]

    def _rows(self, table: Manifest) -> Iterator[Text]:
        if self.columns is None:  # only the first table of a watch names them
            self.columns = Columns.of(table, wide=self.wide, with_namespace=self.choice.all_namespaces)
        rows = self.columns.rows(table)
        header = [self.columns.names] if self.headers and rows else []
        self.headers = self.headers and not rows
        self.widths.fit([*header, *rows])
        yield from (Text("".join(self.widths.padded(names)), HEADER) for names in header)
        yield from (styled(row, self.widths) for row in rows)


def status(
    *,
    name: Name,
    output: Printed = None,
    where: Where,
) -> None:
    """Show one job: how it is, and what to do about it.

    The page has phase and reason, progress and rewards, the last failure, pods and events.

    \b
    Examples:
      kubectl g2rpo status portrait
      # The object itself
      kubectl g2rpo status portrait -o yaml
    """
    client = connect(where)
    job = fetch(client, name)
    if output in (Output.JSON, Output.YAML):
        screen.show_object(job.manifest, output)
    elif output is Output.NAME:
        screen.say(job.reference)
    else:
        scene = Scene(job, pods_of(client, job), events_of(client, job), datetime.now(UTC))
        screen.show(page(scene, screen.width()))
