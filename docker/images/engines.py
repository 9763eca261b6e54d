"""docker, podman and buildah: build a target, say which image a name is, write an image to a file.

Who calls this: `__main__.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from images import facts
from images.facts import ask

STAND_IN = "dev.g2rpo.stand-in"
"""Label of an image that this program made in place of a registry's."""
FILE_TIME = 315532800
"""1980-01-01, the time of all files: a layer is the same, and need not be fetched again, whatever the commit."""


class CannotBuildError(Exception):
    """No image can be made here; the message says what is missing."""


@dataclass(frozen=True)
class Recipe:
    """One target of the Dockerfile and all that decides what becomes of it."""

    target: str
    name: str
    arguments: Mapping[str, str]
    secrets: Mapping[str, Path] = field(default_factory=dict)
    cached: bool = True
    """Whether steps that were built before need not be built again."""

    @property
    def options(self) -> list[str]:
        """What all engines understand."""
        pairs = [f"{name}={value}" for name, value in self.arguments.items()]
        files = [f"id={name},src={path}" for name, path in self.secrets.items()]
        options = [part for pair in pairs for part in ("--build-arg", pair)]
        options += [part for secret in files for part in ("--secret", secret)]
        options += [] if self.cached else ["--no-cache"]
        return [*options, "--target", self.target, "--tag", self.name, str(facts.ROOT)]


@dataclass(frozen=True)
class Engine:
    """A container tool, by the commands that differ."""

    name: str
    build: Sequence[str]
    identify: Sequence[str]
    save: Sequence[str]
    """With a {path} and the image's {name}."""
    timestamp: bool = True
    """Whether it takes the time of files as an option; docker reads an image's from the environment."""

    def build_image(self, recipe: Recipe) -> None:
        """Make the target and give it its name; what happens is shown."""
        times = ["--timestamp", str(FILE_TIME)] if self.timestamp else []
        # The tool's own progress goes where messages go: what this program prints on stdout is for programs.
        command = [self.name, *self.build, *times, *recipe.options]
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(facts.source_date_epoch()), "DOCKER_BUILDKIT": "1"}
        done = subprocess.run(command, stdout=2, check=False, env=environment)
        if done.returncode != 0:
            raise CannotBuildError(f"{self.name} could not build {recipe.target}; what it said is above.")

    def image_id(self, name: str) -> str | None:
        """Digest of an image, or None where there is none of that name."""
        found = ask(self.name, *self.identify, name)
        return found.removeprefix("sha256:") if found else None

    def save_image(self, name: str, path: Path) -> None:
        """The image in a file that `ctr images import`, `docker load`, `podman load` and syft read, not compressed."""
        command = [self.name, *(part.format(path=path, name=name) for part in self.save)]
        subprocess.run(command, stdout=2, check=True)


DOCKER = Engine(
    "docker",
    ("build",),
    ("image", "inspect", "--format", "{{.Id}}"),
    ("image", "save", "--output", "{path}", "{name}"),
    timestamp=False,
)
PODMAN = Engine(
    "podman",
    ("build", "--layers", "--force-rm", "--format", "docker"),
    ("image", "inspect", "--format", "{{.Id}}"),
    ("image", "save", "--quiet", "--format", "docker-archive", "--output", "{path}", "{name}"),
)
# Without a registry, a daemon and a kernel that lets containers nest: chroot is the isolation that works everywhere.
BUILDAH = Engine(
    "buildah",
    (*PODMAN.build, "--isolation", "chroot", "--pull-never", "--identity-label=false"),
    ("inspect", "--type", "image", "--format", "{{.FromImageID}}"),
    ("push", "--quiet", "{name}", "docker-archive:{path}:{name}"),
)


def has_base(engine: Engine, base: str) -> bool:
    """Whether docker or podman has the base image or can pull it. A stand-in, which podman sees, too, is none."""
    if ask(engine.name, "image", "ls") is None:
        return False
    labels = ask(engine.name, "image", "inspect", "--format", "{{json .Config.Labels}}", base)
    if labels:
        return STAND_IN not in (json.loads(labels) or {})
    return ask(engine.name, "pull", "--quiet", base) is not None
