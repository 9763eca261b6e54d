"""What operator, pods and trainer agree on: exit codes, ports, environment, names in the run folder."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a trainer process ends."""

    OK = 0
    BUG = 1
    """Anything without a code of its own; the traceback is in the log."""
    INVALID_SPEC = 2
    """The job cannot be right; trying again cannot help."""
    MISSING_DATA = 3
    """The model, the prompts or another file is missing or unreadable."""
    REWARD_FAILED = 4
    """A reward with onFailure Fail raised or gave a non-finite score."""
    DIVERGED = 5
    """Too many consecutive steps with a non-finite loss or gradient."""
    STORAGE = 6
    """The run folder cannot be written: no space, no permission."""
    CHECKPOINTED = 75
    """Stopped by SIGTERM after saving; start again to continue (EX_TEMPFAIL of sysexits.h)."""


DEFAULT_PORT = 9464
"""Port of /metrics, /progress and /healthz of the trainer."""

ENV_RUNS_DIR = "G2RPO_RUNS_DIR"
"""Folder that holds the run folders, one per job name."""
ENV_PORT = "G2RPO_PORT"
"""Port to serve on instead of the default; 0 takes a free one."""

RUN_JOB = "job.yaml"
"""The job as it runs: every default spelt out."""
RUN_METRICS = "metrics.jsonl"
"""One JSON object per iteration."""
RUN_CURVE_CSV = "curve.csv"
RUN_CURVE_SVG = "curve.svg"
RUN_SAMPLES = "samples"
"""Folder of probe grids."""
RUN_CHECKPOINTS = "checkpoints"
RUN_EXPORT = "export"
"""Folder that diffusers loads."""
RUN_REPORT = "report.html"
RUN_LOG = "log.jsonl"
