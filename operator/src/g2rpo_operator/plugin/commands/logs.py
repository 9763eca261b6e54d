"""`logs`: what ranks say, from the pod that a person would look at first.

Who calls this: the command line.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from g2rpo_api import contract
from g2rpo_operator.plugin import screen
from g2rpo_operator.plugin.client import Client, connect
from g2rpo_operator.plugin.failures import PluginError
from g2rpo_operator.plugin.jobs import Seen, fetch, pods_of
from g2rpo_operator.plugin.lists import complaint, state
from g2rpo_operator.plugin.names import Name
from g2rpo_operator.plugin.options import Where
from g2rpo_operator.resources import PODS
from g2rpo_operator.world import Pod

MOST_AT_ONCE = 64
"""Logs that are read side by side."""


@dataclass(frozen=True)
class Choice:
    """Which pods."""

    attempt: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of the attempt; the newest with pods when left out.")
    ] = None
    rank_node: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Index of the pod, which is the rank of its node.", show_default=False),
    ] = None
    all_pods: Annotated[
        bool, typer.Option("--all-pods", help="Of every pod of the attempt, each line with its pod.")
    ] = False


def logs(
    *,
    name: Name,
    choice: Choice,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows.")] = False,
    tail: Annotated[int, typer.Option(metavar="N", help="Last lines of each log only; -1 is all of it.")] = -1,
    where: Where,
) -> None:
    """Print the log of a job's first or first failed rank.

    It is the pod with index 0, or, where the attempt has failed, that of the rank that failed first.

    \b
    Examples:
      kubectl g2rpo logs portrait -f
      # The end of what each pod of the second attempt said
      kubectl g2rpo logs portrait --attempt 2 --all-pods --tail 20
    """
    client = connect(where)
    job = fetch(client, name)
    chosen = choose(job, pods_of(client, job), choice)
    query = {"container": contract.CONTAINER} | ({"follow": "true"} if follow else {})
    query |= {"tailLines": str(tail)} if tail >= 0 else {}
    if choice.all_pods:
        _print_all(client, job, chosen, query)
    else:
        for line in _lines(client, job, chosen[0], query):
            screen.write(line)


def choose(job: Seen, pods: Sequence[Pod], choice: Choice) -> list[Pod]:
    """The pods to read, by index.

    Args:
        pods: all pods of the job, newest attempt first, then by index.

    Raises:
        PluginError: there is none; the message says which there are.
    """
    attempt = choice.attempt or max((pod.attempt for pod in pods), default=0)
    of_attempt = [pod for pod in pods if pod.attempt == attempt]
    if choice.all_pods:
        found = of_attempt
    elif choice.rank_node is not None:
        found = [pod for pod in of_attempt if pod.index == choice.rank_node]
    else:
        failed = job.status.last_failure.pod if job.status.last_failure else None
        found = sorted(of_attempt, key=lambda pod: (pod.name != failed, pod.index))[:1]
    if not found:
        raise PluginError(_missing(job, pods, attempt, choice.rank_node))
    return found


def _missing(job: Seen, pods: Sequence[Pod], attempt: int, index: int | None) -> str:
    wanted = f"pod of attempt {attempt}" if index is None else f"pod with index {index} of attempt {attempt}"
    kept: dict[int, list[int]] = {}
    for pod in pods:
        kept.setdefault(pod.attempt, []).append(pod.index)
    there = "; ".join(f"attempt {number}: index {', '.join(map(str, found))}" for number, found in kept.items())
    advice = (
        f"kubectl g2rpo status {job.name} shows the last lines of the last failure" if job.status.last_failure else ""
    )
    return "; ".join(filter(None, [f"{job.name} has no {wanted}", there or "it has no pods", advice]))


def _lines(client: Client, job: Seen, pod: Pod, query: dict[str, str]) -> Iterator[bytes]:
    """The log of one pod.

    Raises:
        PluginError: it has none; of a pod without a node the API server would give an empty one.
    """
    if not pod.scheduled:
        why = ": ".join(filter(None, [state(pod), complaint(pod)]))
        raise PluginError(f"pod {pod.name} has not begun: {why}")
    return client.lines(PODS.path(job.namespace, pod.name, "log"), **query)


def _print_all(client: Client, job: Seen, pods: Sequence[Pod], query: dict[str, str]) -> None:
    """All at once, each line with its pod. Threads that read on do not keep an interrupted command alive."""
    if "follow" in query and len(pods) > MOST_AT_ONCE:
        raise PluginError(
            f"{len(pods)} pods are more than the {MOST_AT_ONCE} that can be followed; choose by --rank-node"
        )
    alone, gate, failed = threading.Lock(), threading.Semaphore(MOST_AT_ONCE), list[str]()

    def read(pod: Pod) -> None:
        prefix = f"[pod/{pod.name}/{contract.CONTAINER}] "
        try:
            with gate:
                for line in _lines(client, job, pod, query):
                    with alone:
                        screen.write(prefix.encode() + line)
        except PluginError as error:
            failed.append(f"{prefix}{error}")

    readers = [threading.Thread(target=read, args=(pod,), daemon=True) for pod in pods]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    if failed:
        raise PluginError("\n".join(sorted(failed)))
