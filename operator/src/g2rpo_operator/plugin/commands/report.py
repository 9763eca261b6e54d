"""`report`: report.html of a run, from the trainer while it runs, else from the volume of run folders.

Who calls this: the command line. The pod that reads the volume is created with the person's own rights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Annotated

import typer

from g2rpo_api import contract
from g2rpo_operator.observe import pod_of
from g2rpo_operator.plugin import reportpod, screen
from g2rpo_operator.plugin.ages import seconds_of
from g2rpo_operator.plugin.client import Client, connect
from g2rpo_operator.plugin.failures import PluginError, ServerError
from g2rpo_operator.plugin.jobs import Seen, fetch, pods_of
from g2rpo_operator.plugin.lists import complaint, state
from g2rpo_operator.plugin.names import Name
from g2rpo_operator.plugin.options import Where, time
from g2rpo_operator.resources import PODS
from g2rpo_operator.world import Pod

POLL_SECONDS = 0.5
STDOUT = "-"


def report(
    *,
    name: Name,
    to: Annotated[
        str | None,
        typer.Option(
            "--output-file",
            "-O",
            metavar="FILE",
            help="File to write, or - for stdout; NAME-report.html when left out.",
        ),
    ] = None,
    timeout: Annotated[str, time("How long that pod may take; 0s is for ever.")] = "5m",
    where: Where,
) -> None:
    """Fetch report.html of a run.

    While the job runs, its trainer is asked, through the API server. Otherwise a pod that mounts storage.runs read-only
    prints the file and is deleted; that needs the right to create pods, and to read their logs.

    \b
    Examples:
      kubectl g2rpo report portrait
      kubectl g2rpo report portrait -O - > today.html
    """
    client = connect(where)
    page = find(client, fetch(client, name), seconds_of(timeout))
    if to == STDOUT:
        screen.write(page)
        return
    path = Path(to or f"{name}-{contract.RUN_REPORT}")
    try:
        path.write_bytes(page)
    except OSError as error:
        raise PluginError(f"{path}: {error.strerror}") from error
    screen.say(f"{path} written, {len(page)} bytes")


def find(client: Client, job: Seen, patience: float) -> bytes:
    """The report, from wherever it can be had.

    Raises:
        PluginError: there is none, or no way to it.
    """
    pods = pods_of(client, job)
    first = next((pod for pod in pods if pod.index == 0 and pod.attempt == job.status.attempt), None)
    refused = "it does not run"
    if first is not None and first.running:
        try:
            return client.read(
                f"{PODS.path(job.namespace, first.name)}:{contract.DEFAULT_PORT}/proxy{contract.PATH_REPORT}"
            )
        except ServerError as error:
            refused = f"its trainer did not give it ({error.message})"
    parsed = job.parsed()
    if not parsed.spec.storage.runs.lasting:
        raise PluginError(
            f"{job.name} has no report any more: {refused}, and storage.runs is an emptyDir, which goes with its pod"
        )
    if job.status.image is None:
        raise PluginError(f"{job.name} has no report yet: no attempt has begun")
    manifest = reportpod.pod(parsed, job.manifest["metadata"], job.status.image, first.node if first else "")
    with _created(client, job, manifest) as path:
        ended = _end_of(client, path, patience)
        log = client.read(f"{path}/log")
    if ended.exit_code == reportpod.NO_FILE:
        raise PluginError(
            f"{job.name} has no report yet: {log.decode(errors='replace').strip()}; it is written at the end"
        )
    return reportpod.printed(log)


@contextmanager
def _created(client: Client, job: Seen, manifest: dict[str, object]) -> Iterator[str]:
    """The path of a pod that is gone afterwards."""
    made = client.create(PODS.path(job.namespace), manifest)
    path = PODS.path(job.namespace, made["metadata"]["name"])
    screen.note(f"reading the volume of {job.name} with pod/{made['metadata']['name']}")
    try:
        yield path
    finally:
        client.delete(path)


def _end_of(client: Client, path: str, patience: float) -> Pod:
    """The pod once its container has ended.

    Raises:
        PluginError: the time is over; the message says what the pod waits for.
    """
    deadline = monotonic() + patience if patience else None
    while True:
        pod = pod_of(client.get(path))
        if pod.over:
            return pod
        if deadline is not None and monotonic() > deadline:
            waits = ": ".join(filter(None, [state(pod), complaint(pod)]))
            raise PluginError(f"pod/{pod.name} has not printed the report in {patience:g} s; {waits}")
        sleep(POLL_SECONDS)
