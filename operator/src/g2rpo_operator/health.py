"""When the operator is not well: its loop lags, a look hangs, a watch has died. Checks for the server.

Who calls this: `__main__`. A check says what is wrong, or nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from g2rpo_operator.leader import Alone, Leader
from g2rpo_operator.resync import DELIVERY_SECONDS, Resync
from g2rpo_operator.server import Check
from g2rpo_operator.workqueue import WorkQueue
from g2rpo_operator.world import KINDS

TICK_SECONDS = 1.0
LONGEST_LAG_SECONDS = 10.0
LONGEST_LOOK_SECONDS = 300.0
"""Of one look at a job, which is a few requests."""


@dataclass
class LoopLag:
    """How late the event loop is: something that blocks it stops everything."""

    clock: Callable[[], float]
    """Monotonic seconds."""
    _due: float | None = None
    _worst: float = 0.0

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            self._due = self.clock() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self._worst = max(0.0, self.clock() - self._due)

    def seconds(self) -> float:
        """The last tick's delay, or the present one's if that is larger."""
        now = 0.0 if self._due is None else self.clock() - self._due
        return max(self._worst, now)


def health_checks(queue: WorkQueue, resync: Resync, lag: LoopLag) -> Mapping[str, Check]:
    """What /healthz asks: a replica that fails is better started again."""

    def loop() -> str:
        late = lag.seconds()
        return f"the event loop is {late:.0f} s late" if late > LONGEST_LAG_SECONDS else ""

    def looks() -> str:
        stuck = {key: age for key, age in queue.in_flight.items() if age > LONGEST_LOOK_SECONDS}
        return ", ".join(f"{'/'.join(key)} for {age:.0f} s" for key, age in stuck.items())

    def watches() -> str:
        silent = {kind: resync.silent_seconds(kind) for kind in KINDS}
        return ", ".join(f"{kind} silent for {age:.0f} s" for kind, age in silent.items() if age > DELIVERY_SECONDS)

    return {"loop": loop, "looks": looks, "watches": watches}


def ready_checks(resync: Resync, election: Leader | Alone) -> Mapping[str, Check]:
    """What /readyz asks: a standby is ready when it could take over."""

    def synced() -> str:
        return "" if resync.synced or not election.leading.is_set() else "nothing is listed yet"

    return {"synced": synced}
