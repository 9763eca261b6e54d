"""Images of the node: one that holds pods open, and files that others made, brought into containerd.

Who calls this: `node.py`.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

from testcluster import toolchain
from testcluster.binaries import Module, build_one
from testnode.facts import PAUSE_IMAGE

PAUSE = Module("../../e2e/testnode/pause", {"pause": "."})


def pause_program() -> Path:
    """The static program, built once per machine."""
    path = PAUSE.folder / "pause"
    if not path.exists():
        build_one(toolchain.find_go("1.26.0"), PAUSE, "pause")
    return path


def write_pause_image(path: Path) -> None:
    """An image of one file, as `docker save` writes it."""
    layer = tar_of({"pause": pause_program().read_bytes()}, mode=0o755)
    digest = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}]
    files = {
        "manifest.json": json.dumps(manifest).encode(),
        "config.json": json.dumps(config).encode(),
        "layer.tar": layer,
    }
    path.write_bytes(tar_of(files, mode=0o644))


def tar_of(files: dict[str, bytes], mode: int) -> bytes:
    """An archive of some files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class Containerd:
    """What `ctr` does for us, in the namespace that Kubernetes uses."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def ctr(self, *arguments: str) -> str:
        """What it prints; RuntimeError with its words if it fails."""
        command = ["ctr", "--address", str(self.socket), "--namespace", "k8s.io", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"ctr {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def load(self, archive: Path, name: str = "") -> None:
        """Bring the images of a file in; the only one of the file gets the name, as kubelets spell it out."""
        before = self.images()
        self.ctr("images", "import", "--all-platforms", str(archive))
        new = sorted(self.images() - before)
        if name and name not in new:
            self.ctr("images", "tag", new[0], name)

    def images(self) -> set[str]:
        """Names of images."""
        return set(self.ctr("images", "list", "--quiet").split())

    def pids(self, pod_uid: str) -> list[int]:
        """Processes of a pod's containers, as the node sees them; not those that hold it open."""
        found = self.ctr("containers", "list", "--quiet", f'labels."io.kubernetes.pod.uid"=={pod_uid}').split()
        tables = [self.ctr("tasks", "ps", container) for container in found if self.kind(container) != "sandbox"]
        return [int(line.split()[0]) for table in tables for line in table.splitlines()[1:]]

    def kind(self, container: str) -> str:
        """container, or sandbox."""
        labels = json.loads(self.ctr("containers", "info", container))["Labels"]
        return str(labels.get("io.cri-containerd.kind", ""))
