"""What the operator tells Prometheus of itself and of its jobs.

Who calls this: `__main__`, `reconcile.py` and `progress.py`. The only module that knows prometheus_client.
Counters and histograms never carry a job's name; series of a job are made at each scrape of what is known
then, so they end with the job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from g2rpo_api.status import Cause, JobStatus, Phase
from g2rpo_operator.world import Summary, moment

PREFIX = "g2rpo_operator_"
PHASES: tuple[Phase, ...] = (
    "Pending", "Queued", "Starting", "Running", "Restarting", "Suspending", "Suspended", "Succeeded", "Failed",
)  # fmt: skip
LOOK_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
START_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)

# Nobody asks when each series began.
disable_created_metrics()  # type: ignore[no-untyped-call]

KnownJobs = Callable[[], Iterable[Summary]]


class Metrics:
    """The registry and everything in it."""

    def __init__(self, jobs: KnownJobs = tuple) -> None:
        """`jobs` is asked at each scrape."""
        self.registry = CollectorRegistry()
        self._looks = self._counter("reconcile", "Looks at a job.", ("result",))
        self._errors = self._counter("reconcile_errors", "Looks that failed, by kind of error.", ("reason",))
        self._look_seconds = self._histogram("reconcile_duration_seconds", "Time of a look.", LOOK_SECONDS)
        self._wait_seconds = self._histogram("queue_wait_seconds", "Time from a wake-up to the look.", LOOK_SECONDS)
        self._requests = self._counter(
            "api_requests", "Requests to the API server, but for watches.", ("verb", "resource", "code")
        )
        self._start_seconds = self._histogram(
            "job_start_seconds", "Time from a job's first attempt to all its pods running.", START_SECONDS
        )
        self._recovery_seconds = self._histogram(
            "restart_recovery_seconds",
            "Time from the end of an attempt to all pods of the next running.",
            START_SECONDS,
        )
        self._restarts = self._counter("restarts", "Attempts that were followed by another, by cause.", ("reason",))
        for cause in Cause:
            # A series that appears with 1 has not grown, for all that increase() knows.
            self._restarts.labels(cause.value)
        self._polls = self._counter("progress_polls", "Questions to trainers about their progress.", ("result",))
        self.leader = self._gauge("leader", "Whether this replica acts.")
        self.queue_depth = self._gauge("queue_depth", "Jobs that wait to be looked at.")
        self.queue_stuck_seconds = self._gauge("queue_longest_look_seconds", "Age of the oldest look under way.")
        self.watch_silent_seconds = self._gauge(
            "watch_silent_seconds", "For how long a watch has owed what a list has shown.", ("resource",)
        )
        self.registry.register(JobSeries(jobs))

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(PREFIX + name, text, registry=self.registry, buckets=buckets)

    def count_look(self, waited_seconds: float, took_seconds: float, error: BaseException | None) -> None:
        """A look has ended."""
        self._looks.labels("error" if error else "ok").inc()
        self._wait_seconds.observe(waited_seconds)
        self._look_seconds.observe(took_seconds)
        if error:
            self._errors.labels(type(error).__name__).inc()

    def count_request(self, verb: str, resource: str, code: str) -> None:
        """A request to the API server has ended."""
        self._requests.labels(verb, resource, code).inc()

    def count_poll(self, result: str) -> None:
        """A trainer was asked for its progress: ok, failed or invalid."""
        self._polls.labels(result).inc()

    def observe_change(self, before: JobStatus, after: JobStatus, now: datetime) -> None:
        """A status was written."""
        failure = after.last_failure
        if failure is not None and after.restarts + after.disruptions > before.restarts + before.disruptions:
            self._restarts.labels(failure.reason).inc()
        if after.is_true("Running") and not before.is_true("Running"):
            if after.attempt == 1 and after.start_time is not None:
                self._start_seconds.observe((now - moment(after.start_time)).total_seconds())
            elif failure is not None and failure.attempt == after.attempt - 1:
                self._recovery_seconds.observe((now - moment(failure.time)).total_seconds())

    def page(self, accept: str) -> tuple[bytes, str]:
        """What a scrape gets, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class JobSeries(Collector):
    """Series about single jobs, as kube-state-metrics has them about its objects."""

    def __init__(self, jobs: KnownJobs) -> None:
        self._jobs = jobs

    def collect(self) -> Iterator[Metric]:
        """All of them as they are now."""
        names = ["namespace", "name"]
        info = InfoMetricFamily("g2rpo_job", "A job.", labels=names)
        # Not the other phases with 0: of ten thousand jobs they would be most of what is scraped.
        phase = GaugeMetricFamily("g2rpo_job_phase", "1 for the phase that a job is in.", labels=[*names, "phase"])
        reward = GaugeMetricFamily("g2rpo_job_reward", "Mean of a reward.", labels=[*names, "reward", "role"])
        iteration = GaugeMetricFamily("g2rpo_job_iteration", "Iteration that was finished last.", labels=names)
        gpu = CounterMetricFamily("g2rpo_job_gpu_seconds", "GPU time used so far.", labels=names)
        counts = dict.fromkeys(PHASES, 0)
        for job in self._jobs():
            place = [job.namespace, job.name]
            counts[job.phase] += 1
            info.add_metric(place, {"attempt": str(job.attempt), "image": job.image})
            phase.add_metric([*place, job.phase], 1)
            gpu.add_metric(place, job.gpu_seconds)
            if job.iteration is not None:
                iteration.add_metric(place, job.iteration)
            for entry, role, mean in job.rewards:
                reward.add_metric([*place, entry, role], mean)
        jobs = GaugeMetricFamily(PREFIX + "jobs", "Jobs by phase.", labels=["phase"])
        for candidate, count in counts.items():
            jobs.add_metric([candidate], count)
        yield from (info, phase, reward, iteration, gpu, jobs)
