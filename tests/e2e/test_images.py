"""The images that `make images` has built: run with a root that cannot be written, by the user that they name.

Run by docker, or by podman with runc, whichever has them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from images import facts

ROOT = Path(__file__).parents[2]
TARGETS = ("operator", "trainer")
OWN = {"operator": {"g2rpo-api", "g2rpo-operator"}, "trainer": {"g2rpo-api", "g2rpo-trainer"}}
SAMPLE = ROOT / "manifests" / "samples" / "miniature-g2rpo.yaml"
MEGABYTE = 10**6
LOCKED = ("--read-only", "--network", "none", "--cap-drop", "all", "--security-opt", "no-new-privileges")
# podman's defaults want systemd, its own runtime, and limits that a container in a container may not raise.
PODMAN = (
    "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--no-healthcheck",
    "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
)  # fmt: skip

DISTRIBUTIONS = """
import importlib.metadata as metadata, json, platform
found = {each.name: each.version for each in metadata.distributions()}
print(json.dumps({"python": platform.python_version(), "found": found}))
"""
# Which modules of argv[1:] have no compiled file that Python takes without looking at the source, and why.
COMPILED = """
import importlib.util as util, pathlib, sys
for name in sys.argv[1:]:
    for source in pathlib.Path(util.find_spec(name).origin).parent.rglob("*.py"):
        compiled = pathlib.Path(util.cache_from_source(str(source)))
        if not compiled.exists():
            print(source, "is not compiled")
            continue
        head = compiled.read_bytes()[:16]
        if head[:4] != util.MAGIC_NUMBER or head[4:8] != b"\\1\\0\\0\\0":
            print(source, "is compiled for another Python or another time")
        elif head[8:] != util.source_hash(source.read_bytes()):
            print(source, "is not what was compiled")
"""
# Ends as the command in argv[2:] does, while port 8080 answers /healthz with the status argv[1].
ANSWERING = """
import http.server, subprocess, sys, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[1]) if self.path == "/healthz" else 404)
        self.end_headers()
server = http.server.HTTPServer(("", 8080), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.exit(subprocess.run(sys.argv[2:], stderr=subprocess.DEVNULL).returncode)
"""
TOOLS = """
import importlib.util, os, pathlib, shutil
print(*[name for name in ("pip", "pip3", "uv", "gcc", "cc", "make") if shutil.which(name)])
print(*[name for name in ("pip", "uv", "ensurepip", "hatchling") if importlib.util.find_spec(name)])
print(*[path for folder in ("/usr", "/bin", "/opt") for path in pathlib.Path(folder).rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o6000])
"""


@dataclass(frozen=True)
class Image:
    """One of the images, and who runs it."""

    target: str
    runner: tuple[str, ...]

    @property
    def name(self) -> str:
        return facts.image_name(facts.REPOSITORY, self.target)

    def run(self, *command: str, entry: str = "", options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """In a container that can write nowhere but in /tmp and in what the options mount."""
        program = ("--entrypoint", entry) if entry else ()
        return subprocess.run(
            [
                *self.runner,
                "--rm",
                "--pull",
                "never",
                *LOCKED,
                "--tmpfs",
                "/tmp",
                *options,
                *program,
                self.name,
                *command,
            ],
            capture_output=True,
            text=True,
            check=False,
        )

    def python(self, code: str, *arguments: str) -> str:
        """What some code prints in the image's environment."""
        done = self.run("-c", code, *arguments, entry="python")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def config(self) -> dict[str, Any]:
        """As the image's tool shows it."""
        done = subprocess.run([self.runner[0], "image", "inspect", self.name], capture_output=True, check=True)
        return dict(json.loads(done.stdout)[0])


@pytest.fixture(scope="module")
def images() -> dict[str, Image]:
    """By target; both must have been built."""
    found = {}
    for target in TARGETS:
        for runner in (("docker", "run"), ("podman", "run", *PODMAN)):
            image = Image(target, runner)
            if answers(runner[0], "image", "inspect", image.name):
                found[target] = image
                break
    assert found.keys() == set(TARGETS), "`make images` builds them; docker or podman with runc runs them"
    return found


@pytest.fixture(params=TARGETS)
def image(request: pytest.FixtureRequest, images: dict[str, Image]) -> Image:
    return images[request.param]


def answers(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def tool(*arguments: str) -> str:
    """What the program behind `make images` prints."""
    variables = os.environ | {"PYTHONPATH": str(ROOT / "docker")}
    command = [sys.executable, "-m", "images", *arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def archived(target: str, repository: str = facts.REPOSITORY) -> dict[str, Any]:
    """The configuration in an image's file: what it runs, and digests of its layers."""
    with tarfile.open(tool("archive", target, "--repository", repository)) as archive:

        def content(name: str) -> Any:
            file = archive.extractfile(name)
            assert file is not None
            return json.load(file)

        return dict(content(content("manifest.json")[0]["Config"]))


def pins(target: str, python: str) -> dict[str, str]:
    """What the pin file asks for on Linux and that Python."""
    lines = re.findall(r"^(\S+==[^\\\n]+)", (ROOT / "requirements" / f"{target}.txt").read_text(), re.MULTILINE)
    here = {"python_full_version": python, "python_version": ".".join(python.split(".")[:2])}
    wishes = [Requirement(line) for line in lines]
    return {
        canonicalize_name(wish.name): str(wish.specifier).removeprefix("==")
        for wish in wishes
        if wish.marker is None or wish.marker.evaluate(here)
    }


def test_user_and_root(image: Image) -> None:
    done = image.run(
        "-c", "id -u; id -un; touch /opt/g2rpo/x || touch /x || touch /tmp/x && echo only /tmp", entry="sh"
    )
    assert done.stdout.split("\n")[:3] == ["65532", "g2rpo", "only /tmp"]


def test_exactly_the_pins_are_installed(image: Image) -> None:
    inside = json.loads(image.python(DISTRIBUTIONS))
    found = {canonicalize_name(name): version for name, version in inside["found"].items()}
    expected = pins(image.target, inside["python"])
    assert found == expected | {name: facts.version() for name in OWN[image.target]}


def test_no_installer_compiler_or_set_user_id_program_is_left(image: Image) -> None:
    assert image.python(TOOLS) == "\n\n\n"
    bare = image.run("-c", "import ensurepip", entry="/usr/bin/python3")
    assert bare.returncode != 0


def test_everything_is_compiled_and_valid_at_any_time(image: Image) -> None:
    packages = {
        "operator": ("g2rpo_operator", "aiohttp", "kopf"),
        "trainer": ("g2rpo_trainer", "diffusers", "deepspeed"),
    }
    assert image.python(COMPILED, "g2rpo_api", "yaml", *packages[image.target]) == ""


def test_labels(image: Image) -> None:
    labels = image.config()["Config"]["Labels"]
    ours = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert ours["title"] == f"g2rpo/{image.target}"
    assert ours["version"] == facts.version()
    assert re.fullmatch(r"[0-9a-f]{40}(-modified)?", ours["revision"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", ours["created"])
    assert ours["base.name"].startswith("docker.io/library/python:3")


def test_operator_is_small() -> None:
    with tarfile.open(tool("archive", "operator")) as archive:
        layers = [member.size for member in archive if member.name.endswith(".tar") and member.isfile()]
    assert 50 * MEGABYTE < sum(layers) <= 300 * MEGABYTE


def test_operator_knows_no_torch(images: dict[str, Image]) -> None:
    assert "torch" not in json.loads(images["operator"].python(DISTRIBUTIONS))["found"]


def test_operator_starts_and_says_what_it_lacks(images: dict[str, Image]) -> None:
    done = images["operator"].run()
    assert done.returncode == 2
    assert "G2RPO_OPERATOR_LEASE_NAMESPACE" in done.stderr


@pytest.mark.parametrize(("status", "healthy"), [("200", True), ("500", False)])
def test_operators_health_check_asks_the_operator(status: str, healthy: bool, images: dict[str, Image]) -> None:
    kind, *command = archived("operator")["config"]["Healthcheck"]["Test"]
    assert kind == "CMD"
    done = images["operator"].run("-c", ANSWERING, status, *command, entry="python")
    assert (done.returncode == 0) is healthy


def test_trainer_checks_the_sample(images: dict[str, Image]) -> None:
    done = images["trainer"].run("--check", "/job.yaml", options=("--volume", f"{SAMPLE}:/job.yaml:ro"))
    assert done.returncode == 0, done.stderr
    assert "0 errors" in done.stdout


@pytest.mark.parametrize("program", ["g2rpo-sample", "g2rpo-reward-server"])
def test_trainers_other_programs_start(program: str, images: dict[str, Image]) -> None:
    done = images["trainer"].run("--help", entry=program)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["usage:", program])


def test_list_of_contents_names_every_pin(images: dict[str, Image]) -> None:
    python = json.loads(images["operator"].python(DISTRIBUTIONS))["python"]
    tool("sbom", "operator")
    content = json.loads((ROOT / "dist" / "sbom" / "operator.spdx.json").read_text())
    found = {(canonicalize_name(each["name"]), each.get("versionInfo")) for each in content["packages"]}
    assert pins("operator", python).items() <= found
    assert ("g2rpo-operator", facts.version()) in found
    assert "libc6" in {name for name, _ in found}


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[str]:
    """A working container with Debian and no Python, like a CUDA development image."""
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "trixie", tmp_path / "base.tar"], check=True)
    container = buildah("from", "scratch")
    try:
        buildah("add", "--quiet", container, str(tmp_path / "base.tar"), "/")
        yield container
    finally:
        buildah("rm", container)


def buildah(*arguments: str) -> str:
    return subprocess.run(["buildah", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@pytest.mark.slow
def test_a_base_without_python_gets_one_with_headers(bare: str) -> None:
    def inside(*command: str) -> str:
        return buildah("run", "--isolation", "chroot", bare, *command)

    assert inside("sh", "-c", "command -v python3 || true") == ""
    buildah("copy", "--quiet", bare, str(ROOT / "docker" / "base.sh"), "/base.sh")
    inside("sh", "/base.sh")
    header = 'import os, sysconfig; print(os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
    assert inside("python3", "-c", header) == "True"
    assert inside("id", "-u", "g2rpo") == "65532"


@pytest.fixture
def repositories() -> Iterator[tuple[str, str]]:
    """Two names for images that are removed afterwards."""
    names = ("localhost/g2rpo-first", "localhost/g2rpo-second")
    yield names
    for name in names:
        image = facts.image_name(name, "operator")
        assert any(answers(engine, "rmi", image) for engine in ("docker", "buildah"))


@pytest.mark.slow
def test_two_builds_make_the_same_layers(repositories: tuple[str, str]) -> None:
    for repository in repositories:
        tool("build", "operator", "--no-cache", "--repository", repository)
    first, second = (archived("operator", repository) for repository in repositories)
    assert second["rootfs"]["diff_ids"] == first["rootfs"]["diff_ids"]
    assert second["created"] == first["created"]
