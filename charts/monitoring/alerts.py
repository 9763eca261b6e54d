"""The alerts: what is wrong with a run or the operator, as rules of Prometheus.

Who calls this: `generate.py`.
A gauge of a trainer that has not measured yet is NaN or missing, and no comparison with it holds. `attempt` and `pod`
are aggregated away before anything is compared, so that a restart neither doubles a series nor begins it anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from monitoring.queries import OPERATOR, RUN, TRAINER, over

RUNBOOKS = "docs/troubleshoot.md"
"""Page with an entry for each alert, relative to the root of the project."""
TRAINED, EVALUATED = "g2rpo:trained_reward", "g2rpo:evaluated_reward"
STEP_SECONDS = "g2rpo:step_seconds:p50"
EVALUATION = (*RUN, "reward", "role", "split")
LABELLED = "{{ $labels.namespace }}/{{ $labels.job_name }}"
TRAINERS = 'up{job_name!="",attempt!=""}'
BEGUN = f"{TRAINER}started_timestamp_seconds"


@dataclass(frozen=True)
class Alert:
    """One rule; its entry in the runbook is named like it."""

    name: str
    expr: str
    lasts: str
    """For how long it must hold."""
    severity: str
    summary: str
    description: str

    def rule(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {
            "alert": f"G2RPO{self.name}",
            "expr": self.expr,
            "for": self.lasts,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{RUNBOOKS}#g2rpo{self.name.lower()}",
            },
        }


def _run(how: str, name: str, *by: str, selector: str = "") -> str:
    """A gauge of trainers per run, and per `by`."""
    return over(how, (*RUN, *by), f"{TRAINER}{name}{selector}")


def _since(name: str) -> str:
    """Seconds since a moment in the life of a run, or since its attempt began if that is later."""
    moments = f'{{__name__=~"{TRAINER}{name}|{BEGUN}"}}'
    return f"time() - {over('max', RUN, moments)}"


def _named_like_runs(expr: str) -> str:
    """The operator's series of jobs, with the label by which trainers call a job."""
    return f'label_replace({expr}, "job_name", "$1", "name", "(.+)")'


UNFINISHED = f"{_run('max', 'iteration')} < {_run('max', 'iterations_planned')}"
ROLLOUTS = '{role="train",split=~"anchor|branch"}'
BUCKETS = f"rate({TRAINER}step_duration_seconds_bucket[10m])"
EVALUATIONS = '{split=~"eval|unseen"}'
RECORDS = {
    f"{TRAINED}:mean": _run("avg", "reward_mean", "reward", selector=ROLLOUTS),
    f"{TRAINED}:std": _run("avg", "reward_std", "reward", selector=ROLLOUTS),
    f"{EVALUATED}:mean": over("max", EVALUATION, f"{TRAINER}reward_mean{EVALUATIONS}"),
    f"{EVALUATED}:error": f"{over('max', EVALUATION, f'{TRAINER}reward_std{EVALUATIONS}')}"
    f" / on (namespace, job_name, split) group_left () sqrt({_run('max', 'evaluation_prompts', 'split')})",
    f"{TRAINED}:mean15m": f"avg_over_time({TRAINED}:mean[15m])",
    f"{TRAINED}:std15m": f"avg_over_time({TRAINED}:std[15m])",
    STEP_SECONDS: f"histogram_quantile(0.5, {over('sum', (*RUN, 'le'), BUCKETS)})",
}
"""Series that alerts look back on; in the order of evaluation."""


def _surely(role: str, sign: str, extreme: str) -> str:
    """An evaluation's mean is three standard errors of the difference away from the best, or worst, of a day."""
    mean, error = (f'{EVALUATED}:{name}{{role="{role}"}}' for name in ("mean", "error"))
    doubt = f"sqrt({error} ^ 2 + max_over_time({error}[1d]) ^ 2)"
    relation = "<" if sign == "-" else ">"
    return f"{mean} {relation} {extreme}_over_time({mean}[1d]) {sign} 3 * {doubt}"


HELD_OUT_FELL, TRAINED_ROSE = _surely("heldout", "-", "max"), _surely("train", "+", "min")
FELL_BY = f"{TRAINED}:mean15m < max_over_time({TRAINED}:mean15m[6h]) - {{}} * max_over_time({TRAINED}:std[6h])"
ALL_ALIKE = f"{TRAINED}:std15m < 0.25 * max_over_time({TRAINED}:std15m[6h])"
"""Of a run that breaks early: it has no height to fall from, but its pictures score alike afterwards."""
CLIPPED = over("sum", RUN, _run("max", "clip_ratio", "side"))
SLOWNESS = _run("max", "rank_compute_seconds", "rank")
MEDIAN_RANK = f"quantile by (namespace, job_name) (0.5, {SLOWNESS})"
ATTEMPTS = over("count", ("namespace", "name", "attempt"), "last_over_time(g2rpo_job_info[1h])")
RUNNING = over("max", ("namespace", "name"), 'g2rpo_job_phase{phase="Running"}')
XID = (
    'label_replace(label_replace(DCGM_FI_DEV_XID_ERRORS, "pod", "$1", "exported_pod", "(.+)"),'
    ' "namespace", "$1", "exported_namespace", "(.+)")'
)

LEARNING = (
    Alert(
        "RewardCollapse",
        f"({FELL_BY.format(1)}) or ({FELL_BY.format(0.25)} and {ALL_ALIKE})",
        "10m",
        "warning",
        f"{LABELLED}: the trained reward {{{{ $labels.reward }}}} collapsed.",
        "Its mean over 15 minutes is {{ $value | humanize }}, below the best of the last 6 hours by more than a"
        " standard deviation of the scores, or by a quarter of one while all pictures score alike. Look at them.",
    ),
    Alert(
        "RewardHackingSuspected",
        f"({HELD_OUT_FELL}) and on (namespace, job_name, split) ({TRAINED_ROSE})",
        "10m",
        "warning",
        f"{LABELLED}: a trained reward rises while the held-out {{{{ $labels.reward }}}} falls.",
        "Within a day (split {{ $labels.split }}) both moved by more than chance explains, given the number of prompts;"
        " the held-out reward is at {{ $value | humanize }}.",
    ),
    Alert(
        "ZeroStdGroups",
        f"{_run('max', 'zero_std_group_ratio')} > 0.8",
        "30m",
        "warning",
        f"{LABELLED}: most groups teach nothing.",
        "In {{ $value | humanizePercentage }} of the groups all members score the same, so they have no advantage.",
    ),
    Alert(
        "PolicyDrift",
        f"{CLIPPED} > 0.4",
        "10m",
        "warning",
        f"{LABELLED}: updates go too far.",
        "The clip range cuts the gradient of {{ $value | humanizePercentage }} of the transitions.",
    ),
    Alert(
        "NonFiniteSteps",
        f"{over('sum', RUN, f'increase({TRAINER}nonfinite_steps_total[30m])')} > 1.5",
        "0m",
        "warning",
        f"{LABELLED}: optimizer steps are skipped.",
        "About {{ $value | humanize }} steps in 30 minutes had a loss or gradient that was not finite.",
    ),
)
RUNNING_WELL = (
    Alert(
        "StepStalled",
        f"({_since('last_step_timestamp_seconds')} > 300 + 5 * max_over_time({STEP_SECONDS}[6h]))"
        f" and on (namespace, job_name) ({UNFINISHED})",
        "5m",
        "critical",
        f"{LABELLED}: no iteration ends.",
        "The last one ended {{ $value | humanizeDuration }} ago, much longer than iterations took before.",
    ),
    Alert(
        "StragglerRank",
        f"{SLOWNESS} > on (namespace, job_name) group_left () 1.25 * {MEDIAN_RANK}",
        "15m",
        "warning",
        f"{LABELLED}: rank {{{{ $labels.rank }}}} is slower than the others.",
        "Its rollouts take {{ $value | humanizeDuration }}, a quarter more than the median of the ranks, and all wait.",
    ),
    Alert(
        "CheckpointStale",
        f"({_since('checkpoint_last_success_timestamp_seconds')} > 4 * 3600)"
        f" and on (namespace, job_name) ({UNFINISHED})",
        "10m",
        "warning",
        f"{LABELLED}: no checkpoint for hours.",
        "The last one, or the beginning of the attempt, was {{ $value | humanizeDuration }} ago; a restart would lose"
        " the work since then.",
    ),
    Alert(
        "PodRestarting",
        _named_like_runs(over("count", ("namespace", "name"), ATTEMPTS)) + " > 3",
        "0m",
        "warning",
        f"{LABELLED}: the job begins again and again.",
        "It had {{ $value }} attempts within an hour.",
    ),
    Alert(
        "RankDown",
        f"{over('min', (*RUN, 'pod'), TRAINERS)} == 0"
        f" and on (namespace, job_name) {_named_like_runs(RUNNING + ' == 1')}",
        "3m",
        "critical",
        f"{LABELLED}: pod {{{{ $labels.pod }}}} does not answer.",
        "The job is Running, and the pod's metrics cannot be scraped.",
    ),
    Alert(
        "GpuXid",
        f"{over('max', ('namespace', 'pod', 'gpu', 'Hostname'), XID)} > 0"
        f" and on (namespace, pod) {over('max', ('namespace', 'pod'), TRAINERS)}",
        "0m",
        "warning",
        "{{ $labels.namespace }}/{{ $labels.pod }}: GPU {{ $labels.gpu }} of {{ $labels.Hostname }} reported an error.",
        "The driver's last error of this GPU is Xid {{ $value }}.",
    ),
)
OPERATING = (
    Alert(
        "OperatorDown",
        f"absent({OPERATOR}leader) or max({OPERATOR}leader) < 1",
        "5m",
        "critical",
        "No operator looks after the jobs.",
        "No replica leads, or none is scraped. Training goes on; nothing is started, restarted or ended.",
    ),
    Alert(
        "QueueStuck",
        f"max({OPERATOR}queue_longest_look_seconds) > 120"
        f" or max({OPERATOR}watch_silent_seconds) > 300"
        f" or (max({OPERATOR}queue_depth) > 0 and on () sum(rate({OPERATOR}reconcile_total[10m])) == 0)",
        "5m",
        "critical",
        "The operator does not get on with its jobs.",
        "A look at a job takes minutes, a watch delivers nothing, or jobs wait and none is looked at.",
    ),
)
ALERTS = (*LEARNING, *RUNNING_WELL, *OPERATING)


def rules() -> dict[str, Any]:
    """A rule file of Prometheus."""
    groups: dict[str, list[dict[str, Any]]] = {
        "g2rpo-series": [{"record": name, "expr": expr} for name, expr in RECORDS.items()],
        "g2rpo-learning": [alert.rule() for alert in LEARNING],
        "g2rpo-running": [alert.rule() for alert in RUNNING_WELL],
        "g2rpo-operating": [alert.rule() for alert in OPERATING],
    }
    return {"groups": [{"name": name, "rules": members} for name, members in groups.items()]}
