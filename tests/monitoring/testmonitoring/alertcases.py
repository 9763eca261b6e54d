"""Series that an alert is for, and series that it must bear, in promtool's notation; one value a minute.

Who calls this: `test_alerts.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """What is scraped, and which alerts of one name fire at which minutes."""

    alert: str
    story: str
    series: Mapping[str, str]
    fires: Mapping[int, tuple[Labels, ...]]
    """By minute; nothing fires where there is nothing."""


def unknown(count: int) -> str:
    """So many NaN; promtool has no shorter way."""
    return " ".join(["NaN"] * count)


def trainer(name: str, job: str, attempt: int = 1, **labels: str) -> str:
    """A series of a trainer's first pod."""
    own = {"namespace": "a", "job_name": job, "pod": f"{job}-a{attempt}-0", "attempt": str(attempt), **labels}
    return series(f"g2rpo_trainer_{name}", **own)


def series(name: str, /, **labels: str) -> str:
    """As promtool reads it."""
    return f"{name}{{{','.join(f'{key}={chr(34)}{value}{chr(34)}' for key, value in labels.items())}}}"


def run(job: str, attempt: int = 1, **values: str) -> dict[str, str]:
    """Metrics of a run without labels of their own."""
    return {trainer(name, job, attempt): text for name, text in values.items()}


def rollout(job: str, mean: str, std: str, attempt: int = 1) -> dict[str, str]:
    """A trained reward during rollouts."""
    labels = {"reward": "r", "role": "train", "split": "anchor", "granularity": ""}
    return {trainer(f"reward_{n}", job, attempt, **labels): v for n, v in (("mean", mean), ("std", std))}


def evaluated(job: str, trained: str, held_out: str, prompts: int = 64) -> dict[str, str]:
    """Means at evaluations; scores spread by 0.4, so that those of 64 prompts are known to 0.05."""
    means = {"train": trained, "heldout": held_out}
    places = {role: {"reward": role[0], "role": role, "split": "eval", "granularity": ""} for role in means}
    return {trainer("evaluation_prompts", job, split="eval"): f"{prompts}x240"} | {
        trainer(f"reward_{name}", job, **places[role]): value
        for role, mean in means.items()
        for name, value in (("mean", mean), ("std", "0.4x240"))
    }


def steps(job: str, ended: str, count: str, attempt: int = 1, begun: str = "0x100") -> dict[str, str]:
    """Iterations of about a minute: when the last one ended, and how many there were."""
    buckets = {"30": "0x100", "60": count, "+Inf": count}
    last = run(job, attempt, last_step_timestamp_seconds=ended, iteration=count, iterations_planned="1000x200")
    last |= run(job, attempt, started_timestamp_seconds=begun)
    return last | {trainer("step_duration_seconds_bucket", job, attempt, le=le): v for le, v in buckets.items()}


def of(job: str, **labels: str) -> Labels:
    """Labels of an alert about a run."""
    return {"namespace": "a", "job_name": job, **labels}


LEARNING = (
    Case(
        "RewardCollapse",
        "one falls by three times the spread of its scores; one that restarts goes on",
        rollout("falls", "NaN 0.3+0.01x50 0.8x60 0.2x60", "NaN 0.2x170")
        | rollout("restarts", "NaN 0.3+0.01x50 stale", "NaN 0.2x50 stale")
        | rollout("restarts", "_x60 0.75x110", "_x60 0.2x110", attempt=2),
        {5: (), 70: (), 100: (), 145: (of("falls", reward="r"),)},
    ),
    Case(
        "RewardCollapse",
        "one breaks at its start, from a mean below the spread of its scores; not one that scores alike at the top",
        rollout("breaks", "NaN 0.11x20 0.005x150", "NaN 0.2x20 0.007x150")
        | rollout("arrives", "NaN 0.3+0.01x60 0.9x110", "NaN 0.4x60 0.01x110")
        | rollout("struggles", "NaN 0.11x20 0.04x150", "NaN 0.2x20 0.1x150"),
        {20: (), 70: (of("breaks", reward="r"),), 150: (of("breaks", reward="r"),)},
    ),
    Case(
        "RewardHackingSuspected",
        "the held-out reward falls while the trained one rises; not where both fall or rise, or few prompts say so",
        evaluated("hacks", "0.2x60 0.9x120", "0.6x60 0.36x120")
        | evaluated("luck", "0.2x60 0.9x120", "0.6x60 0.36x120", prompts=16)
        | evaluated("wavers", "0.2x60 0.9x120", "0.6x60 0.42x120")
        | evaluated("collapses", "0.9x60 0.2x120", "0.6x60 0.1x120")
        | evaluated("learns", "0.2x60 0.9x120", "0.1x60 0.6x120"),
        {50: (), 65: (), 150: (of("hacks", reward="h", role="heldout", split="eval"),)},
    ),
    Case(
        "ZeroStdGroups",
        "most groups score the same for long; a short time is nothing",
        run("flat", zero_std_group_ratio="NaN 0.5 0.9x60") | run("fine", zero_std_group_ratio="NaN 0.9x20 0.3x60"),
        {25: (), 40: (of("flat"),)},
    ),
    Case(
        "PolicyDrift",
        "half of the transitions are clipped, on both sides together; two attempts that overlap do not add up",
        {
            trainer("clip_ratio", "hot", side="low"): "NaN 0.1x10 0.3x50",
            trainer("clip_ratio", "hot", side="high"): "NaN 0.1x10 0.2x50",
            trainer("clip_ratio", "twice", side="low"): "0.25x60",
            trainer("clip_ratio", "twice", 2, side="low"): "0.25x60",
        },
        {15: (), 40: (of("hot"),)},
    ),
    Case(
        "NonFiniteSteps",
        "several, over a restart; one alone is nothing, and neither is a new attempt's zero",
        run("bad", nonfinite_steps_total="0x10 0+1x4 stale")
        | run("bad", 2, nonfinite_steps_total="_x17 0 0+1x4 4x30")
        | run("once", nonfinite_steps_total="0x10 1x60")
        | run("restarts", nonfinite_steps_total="0x10 stale")
        | run("restarts", 2, nonfinite_steps_total="_x12 0x60"),
        {8: (), 26: (of("bad"),), 70: ()},
    ),
)
RUNNING = (
    Case(
        "StepStalled",
        "one hangs; one starts, one goes on, one is suspended for long and taken up, one is over",
        steps("hangs", "NaN 60+60x20 1260x60", "0 1+1x20 21x60")
        | steps("starts", unknown(80), "0x80")
        | steps("goes", "0+60x80", "0+1x80")
        | steps("resumed", "0+60x20 stale", "0+1x20 stale")
        | steps("resumed", "_x58 1200x25", "_x58 20x25", attempt=2, begun="_x58 3480x25")
        | steps("over", "0+60x20 stale", "0+1x20 stale"),
        {25: (), 29: (), 45: (of("hangs"),), 62: (of("hangs"),)},
    ),
    Case(
        "StragglerRank",
        "one rank of four is slower; two that differ by a tenth are alike",
        {trainer("rank_compute_seconds", "lame", rank=str(n)): f"{s}x60" for n, s in enumerate((10, 10, 10.5, 15))}
        | {trainer("rank_compute_seconds", "even", rank=str(n)): f"{s}x60" for n, s in enumerate((10, 11))},
        {10: (), 20: (of("lame", rank="3"),)},
    ),
    Case(
        "CheckpointStale",
        "an old one, and none at all since the attempt began; one that saves is well, as is one that began lately",
        {
            name: values
            for job, saved, begun in (
                ("old", "NaN 600x400", "0x400"),
                ("never", unknown(400), "0x400"),
                ("saves", "0+60x400", "0x400"),
                ("young", f"_x230 {unknown(170)}", "_x230 13800x170"),
            )
            for name, values in run(
                job,
                checkpoint_last_success_timestamp_seconds=saved,
                started_timestamp_seconds=begun,
                iteration="5x400",
                iterations_planned="9x400",
            ).items()
        },
        {230: (), 270: (of("never"), of("old"))},
    ),
    Case(
        "PodRestarting",
        "four attempts within an hour; two, as two replicas of the operator tell of them, are nothing",
        {
            series("g2rpo_job_info", namespace="a", name="again", attempt=str(n), pod="o"): f"_x{10 * n + 1} 1x8 stale"
            for n in range(4)
        }
        | {
            series("g2rpo_job_info", namespace="a", name="twice", attempt=str(n), pod=pod): f"_x{10 * n + 1} 1x8 stale"
            for n in range(2)
            for pod in ("o", "p")
        },
        {25: (), 45: (of("again", name="again"),), 110: ()},
    ),
    Case(
        "RankDown",
        "a pod of a running job; not one of a job that is over, and nothing else that is scraped",
        {
            series("up", instance="1", namespace="a", job_name="j", attempt="1", pod="j0"): "1x30",
            series("up", instance="2", namespace="a", job_name="j", attempt="1", pod="j1"): "1x10 0x20",
            series("up", instance="3", namespace="a", job_name="k", attempt="1", pod="k0"): "1x10 0x20",
            series("up", instance="4", namespace="a", pod="other"): "0x30",
            series("g2rpo_job_phase", namespace="a", name="j", phase="Running"): "1x30",
            series("g2rpo_job_phase", namespace="a", name="k", phase="Succeeded"): "1x30",
        },
        {12: (), 20: (of("j", pod="j1"),)},
    ),
    Case(
        "GpuXid",
        "of a GPU in use, whether the scrape keeps the exporter's labels or not; not of others' GPUs",
        {
            series("DCGM_FI_DEV_XID_ERRORS", namespace="a", pod="p0", gpu="3", Hostname="n"): "0x5 79x10",
            series(
                "DCGM_FI_DEV_XID_ERRORS",
                namespace="monitoring", pod="dcgm", exported_namespace="a", exported_pod="p1", gpu="4", Hostname="n",
            ): "0x5 31x10",
            series("DCGM_FI_DEV_XID_ERRORS", namespace="a", pod="else", gpu="5", Hostname="n"): "79x15",
            series("up", instance="1", namespace="a", job_name="j", attempt="1", pod="p0"): "1x15",
            series("up", instance="2", namespace="a", job_name="j", attempt="1", pod="p1"): "1x15",
        },
        {
            4: (),
            8: tuple({"namespace": "a", "pod": f"p{n}", "gpu": str(3 + n), "Hostname": "n"} for n in range(2)),
        },
    ),
)  # fmt: skip
QUEUE, LOOKS = series("g2rpo_operator_queue_depth", pod="a"), series("g2rpo_operator_reconcile_total", pod="a")
LEADS_A, LEADS_B = (series("g2rpo_operator_leader", pod=pod) for pod in "ab")
OPERATING = (
    Case("OperatorDown", "nobody leads any more", {LEADS_A: "1x10 0x20", LEADS_B: "0x30"}, {10: (), 20: ({},)}),
    Case("OperatorDown", "another takes over", {LEADS_A: "1x10 stale", LEADS_B: "0x11 1x30"}, {10: (), 20: ()}),
    Case("OperatorDown", "none is scraped", {series("up", job="operator"): "0x30"}, {4: (), 10: ({},)}),
    Case("QueueStuck", "none is looked at", {QUEUE: "0x10 3x40", LOOKS: "0+5x10 50x40"}, {10: (), 35: ({},)}),
    Case("QueueStuck", "busy", {QUEUE: "30x40", LOOKS: "0+5x40"}, {35: ()}),
    Case(
        "QueueStuck",
        "a look that does not end",
        {series("g2rpo_operator_queue_longest_look_seconds", pod="a"): "1x10 60+60x30"},
        {10: (), 25: ({},)},
    ),
    Case(
        "QueueStuck",
        "a watch that delivers nothing",
        {series("g2rpo_operator_watch_silent_seconds", pod="a", resource="pods"): "0x10 400x30"},
        {10: (), 25: ({},)},
    ),
)
CASES = (*LEARNING, *RUNNING, *OPERATING)
