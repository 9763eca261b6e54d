"""What a reward server did, for Prometheus.

Who calls this: `server.py`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder
from torch import Tensor

from g2rpo_trainer.monitoring.endpoint import Answer
from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewardserver.batching import Score

PREFIX = "g2rpo_reward_server_"
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        """All at zero."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            PREFIX + "requests_total", "Requests for scores, by HTTP status.", ("code",), registry=self._registry
        )
        self._batch = Histogram(
            PREFIX + "batch_pictures", "Pictures scored together.", registry=self._registry, buckets=_SIZES
        )
        self._seconds = Histogram(
            PREFIX + "score_duration_seconds", "Seconds of scoring a batch.", registry=self._registry, buckets=_SECONDS
        )

    def answered(self, status: int) -> None:
        """A request for scores got its answer."""
        self._requests.labels(str(status)).inc()

    def watched(self, score: Score) -> Score:
        """The same function, with what it does counted."""

        def watching(images: Sequence[Tensor], prompts: Sequence[Prompt]) -> Tensor:
            self._batch.observe(len(images))
            started = time.perf_counter()
            try:
                return score(images, prompts)
            finally:
                self._seconds.observe(time.perf_counter() - started)

        return watching

    def page(self, accept: str) -> Answer:
        """As Prometheus reads it."""
        encode, content_type = choose_encoder(accept)
        return Answer(encode(self._registry), content_type)
