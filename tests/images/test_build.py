"""Which tool builds, how it is called, and what becomes of files: with docker, podman and buildah that only note down.

The real ones build in tests/e2e/.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = version("g2rpo-operator")
# Notes how it was called. "podman pull" prints the file of that name in FAKES, and fails where there is none.
FAKE = """#!/bin/sh
name=${0##*/}
echo "$name $*" >>"$FAKES/log"
case "$name $1" in
    *" build") test ! -e "$FAKES/broken" ;;
    "buildah push") printf '%s' "$3" >"$(expr "$4" : 'docker-archive:\\(.*\\):docker.io')" ;;
    "buildah --version") ;;
    *) cat "$FAKES/$name $1" ;;
esac
"""


@dataclass(frozen=True)
class Machine:
    """One that has some container tools."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "a home"

    def has(self, *tools: str) -> None:
        for tool in tools:
            (self.folder / tool).write_text(FAKE)
            (self.folder / tool).chmod(0o755)

    def answers(self, command: str, text: str = "") -> None:
        """The command succeeds from now on."""
        (self.folder / command).write_text(text)

    def images(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the program on it."""
        variables = {"PATH": str(self.folder), "FAKES": str(self.folder), "HOME": str(self.home), **environment}
        return subprocess.run(
            [sys.executable, "-m", "images", *arguments],
            env=variables | {"PYTHONPATH": str(ROOT / "docker"), "SOURCE_DATE_EPOCH": "86400"},
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    def builds(self) -> list[str]:
        return [call for call in self.calls() if call.split()[1] == "build"]

    def archives(self) -> list[Path]:
        return sorted((self.home / ".cache/g2rpo/images").iterdir())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for tool in ("sh", "cat", "expr"):
        (tmp_path / tool).symlink_to(f"/bin/{tool}" if Path(f"/bin/{tool}").exists() else f"/usr/bin/{tool}")
    return Machine(tmp_path)


def test_docker_builds_where_its_daemon_has_the_base(machine: Machine) -> None:
    machine.has("docker", "podman", "buildah", "mmdebstrap")
    machine.answers("docker image", "null\n")
    assert machine.images("build").returncode == 0
    assert [call.split()[0] for call in machine.builds()] == ["docker", "docker"]


def test_docker_without_a_daemon_is_passed_over_and_podman_pulls_the_base(machine: Machine) -> None:
    machine.has("docker", "podman", "buildah", "mmdebstrap")
    machine.answers("podman image")  # no such image, but podman works
    machine.answers("podman pull")
    assert machine.images("build", "operator").returncode == 0
    (build,) = machine.builds()
    assert build.startswith("podman build ")
    assert "--timestamp 315532800 " in build  # 1980, not the commit's: layers outlive commits


@pytest.mark.parametrize("labels", ["", '{"dev.g2rpo.stand-in":"true"}'])
def test_buildah_builds_where_no_registry_answers(labels: str, machine: Machine) -> None:
    """A stand-in is in podman's store, too, since it is buildah's: it must not count as the base."""
    machine.has("docker", "podman", "buildah", "mmdebstrap")
    machine.answers("podman image", labels)
    machine.answers("buildah inspect", "0123456789abcdef\n")
    done = machine.images("build", "operator")
    assert done.returncode == 0, done.stderr
    (build,) = machine.builds()
    assert build.startswith("buildah build ")
    assert "--pull-never" in build
    assert "building operator with buildah" in done.stderr


def test_what_is_missing_is_named(machine: Machine) -> None:
    machine.has("buildah")
    done = machine.images("build")
    assert done.returncode == 1
    assert "apt-get install mmdebstrap " in done.stderr
    assert machine.builds() == []


def test_arguments_of_a_build(machine: Machine) -> None:
    machine.has("docker")
    machine.answers("docker image", "null\n")
    machine.images(
        "build", "trainer", "--base", "base.example/python@sha256:12", "--trainer-base", "cuda.example/devel",
        "--extras", "wandb", "--repository", "registry.example/team", "--no-cache",
    )  # fmt: skip
    (build,) = machine.builds()
    for words in (
        "--build-arg BASE=base.example/python@sha256:12 ", "--build-arg TRAINER_BASE=cuda.example/devel ",
        "--build-arg EXTRAS=wandb ", f"--build-arg VERSION={VERSION} ",
        "--build-arg CREATED=1970-01-02T00:00:00Z ", "--no-cache ", "--target trainer ",
        f"--tag registry.example/team/trainer:{VERSION} ",
    ):  # fmt: skip
        assert words in build


def test_secrets_are_gone_after_a_build_that_failed(machine: Machine, tmp_path: Path) -> None:
    machine.has("docker")
    machine.answers("docker image", "null\n")
    machine.answers("broken")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = machine.images("build", "operator", TMPDIR=str(temporary), UV_DEFAULT_INDEX="https://secret@index.example")
    assert done.returncode == 1
    assert "docker could not build operator" in done.stderr
    (build,) = machine.builds()
    assert f"--secret id=environment,src={temporary}{os.sep}" in build
    assert "secret@" not in build
    assert list(temporary.iterdir()) == []


def test_unknown_target_is_refused(machine: Machine) -> None:
    done = machine.images("build", "operater")
    assert done.returncode == 2
    assert "there are operator and trainer" in done.stderr


def test_an_image_is_written_once(machine: Machine) -> None:
    machine.has("buildah")
    machine.answers("buildah inspect", "1" * 64 + "\n")
    first, second = machine.images("archive", "operator"), machine.images("archive", "operator")
    assert first.stdout == second.stdout
    assert first.stdout.strip() == str(machine.archives()[0])
    assert len([call for call in machine.calls() if call.startswith("buildah push")]) == 1
    assert machine.archives()[0].read_text() == f"docker.io/g2rpo/operator:{VERSION}"


def test_a_new_image_replaces_the_old_ones_file_but_no_other_targets(machine: Machine) -> None:
    machine.has("buildah")
    machine.answers("buildah inspect", "1" * 64)
    machine.images("archive", "operator")
    machine.images("archive", "trainer")
    machine.answers("buildah inspect", "2" * 64)
    machine.images("archive", "operator")
    assert [path.name for path in machine.archives()] == [f"operator-{'2' * 16}.tar", f"trainer-{'1' * 16}.tar"]


def test_an_image_that_cannot_be_written_leaves_nothing(machine: Machine) -> None:
    machine.has("docker")
    machine.answers("docker image", "sha256:" + "3" * 64)
    fake = machine.folder / "docker"
    fake.write_text(
        fake.read_text().replace("*)", '"docker image") test "$2" = inspect && cat "$FAKES/$name $1" ;;\n    *)')
    )
    done = machine.images("archive", "trainer")
    assert done.returncode == 1
    assert "docker image save --output" in done.stderr
    assert machine.archives() == []


def test_no_image_no_file(machine: Machine) -> None:
    done = machine.images("archive", "operator")
    assert done.returncode == 1
    assert "`make images` builds it" in done.stderr
