"""Whether a machine can be a node: what is missing, and what mends it.

Who calls this: the command line, before anything is started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from testcluster.locks import cache_folder
from testnode.facts import CNI_PLUGINS, CONTROLLERS, PATH

PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "podman": "podman",
    "prometheus": "prometheus",
}
"""Debian's package of each program."""
PLUGINS = "containernetworking-plugins"
DISK_GIB, IMAGES_GIB, MEMORY_GIB = 16, 16, 8
"""For a node's copy of the images, for their builds where they have not been done, and of memory; with some room."""
NAMESPACES = (
    "unshare",
    "--net",
    "--pid",
    "--mount",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--propagation",
    "private",
)
GIB = 2**30


def missing_packages() -> list[str]:
    """Debian packages that are wanted and not there."""
    missing = {package for program, package in PACKAGES.items() if not shutil.which(program, path=PATH)}
    if not Path(CNI_PLUGINS, "bridge").exists():
        missing.add(PLUGINS)
    return sorted(missing)


def obstacles() -> Iterator[str]:
    """Everything that keeps this machine from being a node, each with what would help."""
    if os.geteuid() != 0:
        yield "this is not root: a node mounts, makes networks and limits memory"
        return
    missing = missing_packages()
    if missing:
        yield f"programs are missing: apt-get install {' '.join(missing)} (or python -m testnode prepare)"
        return
    if not Path(CONTROLLERS, "memory").is_dir() and not Path(CONTROLLERS, "cgroup.controllers").exists():
        yield f"no cgroups at {CONTROLLERS}"
    done = subprocess.run(
        [*NAMESPACES, "ip", "link", "add", "type", "bridge"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        yield f"the kernel gives no namespaces with a network bridge: {done.stderr.strip()}"
    free, wanted = shutil.disk_usage(tempfile.gettempdir()).free / GIB, DISK_GIB
    if not list((cache_folder() / "images").glob("trainer-*.tar")):
        wanted += IMAGES_GIB
    if free < wanted:
        yield f"{free:.0f} GiB are free in {tempfile.gettempdir()}, images want {wanted}: free some, or set TMPDIR"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    if memory < MEMORY_GIB:
        yield f"{memory:.0f} GiB of memory are too few; two trainers and a control plane want {MEMORY_GIB}"


def prepare() -> None:
    """Install the packages that are missing, as root on Debian or Ubuntu.

    Raises:
        subprocess.CalledProcessError: apt-get failed, and has said why.
    """
    missing = missing_packages()
    if not missing or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    print(f"g2rpo: apt-get install {' '.join(missing)}", flush=True)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        subprocess.run(["apt-get", "-qq", *command], env=env, stdout=subprocess.DEVNULL, check=True)
