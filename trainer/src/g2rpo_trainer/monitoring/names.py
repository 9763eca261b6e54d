"""Names, texts and labels of the metrics.

Who calls this: `telemetry.py`, which sets them, and `docs/metrics.py`, which tells people of them.
"""

from __future__ import annotations

PREFIX = "g2rpo_trainer_"
RANGE_LABELS = ("reward", "role", "split")
REWARD_LABELS = (*RANGE_LABELS, "granularity")
Described = tuple[str, tuple[str, ...]]
"""What it is, and the names of its labels."""
INFO: Described = ("What runs.", ("job_name", "attempt", "world_size", "method", "model", "version"))
POD_GAUGES: dict[str, Described] = {
    "started_timestamp_seconds": ("Unix time at which the process of this attempt began.", ()),
    "beat_timestamp_seconds": ("Unix time at which the loop was last seen alive.", ()),
    "rank_compute_seconds": ("Seconds of the last rollout, with decoding and rewards, by rank.", ("rank",)),
    "collective_wait_seconds": ("Seconds from then until the slowest rank was done, by rank.", ("rank",)),
    "memory_bytes": (
        "Memory of a rank after an iteration by kind: resident; of a GPU also allocated, reserved, and peak so far.",
        ("rank", "kind"),
    ),
}
"""Of every pod, about its own ranks."""
GAUGES: dict[str, Described] = {
    "iteration": ("Iteration that was finished last; 0 is the evaluation before training.", ()),
    "iterations_planned": ("Iterations that the job asks for.", ()),
    "eta_seconds": ("Expected seconds until the last iteration.", ()),
    "last_step_timestamp_seconds": ("Unix time at which the last iteration ended.", ()),
    "learning_rate": ("Learning rate of the last update.", ()),
    "grad_norm": ("Gradient norm before clipping, mean over the iteration's optimizer steps.", ()),
    "loss": ("Loss of the last iteration by term: surrogate or kl.", ("term",)),
    "reward_mean": ("Mean score; granularity is empty but for branches.", REWARD_LABELS),
    "reward_std": ("Standard deviation of the scores.", REWARD_LABELS),
    "reward_min": ("Lowest score of an iteration's anchors, or else branches, and of an eval.", RANGE_LABELS),
    "reward_max": ("Highest score of the same pictures.", RANGE_LABELS),
    "reward_correlation": (
        "Correlation: of trained rewards within groups (split branch), of a trained and a held-out one at evaluations.",
        ("pair", "split"),
    ),
    "evaluation_prompts": ("Prompts of the last evaluation, a picture each.", ("split",)),
    "zero_std_group_ratio": ("Share of normalised cells whose members all scored the same.", ()),
    "group_std_mean": ("Standard deviation of the weighted reward within a group, mean over steps.", ()),
    "advantage_mean": ("Mean advantage.", ()),
    "advantage_std": ("Standard deviation of the advantages.", ()),
    "advantage_absmax": ("Largest absolute advantage.", ()),
    "advantage_clipped_ratio": ("Share of advantages that the clamp cut.", ()),
    "ratio_mean": ("Mean importance ratio.", ()),
    "ratio_std": ("Standard deviation of the importance ratio.", ()),
    "clip_ratio": ("Share of transitions whose gradient the clip range cuts, by side: low or high.", ("side",)),
    "approx_kl": ("Mean of (r - 1) - ln r, nats per element.", ()),
    "step_reward_std": ("Standard deviation of the reward within a group, by stochastic step.", ("k",)),
    "step_clip_ratio": ("Share of clipped transitions, by stochastic step.", ("k",)),
    "step_loss": ("Surrogate loss, by stochastic step.", ("k",)),
    "step_ratio_absdev": ("Mean of |r - 1|, by stochastic step.", ("k",)),
    "image_saturation": ("Colourfulness of the pictures, 0 to 1, by split: rollout, eval or unseen.", ("split",)),
    "image_brightness": ("Mean brightness of the pictures, 0 to 1.", ("split",)),
    "image_contrast": ("Standard deviation of the brightness within a picture.", ("split",)),
    "image_lattice": ("Share of the contrast that repeats from one of the model's patches to the next.", ("split",)),
    "image_diversity": (
        "Mean distance between pictures: of one prompt in a rollout, of all prompts in an evaluation.",
        ("split",),
    ),
    "phase_duration_seconds": ("Seconds of the last iteration by phase; 0 where it had none.", ("phase",)),
    "mfu_ratio": (
        "Share of the card's speed in bfloat16 that the last iteration reached, without evaluation and checkpoint.",
        ("card",),
    ),
    "checkpoint_last_success_timestamp_seconds": ("Unix time of the last checkpoint, of whichever attempt.", ()),
    "checkpoint_duration_seconds": ("Seconds that the last checkpoint took.", ()),
}
COUNTERS: dict[str, Described] = {
    "images_total": ("Pictures decoded and scored for training, over all ranks, by this attempt.", ()),
    "nfe_total": ("Rows through the transformer without gradient, over all ranks, by this attempt.", ()),
    "nonfinite_steps_total": ("Optimizer steps skipped for a loss or gradient that was not finite.", ()),
    "reward_calls_total": (
        "Batches that a reward was asked about, over all ranks, by result: ok, unscored (in part), invalid or failed.",
        ("reward", "result"),
    ),
    "restarts_total": ("Attempts before this one.", ()),
}
HISTOGRAMS: dict[str, tuple[Described, tuple[float, ...]]] = {
    "step_duration_seconds": (
        ("Wall time of an iteration.", ()),
        (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800),
    ),
    "reward_latency_seconds": (
        ("Time until a reward answered about a batch of pictures, or failed.", ("reward",)),
        (0.03, 0.1, 0.3, 1, 5, 30),
    ),
}
