"""`check` and `submit`: a job is judged here first, with all its mistakes at once, then by the API server.

Who calls this: the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from g2rpo_operator.plugin import screen
from g2rpo_operator.plugin.client import Client, Manifest, connect
from g2rpo_operator.plugin.drafts import Draft, in_place, read, refuse_another, summary
from g2rpo_operator.plugin.failures import PluginError, ServerError
from g2rpo_operator.plugin.jobs import RESOURCE, Seen, seen, until
from g2rpo_operator.plugin.options import Output, Printed, Wait, Where
from g2rpo_operator.resources import JOBS

CONFLICT = 409


class DryRun(StrEnum):
    """How far a submission goes."""

    NONE = "none"
    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True)
class Files:
    """Files with jobs."""

    files: Annotated[
        list[str] | None,
        typer.Argument(help="YAML files with one job each; - is stdin.", metavar="FILE", show_default=False),
    ] = None
    filename: Annotated[
        list[str] | None,
        typer.Option("--filename", "-f", help="The same, as with kubectl.", metavar="FILE", show_default=False),
    ] = None

    def drafts(self) -> list[Draft]:
        """Their jobs; see `drafts.read`."""
        return read([*(self.files or ()), *(self.filename or ())])


@dataclass(frozen=True)
class Sending:
    """How a job is sent."""

    dry_run: Annotated[DryRun, typer.Option(help="Check only, here (client) or by the API server (server).")] = (
        DryRun.NONE
    )
    force_conflicts: Annotated[
        bool, typer.Option("--force-conflicts", help="Take over fields that others have changed.")
    ] = False

    @property
    def query(self) -> dict[str, str]:
        """What the API server is told."""
        forced = {"force": "true"} if self.force_conflicts else {}
        return forced | ({"dryRun": "All"} if self.dry_run is DryRun.SERVER else {})

    @property
    def suffix(self) -> str:
        """What kubectl adds to its messages."""
        return {"none": "", "client": " (dry run)", "server": " (server dry run)"}[self.dry_run]


def check(
    *,
    files: Files,
    server: Annotated[bool, typer.Option("--server", help="Ask the API server, too; nothing is created.")] = False,
    where: Where,
) -> None:
    """Say what is wrong with jobs, without a cluster.

    All mistakes of all files are told, each with its key, what was found, what is allowed and what to do.

    \b
    Examples:
      # The same errors as g2rpo-train --check
      kubectl g2rpo check job.yaml
      # What does this cluster say?
      kubectl g2rpo check --server job.yaml
    """
    drafts = files.drafts()
    if server:
        client = connect(where)
        for draft in drafts:
            send(client, draft, Sending(dry_run=DryRun.SERVER))
    for draft in drafts:
        screen.say(summary(draft))


def submit(
    *,
    files: Files,
    sending: Sending,
    wait: Wait,
    output: Printed = None,
    where: Where,
) -> None:
    """Create jobs, or change them to what their files say.

    All files are checked before anything is sent. A job that exists with another training is left alone, since
    training cannot be changed. With --wait the command ends when the jobs do, and fails if one of them failed.

    \b
    Examples:
      kubectl g2rpo submit job.yaml
      # Let the API server check it, and create nothing
      kubectl g2rpo submit --dry-run=server job.yaml
      # From stdin, and wait for the end
      cat job.yaml | kubectl g2rpo submit --wait -f -
    """
    drafts = files.drafts()
    if sending.dry_run is DryRun.CLIENT:
        for draft in drafts:
            _tell(draft.manifest, "created", sending, output)
        return
    client = connect(where)
    jobs = [_submit(client, draft, sending, output) for draft in drafts]
    if wait.wait and sending.dry_run is DryRun.NONE:
        _wait(client, jobs, wait.seconds)


def send(client: Client, draft: Draft, sending: Sending) -> tuple[Manifest, str]:
    """Create or change a job; the object, and kubectl's word for what became of it.

    Raises:
        MistakesError: a job of this name exists with another training or storage.
        ServerError: the API server refuses.
    """
    namespace = _namespace(client, draft)
    path = JOBS.path(namespace, draft.name)
    before = client.find(path)
    body = {**draft.manifest, "metadata": {**draft.manifest["metadata"], "namespace": namespace}}
    if before is not None:
        refuse_another(draft, seen(before))
        body["spec"] = in_place(draft, seen(before))
    try:
        after = client.apply(path, body, **sending.query)
    except ServerError as error:
        if error.code == CONFLICT:
            raise PluginError(f"{error.message}\nTo take these fields over, add --force-conflicts.") from error
        raise
    return after, _became(before, after)


def _namespace(client: Client, draft: Draft) -> str:
    named = draft.job.metadata.namespace
    if named and client.namespace_asked and named != client.namespace:
        raise PluginError(
            f"{draft.source}: metadata.namespace is {named}, and --namespace is {client.namespace}; drop one of them"
        )
    return named or client.namespace


def _became(before: Manifest | None, after: Manifest) -> str:
    if before is None:
        return "created"
    same = before["metadata"]["generation"] == after["metadata"]["generation"]
    return "unchanged" if same else "configured"


def _submit(client: Client, draft: Draft, sending: Sending, output: Output | None) -> Seen:
    manifest, became = send(client, draft, sending)
    job = seen(manifest)
    _tell(manifest, became, sending, output)
    if job.status.finished:
        screen.note(f"Warning: {job.name} is over ({job.status.phase}) and does not run again under this name")
    return job


def _tell(manifest: Manifest, became: str, sending: Sending, output: Output | None) -> None:
    reference = f"{RESOURCE}/{manifest['metadata']['name']}"
    if output in (Output.JSON, Output.YAML):
        screen.show_object(manifest, output)
    else:
        screen.say(reference if output is Output.NAME else f"{reference} {became}{sending.suffix}")


def _wait(client: Client, jobs: Sequence[Seen], seconds: float) -> None:
    """Until all of them are over."""
    failed = []
    for job in jobs:
        ended = until(client, job, lambda now: now.status.finished, seconds)
        screen.say(f"{job.reference} {ended.status.phase.lower()}")
        if ended.status.phase != "Succeeded":
            failed.append(job.name)
    if failed:
        raise PluginError(f"not succeeded: {', '.join(failed)}; see kubectl g2rpo status {failed[0]}")
