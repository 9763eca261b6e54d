"""requirements/install.sh and uv.sh, with a Python and a uv that only write down what they were asked for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

TOOLS = ("bash", "cat", "cut", "dirname", "env", "flock", "grep", "ln", "mkdir", "rm", "sha256sum", "chmod")

# Knows `-c`, and `-m venv` and `-m pip` well enough to leave a uv behind.
PYTHON = """#!/usr/bin/env bash
case "$*" in
    "-m venv .uv") mkdir -p .uv/bin && ln -sf "$0" .uv/bin/python && ln -sf "$FAKES/uv" .uv/bin/uv ;;
    "-m pip"*) echo "pip" >>"$FAKES/log" ;;
    *sys.executable*) echo "$0" ;;
    *) exec "$REAL" "$@" ;;
esac
"""
UV = """#!/usr/bin/env bash
all="$*"
case "$all" in
    "cache dir") echo "$FAKES/cache" ;;
    venv*) mkdir -p "${@: -1}/bin" && ln -sf "$REAL" "${@: -1}/bin/python" ;;
    "pip sync"*) echo "sync ${@: -1}" >>"$FAKES/log"; exit ${FAIL:-0} ;;
    "pip install"*) echo "install ${all##*build.txt }" >>"$FAKES/log" ;;
esac
"""


TRAINER = ["sync requirements/trainer.txt", "install --editable api --editable trainer"]
DEV = ["sync requirements/dev.txt", "install --editable api --editable operator --editable trainer"]


@dataclass(frozen=True)
class Checkout:
    """A copy of the pins and scripts, in a folder with a space, where nothing real gets installed."""

    folder: Path
    fakes: Path

    def install(self, name: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the script with PATH reduced to the fakes."""
        variables = {"PATH": str(self.fakes), "FAKES": str(self.fakes), "REAL": sys.executable, **environment}
        script = self.folder / "requirements" / "install.sh"
        return subprocess.run([script, name], env=variables, capture_output=True, text=True, cwd="/")

    def asked(self, name: str, **environment: str) -> list[str]:
        """What pip and uv were asked for in one run."""
        log = self.fakes / "log"
        log.write_text("")
        self.install(name, **environment)
        return log.read_text().splitlines()

    def change(self, name: str) -> None:
        """Renew a pin file."""
        with (self.folder / "requirements" / f"{name}.txt").open("a") as file:
            file.write("more==1\n")


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Checkout:
    folder, fakes = tmp_path / "a checkout", tmp_path / "fakes"
    shutil.copytree(root / "requirements", folder / "requirements")
    for name in ("api", "operator", "trainer"):
        (folder / name).mkdir()
        shutil.copy(root / name / "pyproject.toml", folder / name)
    fakes.mkdir()
    for name in TOOLS:
        (fakes / name).symlink_to(str(shutil.which(name)))
    write_program(fakes / "python3", PYTHON)
    write_program(fakes / "uv", UV)
    return Checkout(folder, fakes)


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_first_run_installs_uv_then_pins_then_ourselves(checkout: Checkout) -> None:
    assert checkout.asked("trainer") == ["pip", *TRAINER]


def test_repeating_does_nothing(checkout: Checkout) -> None:
    checkout.install("trainer")
    assert checkout.asked("trainer") == []


def test_dev_contains_trainer(checkout: Checkout) -> None:
    checkout.install("trainer")
    assert checkout.asked("dev") == DEV
    assert checkout.asked("trainer") == []


def test_the_tools_of_the_docs_stand_apart(checkout: Checkout) -> None:
    checkout.install("dev")
    assert checkout.asked("docs") == ["sync requirements/docs.txt"]
    assert checkout.asked("docs") == checkout.asked("dev") == []
    checkout.change("docs")
    assert checkout.asked("dev") == []
    assert checkout.asked("docs") == ["sync requirements/docs.txt"]


def test_a_changed_pin_installs_again(checkout: Checkout) -> None:
    checkout.install("trainer")
    checkout.change("trainer")
    assert checkout.asked("trainer") == TRAINER


def test_quickstart_never_takes_the_test_tools_away(checkout: Checkout) -> None:
    checkout.install("dev")
    checkout.change("dev")
    assert checkout.asked("trainer") == DEV


def test_a_new_uv_waits_until_it_is_needed(checkout: Checkout) -> None:
    checkout.install("dev")
    checkout.change("uv")
    assert checkout.asked("dev") == []
    checkout.change("dev")
    assert checkout.asked("dev") == ["pip", *DEV]


def test_an_interrupted_installation_is_taken_up_again(checkout: Checkout) -> None:
    assert checkout.asked("dev", FAIL="1")[-1] == "sync requirements/dev.txt"
    assert checkout.asked("trainer") == DEV


def test_a_moved_checkout_installs_again(checkout: Checkout) -> None:
    checkout.install("trainer")
    moved = Checkout(checkout.folder.rename(checkout.folder.with_name("elsewhere")), checkout.fakes)
    assert "sync requirements/trainer.txt" in moved.asked("trainer")


def test_a_home_that_cannot_be_written_is_no_obstacle(checkout: Checkout) -> None:
    (checkout.fakes / "cache").write_text("a file where the folder should be")
    done = checkout.install("trainer")
    assert done.returncode == 0
    assert ".uv/cache" in done.stderr


def test_no_python_is_said_in_words(checkout: Checkout) -> None:
    write_program(checkout.fakes / "python3", "#!/usr/bin/env bash\nexit 1\n")
    done = checkout.install("trainer")
    assert done.returncode == 1
    assert "needs Python 3.11" in done.stderr


def test_an_unsuitable_named_python_is_refused(checkout: Checkout) -> None:
    write_program(checkout.fakes / "old", "#!/usr/bin/env bash\nexit 1\n")
    done = checkout.install("trainer", PYTHON="old")
    assert done.returncode == 1
    assert "PYTHON=old is not" in done.stderr


def test_neither_venv_nor_pip_is_said_in_words(checkout: Checkout) -> None:
    bare = PYTHON.replace("*) exec", "*ensurepip*|*--version*) exit 1 ;;\n    *) exec").replace(
        '"-m pip"*)', '"-m pip install"*)'
    )
    write_program(checkout.fakes / "python3", bare)
    done = checkout.install("trainer")
    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr


def test_an_unknown_set_is_refused(checkout: Checkout) -> None:
    assert "there is no set" in checkout.install("everything").stderr
