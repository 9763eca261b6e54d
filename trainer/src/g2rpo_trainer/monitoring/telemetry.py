"""What a run tells machines: Prometheus metrics, a progress document and a health check, on one port.

Who calls this: the publisher, on the first rank, and the session on the first rank of every other machine.
The only module that knows prometheus_client. A scrape may come at any moment from another thread: metrics
lock themselves, everything else is replaced as a whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.exposition import ALLOWUTF8

from g2rpo_api.contract import PATH_CURVE_CSV, PATH_CURVE_SVG, PATH_PROGRESS
from g2rpo_api.progress import CheckpointReport, ProgressReport, RunPhase, StoppedReport
from g2rpo_trainer.journal import (
    AdvantageEntry,
    AppearanceEntry,
    CorrelationEntry,
    IterationRecord,
    PolicyEntry,
    Role,
    Spread,
    StepEntry,
)
from g2rpo_trainer.monitoring.endpoint import PLAIN, Answer, Endpoint, Route, file_route
from g2rpo_trainer.monitoring.farewell import Farewell
from g2rpo_trainer.monitoring.names import COUNTERS, GAUGES, HISTOGRAMS, INFO, POD_GAUGES, PREFIX, Described
from g2rpo_trainer.monitoring.progress import RunInfo, State, document
from g2rpo_trainer.reporting.history import PHASES, Records, outline
from g2rpo_trainer.reporting.series import finite_mean
from g2rpo_trainer.timing import RESULTS, RankState, RewardCall

MAX_STEPS, MAX_GRANULARITIES, MAX_RANKS, MAX_PAIRED = 16, 4, 16, 6
"""Steps of the grid, granularities and ranks of a pod with series of their own; trained rewards, and held-out ones,
whose correlations have. A page that is fetched every few seconds has to stay small; the diary has all of them."""
CURVE_TYPES = {PATH_CURVE_CSV: "text/csv; charset=utf-8", PATH_CURVE_SVG: "image/svg+xml"}


disable_created_metrics()  # when each series began: a tenth of the page, and nobody asks


def shown(value: float) -> float:
    """Seven digits, which is what it is computed with; a moment or a count of more is not for this."""
    return float(f"{value:.7g}")


def gauges(described: Mapping[str, Described], registry: CollectorRegistry) -> dict[str, Gauge]:
    """A gauge for each name."""
    return {name: Gauge(PREFIX + name, text, labels, registry=registry) for name, (text, labels) in described.items()}


class Vitals:
    """Life signs of one pod: when its loop was last seen alive, whether that is too long ago, what its ranks take."""

    def __init__(self, stall_seconds: float, clock: Callable[[], float] = time.time) -> None:
        """Alive now, and hung when `stall_seconds` pass without a beat; `clock` gives unix seconds."""
        self.registry = CollectorRegistry()
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._phase: RunPhase = "Starting"
        self._gauges = gauges(POD_GAUGES, self.registry)
        self._gauges["started_timestamp_seconds"].set(self.beat())

    def beat(self, phase: RunPhase | None = None) -> float:
        """The loop is alive, and perhaps begins something else; the answer is the time."""
        self._phase = phase or self._phase
        self._seen = self._clock()
        self._gauges["beat_timestamp_seconds"].set(self._seen)
        return self._seen

    def show_ranks(self, machine: int, states: Sequence[RankState]) -> None:
        """What the ranks of one machine took; `machine` is the first of them."""
        for state in [state for state in states if state.machine == machine][:MAX_RANKS]:
            rank = str(state.rank)
            self._gauges["rank_compute_seconds"].labels(rank).set(shown(state.pace.compute))
            self._gauges["collective_wait_seconds"].labels(rank).set(shown(state.pace.wait))
            for kind, size in state.memory.items():
                self._gauges["memory_bytes"].labels(rank, kind).set(shown(size))

    def serve(self, port: int, host: str, more: Mapping[str, Route] | None = None) -> Endpoint:
        """Answer /metrics, /healthz and `more` from a daemon thread; port 0 takes a free one.

        Raises:
            OSError: the port is taken or not allowed; the message names it and the remedy.
        """
        return Endpoint({"/metrics": self._metrics, "/healthz": self._health, **(more or {})}, port, host)

    def _metrics(self, accept: str) -> Answer:
        encode, content_type = choose_encoder(accept)
        # The names are the same by every way of escaping; by this one nobody looks at each of their characters.
        return Answer(encode(self.registry, escaping=ALLOWUTF8), content_type)  # type: ignore[call-arg]

    def _health(self, _: str) -> Answer:
        phase, silence = self._phase, self._clock() - self._seen
        if phase == "Finished" or silence <= self._stall_seconds:
            return Answer(b"ok\n", PLAIN)
        limit = f"the limit is {self._stall_seconds:.0f} s"
        reason = f"no sign of life for {silence:.0f} s while {phase.lower()}; {limit}\n"
        return Answer(reason.encode(), PLAIN, HTTPStatus.SERVICE_UNAVAILABLE)


class Telemetry:
    """Metrics, progress and health of one attempt."""

    def __init__(self, run: RunInfo, vitals: Vitals) -> None:
        """Nothing is served yet."""
        self._run = run
        self._vitals = vitals
        self._state = State(vitals.beat())
        self._expected: tuple[str, float] | None = None
        self._paired = _paired(run.roles)
        self._steps: set[int] = set()
        registry = vitals.registry
        self._gauges = gauges(GAUGES, registry)
        self._counters = {
            name: Counter(PREFIX + name, text, labels, registry=registry) for name, (text, labels) in COUNTERS.items()
        }
        self._histograms = {
            name: Histogram(PREFIX + name, text, labels, registry=registry, buckets=buckets)
            for name, ((text, labels), buckets) in HISTOGRAMS.items()
        }
        self.farewell = Farewell(frozenset(CURVE_TYPES))
        self._introduce()

    def _introduce(self) -> None:
        """What is known before the first iteration; unknown numbers are NaN, since 0 would be a measurement."""
        for name, (_, labels) in GAUGES.items():
            if not labels:
                self._gauges[name].set(math.nan)
        self._gauges["iteration"].set(0)
        self._gauges["iterations_planned"].set(self._run.total_iterations)
        self._counters["restarts_total"].inc(self._run.attempt - 1)
        for reward in self._run.roles:
            self._histograms["reward_latency_seconds"].labels(reward)
            for result in RESULTS:  # a series that appears with 1 has not grown, for all that increase() knows
                self._counters["reward_calls_total"].labels(reward, result)
        text, labels = INFO
        info = Info(PREFIX.rstrip("_"), text, registry=self._vitals.registry)
        info.info({name: str(getattr(self._run, name)) for name in labels})

    def resume(self, records: Records, checkpoint: CheckpointReport | None = None) -> None:
        """Show what earlier attempts reached; counters count this one only."""
        if records:
            self._set_gauges(records[-1])
        if checkpoint:
            self._gauges["checkpoint_last_success_timestamp_seconds"].set(checkpoint.time)
        outlines, clipped = tuple(outline(record) for record in records), _clip_ratio(records)
        self._update(records=outlines, checkpoint=checkpoint, clip_ratio=clipped)

    def enter(self, phase: RunPhase) -> None:
        """The loop begins something else; a beat."""
        self._update(phase=phase)

    def end_early(self, stopped: StoppedReport) -> None:
        """It is decided that the run ends early; a beat."""
        self._update(stopped=stopped)

    def observe(self, record: IterationRecord, eta_seconds: float | None) -> None:
        """An iteration is done; a beat."""
        self._set_gauges(record)
        self._gauges["eta_seconds"].set(math.nan if eta_seconds is None else eta_seconds)
        self._counters["images_total"].inc(record.images)
        self._counters["nfe_total"].inc(record.model_calls)
        self._counters["nonfinite_steps_total"].inc(record.policy.nonfinite_steps if record.policy else 0)
        if record.iteration > 0:
            self._histograms["step_duration_seconds"].observe(record.step_seconds)
            self._set_utilisation(record)
        records = (*self._state.records, outline(record))
        self._update(records=records, eta_seconds=eta_seconds, clip_ratio=_clip_ratio([record]))

    def show_ranks(self, states: Sequence[RankState]) -> None:
        """What the ranks took; a beat. Those of other machines are told there."""
        self._vitals.show_ranks(0, states)
        self._update()

    def observe_calls(self, calls: Sequence[RewardCall]) -> None:
        """How rewards answered, on all ranks; a beat."""
        for call in calls:
            self._counters["reward_calls_total"].labels(call.reward, call.result).inc()
            self._histograms["reward_latency_seconds"].labels(call.reward).observe(call.seconds)
        self._update()

    def expect(self, card: str, seconds: float) -> None:
        """What an iteration computes takes so many seconds at the full speed of this card; from any thread."""
        self._expected = (card, seconds)

    def amend(self, record: IterationRecord) -> None:
        """The last iteration was evaluated after all; a beat."""
        self._set_rewards(record)
        self._update(records=(*self._state.records[:-1], outline(record)))

    def observe_checkpoint(self, iteration: int, time: float, seconds: float) -> None:
        """A checkpoint was saved at unix `time` and took `seconds`; a beat."""
        self._gauges["checkpoint_last_success_timestamp_seconds"].set(time)
        self._gauges["checkpoint_duration_seconds"].set(seconds)
        self._update(checkpoint=CheckpointReport(iteration=iteration, time=time))

    def progress(self) -> ProgressReport:
        """The document at /progress."""
        return document(self._run, self._state)

    def serve(
        self, port: int, host: str, curves: Mapping[str, Path], more: Mapping[str, Route] | None = None
    ) -> Endpoint:
        """Answer /metrics, /healthz, /progress, the files of `curves` by path, and `more`; see `Vitals.serve`."""
        files = {path: self.farewell.noting(path, file_route(curves[path], kind)) for path, kind in CURVE_TYPES.items()}
        return self._vitals.serve(port, host, {PATH_PROGRESS: self._progress, **files, **(more or {})})

    def _update(self, **changes: object) -> None:
        state = replace(self._state, **changes)  # type: ignore[arg-type]
        self._state = replace(state, beat=self._vitals.beat(state.phase))

    def _progress(self, _: str) -> Answer:
        report = self.progress()
        answer = Answer(report.model_dump_json(by_alias=True).encode() + b"\n", "application/json")
        return self.farewell.last(answer) if report.phase == "Finished" else answer

    def _set_gauges(self, record: IterationRecord) -> None:
        self._gauges["iteration"].set(record.iteration)
        self._gauges["last_step_timestamp_seconds"].set(record.time)
        for phase, _ in PHASES:
            self._show("phase_duration_seconds", record.seconds.get(phase, 0.0), phase)
        self._set_rewards(record)
        if record.appearance:
            self._set_appearance(record.appearance, "rollout")
        if record.cells:
            self._show("zero_std_group_ratio", record.zero_variance_groups / record.cells)
        if record.advantage:
            self._set_advantage(record.advantage)
        if record.policy:
            self._set_policy(record.policy)

    def _set_rewards(self, record: IterationRecord) -> None:
        for entry in record.rewards:
            if entry.anchor:
                self._set_spread(entry.anchor, entry.name, entry.role, "anchor")
                self._set_range([entry.anchor], entry.name, entry.role, "anchor")
            else:
                self._set_range([*entry.branch.values()], entry.name, entry.role, "branch")
            for granularity in list(entry.branch)[:MAX_GRANULARITIES]:
                self._set_spread(entry.branch[granularity], entry.name, entry.role, "branch", granularity)
        self._set_correlations(record.correlations, "branch")
        for evaluation in record.evaluation:
            self._show("evaluation_prompts", evaluation.prompts, evaluation.split)
            self._set_correlations(evaluation.correlations, evaluation.split)
            for name, spread in evaluation.rewards.items():
                self._set_spread(spread, name, self._run.roles[name], evaluation.split)
                if evaluation.split == "eval":
                    self._set_range([spread], name, self._run.roles[name], evaluation.split)
            if evaluation.appearance:
                self._set_appearance(evaluation.appearance, evaluation.split)

    def _set_correlations(self, correlations: Sequence[CorrelationEntry], split: str) -> None:
        for entry in correlations:
            if {entry.first, entry.second} <= self._paired and self._informs(entry, split):
                self._show("reward_correlation", entry.value, entry.pair, split)

    def _informs(self, entry: CorrelationEntry, split: str) -> bool:
        """Within groups there are trained rewards only; an evaluation tells whether they go with held-out ones."""
        return split == "branch" or self._run.roles[entry.first] != self._run.roles[entry.second]

    def _set_appearance(self, appearance: AppearanceEntry, split: str) -> None:
        for name in AppearanceEntry.model_fields:
            self._show(f"image_{name}", getattr(appearance, name), split)

    def _set_spread(self, spread: Spread, name: str, role: Role, split: str, granularity: str = "") -> None:
        self._show("reward_mean", spread.mean, name, role, split, granularity)
        self._show("reward_std", spread.std, name, role, split, granularity)

    def _set_range(self, spreads: Sequence[Spread], name: str, role: Role, split: str) -> None:
        known = [spread for spread in spreads if not math.isnan(spread.mean)]
        self._show("reward_min", min((spread.min for spread in known), default=math.nan), name, role, split)
        self._show("reward_max", max((spread.max for spread in known), default=math.nan), name, role, split)

    def _set_advantage(self, advantage: AdvantageEntry) -> None:
        for name in ("mean", "std", "absmax", "clipped_ratio"):
            self._show(f"advantage_{name}", getattr(advantage, name))

    def _set_policy(self, policy: PolicyEntry) -> None:
        for name in ("ratio_mean", "ratio_std", "approx_kl", "grad_norm", "learning_rate"):
            self._show(name, getattr(policy, name))
        self._show("loss", policy.loss, "surrogate")
        self._show("loss", policy.kl_loss, "kl")
        self._show("clip_ratio", policy.clip_low, "low")
        self._show("clip_ratio", policy.clip_high, "high")
        self._show("group_std_mean", finite_mean([step.reward_std for step in policy.steps]))
        self._set_steps(policy.steps)

    def _set_steps(self, steps: Sequence[StepEntry]) -> None:
        """NaN where a step was stochastic before and is not in this iteration."""
        found = {step.k: step for step in steps if step.k < MAX_STEPS}
        self._steps.update(found)
        for name in ("reward_std", "clip_ratio", "loss", "ratio_absdev"):
            for k in self._steps:
                self._show(f"step_{name}", getattr(found.get(k), name, math.nan), str(k))

    def _set_utilisation(self, record: IterationRecord) -> None:
        seconds = sum(spent for phase, spent in record.seconds.items() if phase not in ("checkpoint", "eval"))
        if self._expected and seconds:
            card, least = self._expected
            self._show("mfu_ratio", least / seconds, card)

    def _show(self, name: str, value: float, *labels: str) -> None:
        gauge = self._gauges[name].labels(*labels) if labels else self._gauges[name]
        gauge.set(shown(value))


def _paired(roles: Mapping[str, Role]) -> frozenset[str]:
    """Rewards whose correlations have series: the first of each role."""
    by_role = [[name for name, role in roles.items() if role == each] for each in ("train", "heldout")]
    return frozenset(name for names in by_role for name in names[:MAX_PAIRED])


def _clip_ratio(records: Records) -> float | None:
    """Share of the last record's transitions that were clipped on either side."""
    policy = records[-1].policy if records else None
    return min(1.0, policy.clip_low + policy.clip_high) if policy else None
