"""The Dockerfile against what it has to agree with: hadolint, the manifests, the operator's pods, the project files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from g2rpo_api import contract
from g2rpo_api.pods import SecurityContext

ROOT = Path(__file__).parents[2]
RESULTS = ("operator", "trainer")
INSTALLS = re.compile(r"\b(?:pip install|pip sync|uv build)\b[^&|;]*")
NAMED = re.compile(r"\$\{?(\w+)\}?")


@dataclass(frozen=True)
class Stage:
    """One FROM and what follows it: pairs of an instruction and its text."""

    name: str
    base: str
    steps: list[tuple[str, str]]

    def texts(self, instruction: str) -> list[str]:
        return [text for name, text in self.steps if name == instruction]


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    """By name."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    joined = "\n".join(line for line in lines if line and not line.startswith("#")).replace("\\\n", " ")
    found: list[Stage] = []
    for instruction, _, text in (line.partition(" ") for line in joined.splitlines()):
        if instruction == "FROM":
            base, _, name = text.partition(" AS ")
            found.append(Stage(name, base, []))
        elif found:
            found[-1].steps.append((instruction, text))
    return {stage.name: stage for stage in found}


@pytest.fixture(scope="module")
def deployment() -> dict[str, Any]:
    """The container of the operator's Deployment."""
    documents = yaml.safe_load_all((ROOT / "manifests/operator.yaml").read_text())
    pod = next(document for document in documents if document["kind"] == "Deployment")["spec"]["template"]["spec"]
    return {**pod["containers"][0], "user": pod["securityContext"]["runAsUser"]}


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """The stages whose layers are in a result, the first one last."""
    stage = stages[name]
    return [stage, *(lineage(stages, stage.base) if stage.base in stages else [])]


def last(stages: dict[str, Stage], name: str, instruction: str) -> str:
    """What holds in the result."""
    return next(text for stage in lineage(stages, name) for text in reversed(stage.texts(instruction)))


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--no-color", path], capture_output=True, text=True, check=False
    )


def test_hadolint_finds_nothing() -> None:
    done = hadolint(ROOT / "Dockerfile")
    assert (done.stdout, done.returncode) == ("", 0)


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN cd /tmp && sudo true\n")
    assert {"DL3003", "DL3004", "DL3006"} <= set(re.findall(r"DL\d+", hadolint(bad).stdout))


@pytest.mark.parametrize("script", ["base.sh", "site.sh"])
def test_scripts_are_shell(script: str) -> None:
    assert subprocess.run(["sh", "-n", ROOT / "docker" / script], check=False).returncode == 0


def test_bases_can_be_chosen(stages: dict[str, Stage]) -> None:
    foreign = {stage.base for stage in stages.values() if stage.base not in stages}
    assert foreign == {"${BASE}", "${TRAINER_BASE}"}


@pytest.mark.parametrize("result", RESULTS)
def test_user_is_the_one_of_the_pods(result: str, stages: dict[str, Stage], deployment: dict[str, Any]) -> None:
    security = SecurityContext()
    assert deployment["user"] == security.run_as_user
    assert last(stages, result, "USER") == f"{security.run_as_user}:{security.run_as_group}"
    assert stages[result].steps[-1][0] != "RUN"


def test_operator_starts_as_in_the_manifest(stages: dict[str, Stage], deployment: dict[str, Any]) -> None:
    assert json.loads(last(stages, "operator", "ENTRYPOINT")) == deployment["command"]
    assert int(last(stages, "operator", "EXPOSE")) == deployment["ports"][0]["containerPort"]
    assert deployment["livenessProbe"]["httpGet"]["path"] in last(stages, "operator", "HEALTHCHECK")


def test_trainer_starts_as_in_the_pods(stages: dict[str, Stage]) -> None:
    scripts = tomllib.loads((ROOT / "trainer/pyproject.toml").read_text())["project"]["scripts"]
    (entry,) = json.loads(last(stages, "trainer", "ENTRYPOINT"))
    assert entry in scripts
    assert f'"command": ["{entry}"]' in (ROOT / "operator/src/g2rpo_operator/render.py").read_text()
    assert int(last(stages, "trainer", "EXPOSE")) == contract.DEFAULT_PORT
    assert f"{contract.ENV_RUNS_DIR}={contract.RUNS_DIR}" in last(stages, "trainer", "ENV")
    (base,) = stages["trainer-base"].texts("RUN")
    assert {contract.RUNS_DIR, contract.CACHE_DIR} <= set(base.split())


def test_everything_installed_is_pinned_by_hash_or_ours(stages: dict[str, Stage]) -> None:
    commands = [text for stage in stages.values() for run in stage.texts("RUN") for text in INSTALLS.findall(run)]
    assert len(commands) == 7  # uv; our wheels; pins of both; extras; our wheels into both
    for command in commands:
        assert "--require-hashes" in command or {"--no-index", "--no-deps"} <= set(command.split()), command


@pytest.mark.parametrize("result", RESULTS)
def test_installers_only_visit(result: str, stages: dict[str, Stage]) -> None:
    """No layer of a result is made in, or copied from, a stage that holds pip and uv."""
    names = {stage.name for stage in lineage(stages, result)}
    copied = {
        match[1]
        for stage in lineage(stages, result)
        for text in stage.texts("COPY")
        for match in re.finditer(r"--from=(\S+)", text)
    }
    assert names == {result, f"{result}-pins", f"{result}-base"}
    assert copied == {f"{result}-own"}


@pytest.mark.parametrize("result", RESULTS)
def test_compiled_files_do_not_depend_on_times(result: str, stages: dict[str, Stage]) -> None:
    """Otherwise a layer whose times are set to the commit's would be compiled again at each start."""
    for stage in (stages[f"{result}-pins"], stages[f"{result}-own"]):
        assert re.search(r"compileall .*--invalidation-mode unchecked-hash", stage.texts("RUN")[-1])


@pytest.mark.parametrize("result", RESULTS)
def test_labels(result: str, stages: dict[str, Stage]) -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]*)"', last(stages, result, "LABEL")))
    project = tomllib.loads((ROOT / result / "pyproject.toml").read_text())["project"]
    assert labels["title"] == f"g2rpo/{result}"
    assert labels["description"] == project["description"]
    assert labels["licenses"] == project["license"]
    assert {NAMED.fullmatch(labels[name])[1] for name in ("version", "revision", "source", "created")} == {  # type: ignore[index]
        "VERSION", "REVISION", "SOURCE", "CREATED",
    }  # fmt: skip
    assert {match[1] for match in map(NAMED.fullmatch, labels.values()) if match} <= set(stages[result].texts("ARG"))


def test_context_is_what_is_copied(stages: dict[str, Stage]) -> None:
    """.dockerignore lets through what the Dockerfile copies or mounts, and no other top-level name."""
    copies = [text.split() for stage in stages.values() for text in stage.texts("COPY") if "--from" not in text]
    mounts = re.findall(r"type=bind,source=(\S+?),", (ROOT / "Dockerfile").read_text())
    wanted = {Path(source).parts[0] for words in copies for source in words[:-1]} | set(mounts)
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {Path(rule[1:]).parts[0] for rule in rules if rule.startswith("!")} == wanted
