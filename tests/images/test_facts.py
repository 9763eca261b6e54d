"""What is handed to a build: times and names from git, and the secrets by which pip and uv find their index."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from images import facts

ODD = "https://me:pa$s'word\"@index.example/simple?a=1&b=2"
"""What a shell would spoil if it were not quoted."""


@pytest.fixture(autouse=True)
def nobodys_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No pip or uv file but the test's own."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(facts, "PIP_FILES", ("~/.pip/pip.conf", "~/.config/pip/pip.conf"))
    monkeypatch.setattr(facts, "UV_FILES", ("~/.config/uv/uv.toml",))
    return home


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one commit of each kind: of what goes into an image, and of something else."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    commit(folder, "Dockerfile", "2020-02-02T00:00:00Z")
    commit(folder, "README.md", "2021-01-01T00:00:00Z")
    monkeypatch.setattr(facts, "ROOT", folder)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return folder


def git(folder: Path, *arguments: str, **environment: str) -> str:
    identity = {f"GIT_{who}_{what}": "nobody" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(folder), **identity, **environment}
    done = subprocess.run(["git", *arguments], cwd=folder, env=variables, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, name: str, date: str) -> None:
    (folder / name).write_text(date)
    git(folder, "add", name)
    git(folder, "commit", "--quiet", "--message", name, GIT_COMMITTER_DATE=date, GIT_AUTHOR_DATE=date)


def sourced(file: Path, name: str) -> str:
    """A variable's value as docker/site.sh gets it."""
    script = 'set -a; . "$1"; eval "printf %s \\"\\$$2\\""'
    done = subprocess.run(["sh", "-c", script, "sh", file, name], capture_output=True, text=True, check=True)
    return done.stdout


def test_images_are_as_old_as_the_last_commit_that_matters(repository: Path) -> None:
    assert facts.source_date_epoch() == 1580601600  # 2020-02-02, not 2021


def test_time_can_be_given(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert facts.source_date_epoch() == 86400


def test_revision_tells_whether_it_is_the_commit(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    assert facts.revision() == head
    (repository / "README.md").write_text("of no importance")
    assert facts.revision() == head
    (repository / "Dockerfile").write_text("FROM elsewhere")
    assert facts.revision() == f"{head}-modified"


@pytest.mark.parametrize(
    ("remote", "public"),
    [
        ("https://git.example/team/g2rpo.git", "https://git.example/team/g2rpo.git"),
        ("https://me:secret@git.example/g2rpo", "https://git.example/g2rpo"),
        ("git@git.example:team/g2rpo.git", "https://git.example/team/g2rpo.git"),
        ("../elsewhere", ""),
    ],
)
def test_source_is_public_and_without_credentials(repository: Path, remote: str, public: str) -> None:
    git(repository, "remote", "add", "origin", remote)
    assert facts.source() == public


def test_without_git_there_is_nothing_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert (facts.source_date_epoch(), facts.revision(), facts.source()) == (0, "", "")


def test_images_bear_the_version_that_the_manifests_name() -> None:
    manifest = (facts.ROOT / "manifests" / "operator.yaml").read_text()
    short = facts.image_name(facts.REPOSITORY, "operator").removeprefix("docker.io/")
    assert f"image: {short}\n" in manifest


def test_no_secret_without_a_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "certificates", lambda environment: None)
    assert facts.secrets(tmp_path, {"HOME": "/", "PIP_FIND_LINKS": "/wheels"}) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_variables_arrive_as_they_are(tmp_path: Path) -> None:
    found = facts.secrets(tmp_path, {"UV_DEFAULT_INDEX": ODD, "PIP_INDEX_URL": ODD, "PATH": "/bin"})
    assert sourced(found["environment"], "UV_DEFAULT_INDEX") == ODD
    assert sourced(found["environment"], "PIP_INDEX_URL") == ODD
    assert "PATH" not in found["environment"].read_text()


def test_pips_files_count_and_variables_win(nobodys_home: Path, tmp_path: Path) -> None:
    folder = nobodys_home / ".config" / "pip"
    folder.mkdir(parents=True)
    (folder / "pip.conf").write_text("[global]\nindex-url = https://one.example\nextra-index-url =\n  a\n  b\n")
    (tmp_path / "named.conf").write_text("[install]\ntrusted-host = two.example\n")
    named = {"PIP_CONFIG_FILE": str(tmp_path / "named.conf")}
    expected = {"PIP_INDEX_URL": "https://one.example", "PIP_EXTRA_INDEX_URL": "a b", "PIP_TRUSTED_HOST": "two.example"}
    assert facts.index_settings(named) == expected
    assert facts.index_settings(named | {"PIP_INDEX_URL": "mine"}) == expected | {"PIP_INDEX_URL": "mine"}


def test_certificates_are_those_that_this_machine_uses(nobodys_home: Path, tmp_path: Path) -> None:
    bundle, other = tmp_path / "company.pem", tmp_path / "other.pem"
    bundle.touch()
    other.touch()
    assert facts.certificates({"SSL_CERT_FILE": str(bundle)}) == bundle
    assert facts.certificates({"SSL_CERT_FILE": "/nowhere", "PIP_CERT": str(other)}) == other
    (nobodys_home / ".pip").mkdir()
    (nobodys_home / ".pip" / "pip.conf").write_text(f"[global]\ncert = {bundle}\n")
    assert facts.certificates({}) == bundle


def test_uvs_own_file_is_passed(nobodys_home: Path, tmp_path: Path) -> None:
    file = nobodys_home / ".config" / "uv" / "uv.toml"
    file.parent.mkdir(parents=True)
    file.write_text("offline = false\n")
    assert facts.secrets(tmp_path, {})["uv"] == file
