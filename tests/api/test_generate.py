"""The command that writes manifests and the reference."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from g2rpo_api.generate import FILES, main, outdated, write


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which everything was written."""
    assert write(tmp_path) == list(FILES)
    return tmp_path


def test_what_is_written_is_up_to_date(checkout: Path) -> None:
    assert outdated(checkout) == []
    assert write(checkout) == []
    assert main(["--check", str(checkout)]) == 0


@pytest.mark.parametrize("name", FILES)
def test_a_change_by_hand_is_noticed_and_mended(name: str, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkout / name
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "surprise\n", encoding="utf-8")
    assert main(["--check", str(checkout)]) == 1
    told = capsys.readouterr()
    assert f"--- {name}" in told.out
    assert "-surprise" in told.out
    assert "make generate" in told.err
    assert path.read_text(encoding="utf-8") == text + "surprise\n", "a check writes nothing"
    assert main([str(checkout)]) == 0
    assert path.read_text(encoding="utf-8") == text


def test_a_missing_file_is_noticed(checkout: Path) -> None:
    (checkout / "manifests/crd.yaml").unlink()
    assert main(["--check", str(checkout)]) == 1


def test_readers_of_yaml_1_1_see_the_same_objects(checkout: Path) -> None:
    kinds = [
        (manifest["kind"], manifest["metadata"]["name"])
        for name in sorted(FILES)
        if name.startswith("manifests/")
        for manifest in yaml.safe_load_all((checkout / name).read_text(encoding="utf-8"))
    ]
    assert kinds == [
        ("CustomResourceDefinition", "g2rpojobs.g2rpo.dev"),
        ("Namespace", "g2rpo-system"),
        ("ServiceAccount", "g2rpo-operator"),
        ("Deployment", "g2rpo-operator"),
        ("PodDisruptionBudget", "g2rpo-operator"),
        ("ClusterRole", "g2rpo-operator"),
        ("ClusterRoleBinding", "g2rpo-operator"),
        ("Role", "g2rpo-operator-election"),
        ("RoleBinding", "g2rpo-operator-election"),
        ("ClusterRole", "g2rpojobs-view"),
        ("ClusterRole", "g2rpojobs-edit"),
    ]


def test_it_is_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "g2rpo_api.generate"]
    first = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert first.stdout.splitlines() == [f"wrote {name}" for name in FILES]
    again = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert again.stdout == ""
