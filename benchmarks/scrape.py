"""How long a scrape of a trainer takes and how large its page is: of the miniature, and of larger and larger jobs.

    python benchmarks/scrape.py [--scrapes 200]

Over HTTP, from this process to itself, with the page that Prometheus asks for. The largest job has as many rewards with
as long names, granularities and ranks in a pod as a job may have, and more steps than have series. Nothing else runs
meanwhile: beside a training that keeps all cores busy a scrape waits for its turn. Its processor time, which is the
reader's, too, says what it takes then.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from g2rpo_api.rewards import MAX_REWARDS, NAME_LENGTH
from g2rpo_trainer.appearance import KINDS
from g2rpo_trainer.journal import (
    AdvantageEntry,
    AppearanceEntry,
    CorrelationEntry,
    EvaluationEntry,
    IterationRecord,
    PolicyEntry,
    RewardEntry,
    Role,
    Spread,
    StepEntry,
)
from g2rpo_trainer.monitoring.progress import RunInfo
from g2rpo_trainer.monitoring.telemetry import Telemetry, Vitals
from g2rpo_trainer.timing import Pace, RankState, RewardCall

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
LIMIT_SECONDS, LIMIT_BYTES = 0.010, 64 * 1024
NUMBER = 1 / 7
SCORES = Spread(mean=NUMBER, std=NUMBER, min=NUMBER, max=NUMBER)
LOOKS = AppearanceEntry(**dict.fromkeys((*KINDS, "diversity"), NUMBER))


@dataclass(frozen=True)
class Size:
    """What makes a page large."""

    rewards: tuple[int, int]
    """Trained ones, and held-out ones."""
    granularities: int
    steps: int
    ranks: int
    kinds: tuple[str, ...] = ("resident", "allocated", "reserved", "peak")
    """Of memory."""
    letters: int = 10
    """Of a reward's name."""

    def roles(self) -> dict[str, Role]:
        """Every reward's."""
        trained, held_out = self.rewards
        roles: list[Role] = [*["train"] * trained, *["heldout"] * held_out]
        return {f"r{i}-".ljust(self.letters, "x"): role for i, role in enumerate(roles)}


SIZES = {
    "the miniature": Size((1, 1), granularities=2, steps=8, ranks=2, kinds=("resident",)),
    "five rewards, four granularities, 32 steps, eight GPUs in the pod": Size((4, 1), 4, 32, 8),
    "ten rewards, else the same": Size((9, 1), 4, 32, 8),
    "the largest job": Size((MAX_REWARDS // 2, MAX_REWARDS // 2), 8, 64, 64, letters=NAME_LENGTH),
}


def record(size: Size) -> IterationRecord:
    """An iteration with everything that has a series."""
    everyone = list(size.roles())
    trained = everyone[: size.rewards[0]]
    branches = {str(2**i): SCORES for i in range(size.granularities)}
    return IterationRecord(
        iteration=1, time=time.time(), attempt=1, world_size=size.ranks, groups=8, zero_variance_groups=1, cells=64,
        skipped_groups=0, seconds={"rollout": NUMBER}, step_seconds=NUMBER, model_calls=1, images=1, appearance=LOOKS,
        advantage=AdvantageEntry(mean=NUMBER, std=NUMBER, absmax=NUMBER, clipped_ratio=NUMBER), policy=policy(size),
        rewards=[RewardEntry(name=name, role="train", weight=1.0, anchor=SCORES, branch=branches) for name in trained],
        correlations=pairs(trained),
        evaluation=[evaluation("eval", everyone), evaluation("unseen", everyone)],
    )  # fmt: skip


def policy(size: Size) -> PolicyEntry:
    """Of an update with so many steps."""
    numbers = ("ratio_mean", "ratio_std", "clip_low", "clip_high", "approx_kl", "loss", "kl_loss", "grad_norm")
    each = dict.fromkeys(("reward_std", "clip_ratio", "loss", "ratio_absdev"), NUMBER)
    steps = [StepEntry(k=k, **each) for k in range(size.steps)]
    done = {"optimizer_steps": size.steps, "nonfinite_steps": 0, "learning_rate": NUMBER}
    return PolicyEntry.model_validate({**dict.fromkeys(numbers, NUMBER), **done, "steps": steps})


def evaluation(split: Literal["eval", "unseen"], names: Sequence[str]) -> EvaluationEntry:
    """Of all rewards."""
    rewards = dict.fromkeys(names, SCORES)
    return EvaluationEntry(split=split, prompts=1, rewards=rewards, correlations=pairs(names), appearance=LOOKS)


def pairs(names: Sequence[str]) -> list[CorrelationEntry]:
    """Each two rewards once."""
    return [CorrelationEntry(first=a, second=b, value=NUMBER) for a, b in combinations(names, 2)]


def filled(size: Size) -> Vitals:
    """What a pod of such a job exposes."""
    vitals = Vitals(stall_seconds=1.0)
    told = Telemetry(RunInfo("flux1-hps-lora", 300, size.ranks, size.roles()), vitals)
    memory = dict.fromkeys(size.kinds, 87_654_321_000)
    told.expect("NVIDIA H100 80GB HBM3", NUMBER)
    told.show_ranks([RankState(rank, 0, Pace(NUMBER, NUMBER), memory) for rank in range(size.ranks)])
    told.observe_calls([RewardCall(name, "ok", NUMBER) for name in size.roles()])
    told.observe(record(size), NUMBER)
    return vitals


def scraped(port: int) -> tuple[float, float, int]:
    """Seconds, those of the processor, and bytes of one scrape."""
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": OPENMETRICS})
    started, worked = time.perf_counter(), time.process_time()
    with urllib.request.urlopen(asked, timeout=10) as answer:
        size = len(answer.read())
    return time.perf_counter() - started, time.process_time() - worked, size


def main() -> int:
    """Exit code: 0 when the median is below the limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scrapes", type=int, default=200)
    count = parser.parse_args().scrapes
    within = True
    print("| | KiB | ms, median | ms, 95 % | CPU ms, median |\n|---|---|---|---|---|")
    for name, size in SIZES.items():
        endpoint = filled(size).serve(0, "127.0.0.1")
        found = [scraped(endpoint.port) for _ in range(count)]
        endpoint.close()
        seconds, worked, lengths = (sorted(column) for column in zip(*found, strict=True))
        median, late, length = statistics.median(seconds), seconds[int(0.95 * count)], lengths[0]
        told = (length / 1024, 1000 * median, 1000 * late, 1000 * statistics.median(worked))
        print(f"| {name} | {' | '.join(f'{number:.1f}' for number in told)} |")
        within = within and median < LIMIT_SECONDS and length < LIMIT_BYTES
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
