"""What operator, pods and people rely on does not change by accident."""

from __future__ import annotations

import os
import subprocess
import sys

from g2rpo_api import contract
from g2rpo_api.contract import ExitCode


def test_exit_codes() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0,
        "BUG": 1,
        "INVALID_SPEC": 2,
        "MISSING_DATA": 3,
        "REWARD_FAILED": 4,
        "DIVERGED": 5,
        "STORAGE": 6,
        "PEER_LOST": 7,
        "OUT_OF_MEMORY": 8,
        "CHECKPOINTED": 75,
    }


def test_a_checkpointed_exit_is_the_systems_temporary_failure() -> None:
    assert int(ExitCode.CHECKPOINTED) == os.EX_TEMPFAIL


def test_a_process_ends_with_its_code() -> None:
    program = "import sys; from g2rpo_api.contract import ExitCode; sys.exit(ExitCode.DIVERGED)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 5


def test_the_run_folder() -> None:
    names = {name: value for name, value in vars(contract).items() if name.startswith("RUN_")}
    assert names == {
        "RUN_JOB": "job.yaml",
        "RUN_OWNER": "owner",
        "RUN_METRICS": "metrics.jsonl",
        "RUN_CURVE_CSV": "curve.csv",
        "RUN_CURVE_SVG": "curve.svg",
        "RUN_SAMPLES": "samples",
        "RUN_CHECKPOINTS": "checkpoints",
        "RUN_TEXTS": "texts",
        "RUN_TENSORBOARD": "tensorboard",
        "RUN_WANDB": "wandb",
        "RUN_EXPORT": "export",
        "RUN_REPORT": "report.html",
        "RUN_LOG": "log.jsonl",
    }


def test_port_and_environment() -> None:
    assert contract.DEFAULT_PORT == 9464
    assert (contract.ENV_RUNS_DIR, contract.ENV_PORT) == ("G2RPO_RUNS_DIR", "G2RPO_PORT")


def test_the_api_is_light() -> None:
    heavy = {"torch", "numpy", "diffusers", "transformers", "kopf", "kubernetes", "prometheus_client"}
    program = f"import sys, g2rpo_api.parse, g2rpo_api.contract; print(sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
