"""A base image where no registry can be reached: Debian and its Python, under the name of the one it stands for.

Who calls this: `__main__.py`, when buildah builds.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from images.engines import STAND_IN, CannotBuildError

PACKAGES = ("buildah", "mmdebstrap")
OFFICIAL = re.compile(r"docker\.io/library/python:(?P<python>3\.\d+)-slim-(?P<suite>[a-z]+)")
# As in the official image: documentation and translations are left out.
LEFT_OUT = (
    "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/locale/*", "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
)  # fmt: skip
PYTHON = "ca-certificates,libpython3-stdlib,python3-minimal,python3-venv"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing_packages() -> list[str]:
    """Debian packages that have to be installed before."""
    return [name for name in PACKAGES if not shutil.which(name)]


def install_packages() -> None:
    """Bring them, as root on Debian or Ubuntu."""
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-qq", "--yes", "--no-install-recommends", *missing_packages()]):
        subprocess.run(["apt-get", *command], check=True, stdout=2, env=quiet)


def make(base: str) -> None:
    """Import a fresh Debian with Python as the base."""
    official = OFFICIAL.fullmatch(base)
    if official is None:
        raise CannotBuildError(f"{base} cannot be pulled, and only docker.io/library/python:3.…-slim-… has a stand-in.")
    with tempfile.TemporaryDirectory(prefix="g2rpo-base-") as folder:
        archive = Path(folder) / "base.tar"
        options = [f"--dpkgopt={line}" for line in LEFT_OUT]
        bootstrap = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PYTHON}", *options]
        # It would make sources older than the time that Debian's compiled files name, and those be ignored.
        environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
        subprocess.run([*bootstrap, official["suite"], archive], check=True, stdout=2, env=environment)
        _import(archive, base, official["python"])


def _import(archive: Path, base: str, python: str) -> None:
    """One layer, the archive's files, if its Python is the one that the name promises."""
    container = buildah("from", "scratch")
    try:
        buildah("add", "--quiet", container, str(archive), "/")
        buildah("config", "--env", PATH, "--label", f"{STAND_IN}=true", container)
        found = buildah("run", "--isolation", "chroot", container, "python3", "--version")
        if not found.startswith(f"Python {python}."):
            raise CannotBuildError(f"{base} should have Python {python}, Debian's is {found}.")
        buildah("commit", "--quiet", "--format", "docker", container, base)
    finally:
        buildah("rm", container)


def buildah(*arguments: str) -> str:
    """What a command of buildah prints."""
    return subprocess.run(["buildah", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
