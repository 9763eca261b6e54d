"""`g2rpo-train --check` as people start it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from g2rpo_api.contract import ExitCode

SAMPLES = Path(__file__).parents[3] / "manifests" / "samples"


def check(job: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "g2rpo_trainer", "--check", *options, str(job)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=job.parent, check=False)


def written(folder: Path, sample: str, changes: dict[str, Any]) -> Path:
    document = yaml.safe_load((SAMPLES / f"{sample}.yaml").read_text())
    for name, section in changes.items():
        document["spec"]["training"].setdefault(name, {}).update(section)
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.slow
def test_a_job_is_tried_in_every_part(tmp_path: Path) -> None:
    done = check(written(tmp_path, "miniature-g2rpo", {}), "--deep", "--output", "json", "--gpu-memory", "1GiB")
    assert done.returncode == ExitCode.OK, done.stderr
    findings = {finding["key"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert {finding["level"] for finding in findings.values()} == {"OK"}
    assert findings.keys() >= {
        "memory of a rank", "loading", "tokenizer", "tokenizer_3", "VAE", "first update",
        "spec.training.rewards[name=paddle-ocr]", "spec.training.rewards[name=dddd-ocr]",
    }  # fmt: skip
    assert "ratio within" in findings["first update"]["reason"]
    assert not (tmp_path / "runs").exists(), "a check-up leaves nothing"


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["80GiB", "16GiB"])
def test_a_published_model_is_judged_before_it_is_downloaded(memory: str, tmp_path: Path) -> None:
    done = check(written(tmp_path, "sd35-ocr-lora", {}), "--output", "json", "--gpu-memory", memory)
    findings = json.loads(done.stdout)["findings"]
    (told,) = (finding for finding in findings if finding["key"] == "memory of a rank")
    assert told["level"] == ("OK" if memory == "80GiB" else "Error")
    missing = [finding["key"] for finding in findings if finding["exit_code"] == ExitCode.MISSING_DATA]
    assert missing == ["spec.training.prompts.path", "spec.training.evaluation.promptsPath"]
    assert done.returncode == ExitCode.MISSING_DATA


@pytest.mark.slow
def test_a_table_for_people_has_plan_memory_and_findings(tmp_path: Path) -> None:
    done = check(written(tmp_path, "miniature-g2rpo", {"tracking": {"wandb": {}}}))
    assert done.returncode == ExitCode.OK
    for shown in (
        "each iteration",
        "memory of a rank",
        "most at once",
        "check-up",
        "Warning  spec.training.tracking.wandb",
    ):
        assert shown in done.stdout


def test_a_size_that_is_none_is_refused(tmp_path: Path) -> None:
    done = check(written(tmp_path, "miniature-g2rpo", {}), "--gpu-memory", "eighty")
    assert done.returncode == ExitCode.INVALID_SPEC
    assert "write one such as 80GiB" in done.stderr
