"""What kopf is asked to watch: each event about a job goes into the store and wakes the job. Nothing else.

Who calls this: `__main__`. Only raw events are used: timers, daemons and change handlers would put
finalizers and annotations on people's objects, which then outlive an uninstalled operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kopf

from g2rpo_api import contract
from g2rpo_operator.cluster import INACTIVITY_SECONDS, WATCH_SECONDS
from g2rpo_operator.settings import Settings
from g2rpo_operator.watch import Intake, backoffs


def registry(intake: Intake) -> kopf.OperatorRegistry:
    """The one handler."""

    async def seen(event: Any, **_: Any) -> None:
        intake.take("G2RPOJob", event["type"], event["object"])

    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers, id="login")(_login)
    kopf.on.event(contract.GROUP, contract.VERSION, contract.PLURAL, registry=handlers, id="watch")(seen)
    return handlers


async def _login(**known: Any) -> kopf.ConnectionInfo | None:
    """As the pod's own account, or as kubectl would."""
    return kopf.login_with_service_account(**known) or kopf.login_with_kubeconfig(**known)


def operator_settings(settings: Settings) -> kopf.OperatorSettings:
    """How kopf watches, with every way in which a watch can die noticed."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True  # a Lease elects the leader
    chosen.scanning.disabled = True
    chosen.posting.enabled = False
    chosen.persistence.diffbase_storage = NoDifferences()
    chosen.watching.server_timeout = WATCH_SECONDS
    chosen.watching.client_timeout = WATCH_SECONDS + 30
    chosen.watching.connect_timeout = 5
    chosen.watching.inactivity_timeout = INACTIVITY_SECONDS
    chosen.watching.chunk_size = 500
    chosen.networking.request_timeout = settings.request_timeout_seconds
    chosen.networking.enforce_retry_after = True
    chosen.networking.error_backoffs = Backoffs()
    return chosen


class NoDifferences(kopf.DiffBaseStorage):
    """No record of what objects were like before: kopf would copy each object several times to compare."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing of an object matters."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """Nothing was kept."""
        return None

    def store(self, **_: Any) -> None:
        """Keep nothing."""


class Backoffs:
    """Our pauses, as kopf wants them: begun anew for each request."""

    def __iter__(self) -> Iterator[float]:
        """Start from the first pause."""
        return backoffs()
