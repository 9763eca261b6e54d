"""The programs of a Kubernetes control plane, built from Go modules and kept outside the checkout.

Who calls this: `python -m testcluster binaries` (`make test` runs it first, because the first build takes minutes) and
cluster, which starts what is returned here. A folder named by KUBEBUILDER_ASSETS, if it holds etcd, kube-apiserver
or kubectl, spares their build.
Its business ends with paths of executable files.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testcluster import toolchain
from testcluster.locks import CHECKOUT, cache_folder, locked, say

MODULES = CHECKOUT / "tests/cluster/binaries"
KUBERNETES = "v1.37.2"
FROM_ASSETS = ("etcd", "kube-apiserver", "kubectl")


def stamp() -> str:
    """Linker flags that say the version: unstamped, the server calls itself v0.0.0 and clients' checks misbehave."""
    major, minor, _ = KUBERNETES[1:].split(".")
    facts = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
    return " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in facts.items())


@dataclass(frozen=True)
class Module:
    """One of the Go modules under tests/cluster/binaries, and the programs built from it (name: Go package)."""

    name: str
    programs: dict[str, str]
    stamp: str = ""

    @property
    def source(self) -> Path:
        return MODULES / self.name

    @property
    def flags(self) -> list[str]:
        return ["-mod=readonly", "-trimpath", "-ldflags", f"-s -w {self.stamp}".strip()]

    @property
    def folder(self) -> Path:
        """Where its programs are kept: another folder for other dependencies or flags."""
        facts = [(self.source / name).read_bytes() for name in ("go.mod", "go.sum")]
        digest = hashlib.sha256(b"\0".join([*facts, *(flag.encode() for flag in self.flags)])).hexdigest()
        return cache_folder() / "kubernetes" / digest[:16]


PARTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
ALL = (
    Module("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Module("kubernetes", {name: f"k8s.io/kubernetes/cmd/{name}" for name in PARTS}, stamp()),
    Module("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
)
NODE = (
    Module("kubelet", {"kubelet": "k8s.io/kubernetes/cmd/kubelet"}, stamp()),
    Module("coredns", {"coredns": "github.com/coredns/coredns"}),
)
"""What a node that really runs containers wants besides."""


def from_assets() -> dict[str, Path]:
    """What the folder named by KUBEBUILDER_ASSETS holds of the programs that it may stand for."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    found = {name: Path(folder) / name for name in FROM_ASSETS} if folder else {}
    return {name: path for name, path in found.items() if os.access(path, os.X_OK)}


def ensure(modules: Sequence[Module] = ALL) -> dict[str, Path]:
    """Path of every program of the modules, by name; builds those that are missing and says on stderr what it does.

    Raises subprocess.CalledProcessError when a build fails; the compiler has then said why on stderr.
    """
    wanted = {name: module.folder / name for module in modules for name in module.programs}
    found = wanted | {name: path for name, path in from_assets().items() if name in wanted}
    missing = [name for name, path in found.items() if not path.exists()]
    if missing:
        with locked(cache_folder() / "kubernetes.lock", "another build of the control plane's programs"):
            build(missing, modules)
    return found


def build(missing: Sequence[str], modules: Sequence[Module]) -> None:
    """Build programs one after the other (each build uses every core), unless another process just did."""
    needed = max((wanted_go(module) for module in modules), key=toolchain.numbers)
    go = toolchain.find_go(needed)
    say(f"building {', '.join(missing)} from source with {go}: some ten minutes on two cores, once per machine")
    for number, name in enumerate(missing, 1):
        module = next(module for module in modules if name in module.programs)
        if not (module.folder / name).exists():
            say(f"building {name} ({number} of {len(missing)})")
            say(f"built {name} in {build_one(go, module, name):.0f} s: {module.folder / name}")


def wanted_go(module: Module) -> str:
    """The Go version that a module asks for."""
    found = re.search(r"^go (\S+)$", (module.source / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise ValueError(f"{module.source / 'go.mod'}: no line 'go VERSION'")
    return found[1]


def build_one(go: Path, module: Module, name: str) -> float:
    """Build one program aside and rename it to its place; seconds that it took."""
    started = time.monotonic()
    module.folder.mkdir(parents=True, exist_ok=True)
    aside = module.folder / f".{name}.{os.getpid()}"
    command = [str(go), "build", *module.flags, "-o", str(aside), module.programs[name]]
    subprocess.run(command, cwd=module.source, env=toolchain.environment(), check=True)
    aside.rename(module.folder / name)
    return time.monotonic() - started
