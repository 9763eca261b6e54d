"""What a run tells machines: Prometheus metrics, a progress document and a health check, on one port.

Who calls this: the loop, on the first rank. The only module that knows prometheus_client. A scrape may
come at any moment from another thread: metrics lock themselves, everything else is replaced as a whole.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import choose_encoder

from g2rpo_trainer.journal import AdvantageEntry, IterationRecord, PolicyEntry, Role, Spread, StepEntry
from g2rpo_trainer.monitoring.endpoint import Answer, Endpoint
from g2rpo_trainer.monitoring.progress import CheckpointInfo, RunInfo, RunPhase, document
from g2rpo_trainer.reporting.history import PHASES, Records, outline
from g2rpo_trainer.reporting.series import finite_mean

PREFIX = "g2rpo_trainer_"
MAX_STEPS = 16
"""Stochastic steps with metrics of their own; later ones are left out, so that labels stay bounded."""
STEP_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
REWARD_LABELS = ("reward", "role", "split", "granularity")
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "iteration": ("Iteration that was finished last; 0 is the evaluation before training.", ()),
    "iterations_total": ("Iterations that the job asks for.", ()),
    "eta_seconds": ("Expected seconds until the last iteration.", ()),
    "last_step_timestamp_seconds": ("Unix time at which the last iteration ended.", ()),
    "learning_rate": ("Learning rate of the last update.", ()),
    "grad_norm": ("Gradient norm before clipping, mean over the iteration's optimizer steps.", ()),
    "loss": ("Loss of the last iteration by term.", ("term",)),
    "reward_mean": ("Mean score; granularity is empty but for branches.", REWARD_LABELS),
    "reward_std": ("Standard deviation of the scores.", REWARD_LABELS),
    "reward_min": ("Lowest score.", REWARD_LABELS),
    "reward_max": ("Highest score.", REWARD_LABELS),
    "zero_std_group_ratio": ("Share of normalised cells whose members all scored the same.", ()),
    "group_std_mean": ("Standard deviation of the weighted reward within a group, mean over steps.", ()),
    "advantage_mean": ("Mean advantage.", ()),
    "advantage_std": ("Standard deviation of the advantages.", ()),
    "advantage_absmax": ("Largest absolute advantage.", ()),
    "advantage_clipped_ratio": ("Share of advantages that the clamp cut.", ()),
    "ratio_mean": ("Mean importance ratio.", ()),
    "ratio_std": ("Standard deviation of the importance ratio.", ()),
    "clip_ratio": ("Share of transitions whose gradient the clip range cuts, by side.", ("side",)),
    "approx_kl": ("Mean of (r - 1) - ln r, nats per element.", ()),
    "step_reward_std": ("Standard deviation of the reward within a group, by stochastic step.", ("k",)),
    "step_clip_ratio": ("Share of clipped transitions, by stochastic step.", ("k",)),
    "step_loss": ("Surrogate loss, by stochastic step.", ("k",)),
    "step_ratio_absdev": ("Mean of |r - 1|, by stochastic step.", ("k",)),
    "phase_duration_seconds": ("Seconds of the last iteration by phase; 0 where it had none.", ("phase",)),
    "checkpoint_last_success_timestamp_seconds": ("Unix time of the last checkpoint.", ()),
    "checkpoint_duration_seconds": ("Seconds that the last checkpoint took.", ()),
}
COUNTERS = {
    "images_total": "Pictures decoded and scored for training, over all ranks, by this attempt.",
    "nfe_total": "Rows through the transformer without gradient, over all ranks, by this attempt.",
    "nonfinite_steps_total": "Optimizer steps skipped for a loss or gradient that was not finite.",
    "restarts_total": "Attempts before this one.",
}


@dataclass(frozen=True)
class State:
    """What /progress and /healthz read."""

    records: tuple[IterationRecord, ...]
    phase: RunPhase
    eta_seconds: float | None
    checkpoint: CheckpointInfo | None
    beat: float
    """When the loop was last seen alive, on the clock of the telemetry."""


class Telemetry:
    """Metrics, progress and health of one attempt."""

    def __init__(self, run: RunInfo, stall_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is served yet. The run counts as stalled `stall_seconds` after the loop's last beat."""
        self.registry = CollectorRegistry()
        self._run = run
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._state = State((), "starting", None, None, clock())
        self._gauges = {
            name: Gauge(PREFIX + name, text, labels, registry=self.registry) for name, (text, labels) in GAUGES.items()
        }
        self._counters = {name: Counter(PREFIX + name, text, registry=self.registry) for name, text in COUNTERS.items()}
        self._step_seconds = Histogram(
            PREFIX + "step_duration_seconds", "Wall time of an iteration.", registry=self.registry, buckets=STEP_SECONDS
        )
        self._introduce()

    def _introduce(self) -> None:
        """What is known before the first iteration; unknown numbers are NaN, since 0 would be a measurement."""
        for name, (_, labels) in GAUGES.items():
            if not labels:
                self._gauges[name].set(math.nan)
        self._gauges["iteration"].set(0)
        self._gauges["iterations_total"].set(self._run.total_iterations)
        self._info = Info(PREFIX.rstrip("_"), "What runs.", registry=self.registry)
        self._count_attempts(1)

    def _count_attempts(self, known: int) -> None:
        """Tell which attempt this is, where `known` was told before."""
        self._counters["restarts_total"].inc(self._run.attempt - known)
        facts = {"job_name": self._run.job_name, "attempt": self._run.attempt, "world_size": self._run.world_size}
        self._info.info({name: str(value) for name, value in facts.items()})

    def resume(self, records: Records, attempt: int | None = None) -> None:
        """Show what earlier attempts reached, and which attempt this is; counters count this one only."""
        known = self._run.attempt
        self._run = replace(self._run, attempt=attempt or known)
        self._count_attempts(known)
        if records:
            self._set_gauges(records[-1])
        self._update(records=tuple(outline(record) for record in records))

    def enter(self, phase: RunPhase) -> None:
        """The loop begins something else; a beat."""
        self._update(phase=phase)

    def heartbeat(self) -> None:
        """The loop is alive."""
        self._update()

    def observe(self, record: IterationRecord, eta_seconds: float | None) -> None:
        """An iteration is done; a beat."""
        self._set_gauges(record)
        self._gauges["eta_seconds"].set(math.nan if eta_seconds is None else eta_seconds)
        self._counters["images_total"].inc(record.images)
        self._counters["nfe_total"].inc(record.model_calls)
        self._counters["nonfinite_steps_total"].inc(record.policy.nonfinite_steps if record.policy else 0)
        if record.iteration > 0:
            self._step_seconds.observe(record.step_seconds)
        self._update(records=(*self._state.records, outline(record)), eta_seconds=eta_seconds)

    def observe_checkpoint(self, iteration: int, time: float, seconds: float) -> None:
        """A checkpoint was saved at unix `time` and took `seconds`; a beat."""
        self._gauges["checkpoint_last_success_timestamp_seconds"].set(time)
        self._gauges["checkpoint_duration_seconds"].set(seconds)
        self._update(checkpoint=CheckpointInfo(iteration, time))

    def serve(self, port: int, host: str) -> Endpoint:
        """Answer /metrics, /progress and /healthz from a daemon thread; port 0 takes a free one.

        Raises:
            OSError: the port is taken or not allowed; the message names it and the remedy.
        """
        routes = {"/metrics": self._metrics, "/progress": self._progress, "/healthz": self._health}
        return Endpoint(routes, port, host)

    def _update(self, **changes: object) -> None:
        self._state = replace(self._state, beat=self._clock(), **changes)  # type: ignore[arg-type]

    def _metrics(self, accept: str) -> Answer:
        encode, content_type = choose_encoder(accept)
        return Answer(encode(self.registry), content_type)

    def _progress(self, _: str) -> Answer:
        state = self._state
        content = document(self._run, state.records, state.phase, state.eta_seconds, state.checkpoint)
        return Answer(json.dumps(content, allow_nan=False).encode() + b"\n", "application/json")

    def _health(self, _: str) -> Answer:
        state = self._state
        silence = self._clock() - state.beat
        if state.phase == "finished" or silence <= self._stall_seconds:
            return Answer(b"ok\n", "text/plain; charset=utf-8")
        reason = f"no sign of life for {silence:.0f} s while {state.phase}; the limit is {self._stall_seconds:.0f} s\n"
        return Answer(reason.encode(), "text/plain; charset=utf-8", HTTPStatus.SERVICE_UNAVAILABLE)

    def _set_gauges(self, record: IterationRecord) -> None:
        self._gauges["iteration"].set(record.iteration)
        self._gauges["last_step_timestamp_seconds"].set(record.time)
        for phase, _ in PHASES:
            self._gauges["phase_duration_seconds"].labels(phase).set(record.seconds.get(phase, 0.0))
        self._set_rewards(record)
        if record.groups:
            cells = record.groups * self._run.cells_per_group
            self._gauges["zero_std_group_ratio"].set(record.zero_variance_groups / cells)
        if record.advantage:
            self._set_advantage(record.advantage)
        if record.policy:
            self._set_policy(record.policy)

    def _set_rewards(self, record: IterationRecord) -> None:
        for entry in record.rewards:
            if entry.anchor:
                self._set_spread(entry.anchor, entry.name, entry.role, "anchor")
            for granularity, spread in entry.branch.items():
                self._set_spread(spread, entry.name, entry.role, "branch", granularity)
        for evaluation in record.evaluation:
            for name, spread in evaluation.rewards.items():
                self._set_spread(spread, name, self._run.roles[name], evaluation.split)

    def _set_spread(self, spread: Spread, name: str, role: Role, split: str, granularity: str = "") -> None:
        for statistic in ("mean", "std", "min", "max"):
            gauge = self._gauges[f"reward_{statistic}"].labels(name, role, split, granularity)
            gauge.set(getattr(spread, statistic))

    def _set_advantage(self, advantage: AdvantageEntry) -> None:
        for name in ("mean", "std", "absmax", "clipped_ratio"):
            self._gauges[f"advantage_{name}"].set(getattr(advantage, name))

    def _set_policy(self, policy: PolicyEntry) -> None:
        for name in ("ratio_mean", "ratio_std", "approx_kl", "grad_norm", "learning_rate"):
            self._gauges[name].set(getattr(policy, name))
        self._gauges["loss"].labels("surrogate").set(policy.loss)
        self._gauges["loss"].labels("kl").set(policy.kl_loss)
        self._gauges["clip_ratio"].labels("low").set(policy.clip_low)
        self._gauges["clip_ratio"].labels("high").set(policy.clip_high)
        self._gauges["group_std_mean"].set(finite_mean([step.reward_std for step in policy.steps]))
        for step in policy.steps[:MAX_STEPS]:
            self._set_step(step)

    def _set_step(self, step: StepEntry) -> None:
        for name in ("reward_std", "clip_ratio", "loss", "ratio_absdev"):
            self._gauges[f"step_{name}"].labels(str(step.k)).set(getattr(step, name))
