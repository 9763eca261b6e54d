"""Pods and events of a job as tables. Pure.

Who calls this: `page.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from g2rpo_operator.plugin.ages import age
from g2rpo_operator.plugin.words import FAINT, rows
from g2rpo_operator.world import Pod

MOST_PODS, MOST_EVENTS = 16, 8


def state(pod: Pod) -> str:
    """What a pod does, in kubectl's words."""
    if pod.deletion_time and not pod.over:
        return "Terminating"
    if pod.disruption:
        return pod.disruption
    if pod.over and pod.terminated_reason:
        return pod.terminated_reason
    if pod.unschedulable:
        return "Unschedulable"
    return pod.waiting_reason or pod.phase


def pod_rows(pods: Sequence[Pod], attempt: int, width: int) -> list[Text]:
    """The pods that tell most: of the newest attempt, those first that do not run; then kept ones that failed."""
    order = sorted(pods, key=lambda pod: (pod.attempt != attempt, pod.running, -pod.attempt, pod.index))
    body = [
        (pod.name, str(pod.index), str(pod.attempt), state(pod), _code(pod), pod.node or "-", complaint(pod))
        for pod in order[:MOST_PODS]
    ]
    shown = rows(("POD", "INDEX", "ATTEMPT", "STATE", "EXIT", "NODE", "MESSAGE"), body, width)
    rest = Counter(state(pod) for pod in order[MOST_PODS:])
    if rest:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(rest.items()))
        shown.append(Text(f"and {rest.total()} more: {counts}", FAINT))
    return shown


def _code(pod: Pod) -> str:
    return "-" if pod.exit_code is None else str(pod.exit_code)


def complaint(pod: Pod) -> str:
    """What keeps a pod from running, in a line; empty for nothing."""
    return " ".join((pod.unschedulable or pod.waiting_message or pod.message).split())


def event_rows(events: Sequence[dict[str, Any]], now: datetime, width: int) -> list[Text]:
    """The newest events, oldest first."""
    newest = sorted(events, key=_time)[-MOST_EVENTS:]
    body = [
        (_when(event, now), event.get("type", ""), event.get("reason", ""), event.get("message", ""))
        for event in newest
    ]
    return rows(("LAST SEEN", "TYPE", "EVENT", "MESSAGE"), body, width)


def _when(event: dict[str, Any], now: datetime) -> str:
    count = event.get("count") or 1
    return age(_time(event), now) + (f" (x{count})" if count > 1 else "")


def _time(event: dict[str, Any]) -> str:
    """When it was last seen, in whichever of the two kinds of fields."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])
