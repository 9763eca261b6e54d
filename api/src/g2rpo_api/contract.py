"""What operator, pods and trainer agree on: exit codes, labels, ports, environment, paths, names in the run folder."""

from __future__ import annotations

from enum import IntEnum

GROUP = "g2rpo.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "G2RPOJob"
PLURAL = "g2rpojobs"


class ExitCode(IntEnum):
    """How a trainer process ends."""

    OK = 0
    """The run is over, at its last iteration or as a rule or a person asked."""
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
    PEER_LOST = 7
    """Another rank is gone, so this one could not go on either: it is never the cause."""
    OUT_OF_MEMORY = 8
    """Memory of a GPU, or of the machine, was not enough; 137 where the kernel noticed first."""
    CHECKPOINTED = 75
    """Stopped by SIGTERM after saving; start again to continue (EX_TEMPFAIL of sysexits.h)."""


DEFAULT_PORT = 9464
"""Port of /metrics, /progress, /healthz and the curve of the trainer."""
PATH_PROGRESS = "/progress"
"""A `ProgressReport`: how far the run is, as JSON."""
PATH_CURVE_CSV = "/curve.csv"
"""The reward curves so far."""
PATH_CURVE_SVG = "/curve.svg"
"""The same as a picture."""
PATH_REPORT = "/report.html"
"""The report on the run so far."""
MAX_PROGRESS_BYTES = 64 * 1024
"""Largest /progress document."""
MAX_TERMINATION_BYTES = 4096
"""What Kubernetes keeps of a termination message."""

LABEL_JOB = f"{GROUP}/job"
"""On everything the operator creates: the job's name."""
LABEL_JOB_UID = f"{GROUP}/job-uid"
"""The job's uid: a job that was deleted and created again under the same name has other children."""
LABEL_ATTEMPT = f"{GROUP}/attempt"
"""Number of the attempt, from 1."""
LABEL_QUEUE = "kueue.x-k8s.io/queue-name"
"""On a G2RPOJob: Kueue admits its attempts; copied to them, which are created suspended."""
MANAGER = "g2rpo-operator"
"""app.kubernetes.io/managed-by, and the reporting component of events."""

TRAINER = "g2rpo-trainer"
"""app.kubernetes.io/name of the pods that train."""
CONTAINER = "trainer"
PORT_NAME = "metrics"
CONFIG_DIR = "/etc/g2rpo"
"""Where pods find the ConfigMap of their attempt."""
CONFIG_JOB = "job.json"
"""Key in it: the job as the trainer reads it, with every default spelt out."""
CONFIG_STOP = "stop"
"""Key in it that appears when the job is asked to end early; the text says why."""
RUNS_DIR = "/runs"
"""Where pods find the volume of run folders."""
CACHE_DIR = "/cache"
"""Where pods keep compiled kernels and downloaded weights."""
TERMINATION_LOG = "/dev/termination-log"
MASTER_PORT = 29500
"""Port of rank 0 at which all ranks meet."""

ENV_RUNS_DIR = "G2RPO_RUNS_DIR"
"""Folder that holds the run folders, one per job name."""
ENV_PORT = "G2RPO_PORT"
"""Port to serve on instead of the default; 0 takes a free one."""
ENV_NODES = "G2RPO_NODES"
"""Number of pods (or machines) that train together; 1 when absent."""
ENV_NODE_RANK = "G2RPO_NODE_RANK"
"""Which of them this is, from 0."""
ENV_ATTEMPT = "G2RPO_ATTEMPT"
"""Number of the attempt as the operator counts; the run folder's own count when absent."""
ENV_STOP_FILE = "G2RPO_STOP_FILE"
"""File whose appearance asks to end early: checkpoint, evaluate, export, exit 0."""
ENV_TERMINATION_LOG = "G2RPO_TERMINATION_LOG"
"""File for the last word, a `TerminationReport`; none is written when absent."""
ENV_LINGER_SECONDS = "G2RPO_LINGER_SECONDS"
"""How long the finished first rank waits for its last numbers to be fetched; 0 when absent."""
RESERVED_ENV = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "NNODES", "MASTER_ADDR", "MASTER_PORT",
    "JOB_COMPLETION_INDEX",
)  # fmt: skip
"""Variables that tell a process its place; users may not set them."""
RESERVED_ENV_PREFIXES = ("G2RPO_", "PET_", "TORCHELASTIC_")

RUN_JOB = "job.yaml"
"""The job as it runs: every default spelt out."""
RUN_OWNER = "owner"
"""Which process writes the folder. One that finds another's name there has been replaced, and ends."""
RUN_METRICS = "metrics.jsonl"
"""One JSON object per iteration."""
RUN_CURVE_CSV = "curve.csv"
"""The reward curves."""
RUN_CURVE_SVG = "curve.svg"
"""The same as a picture."""
RUN_SAMPLES = "samples"
"""Folder of probe grids."""
RUN_CHECKPOINTS = "checkpoints"
"""Folder of training states, from which a run resumes."""
RUN_TEXTS = "texts"
"""Folder of encoded prompts; what is missing of it is encoded again."""
RUN_TENSORBOARD = "tensorboard"
"""Folder of TensorBoard's event files, where the job asks for them."""
RUN_WANDB = "wandb"
"""Folder of Weights & Biases, where the job asks for it."""
RUN_EXPORT = "export"
"""Folder that diffusers loads."""
RUN_REPORT = "report.html"
"""Curves, pictures, settings and timing on one page that needs no other file."""
RUN_LOG = "log.jsonl"
"""One JSON object per line of the log."""
