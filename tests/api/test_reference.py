"""The reference tells of every key and name, in tables that Markdown readers understand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum

import pytest

from g2rpo_api import contract
from g2rpo_api.contract import ExitCode
from g2rpo_api.parse import job_schema
from g2rpo_api.reference import docstrings, reference, table
from g2rpo_api.schema import child, keys
from g2rpo_api.status import Cause, Reason

TEXT = reference()
SECTIONS = dict(re.findall(r"^#{2,3} ([^\n]+)\n(.*?)(?=^#{2,3} |\Z)", TEXT, flags=re.MULTILINE | re.DOTALL))


def rows(section: str) -> dict[str, list[str]]:
    """Cells of the first table of a section, by the first cell."""
    lines = [line for line in SECTIONS[section].splitlines() if line.startswith("| ")][2:]
    cells = [re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |")) for line in lines]
    return {cell[0].strip("`"): cell for cell in cells}


def paths(loc: tuple[str | int, ...], title: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Title and keys of every mapping of a job."""
    node = child(job_schema(), loc)
    yield title, keys(job_schema(), node)
    for key in keys(job_schema(), node):
        inner, place, name = child(job_schema(), (*loc, key)), (*loc, key), f"{title}.{key}"
        if "items" in inner:
            inner, place, name = child(job_schema(), (*place, 0)), (*place, 0), f"{name}[]"
        if keys(job_schema(), inner):
            yield from paths(place, name)


@pytest.mark.parametrize(("section", "names"), list(paths(("spec",), "spec")))
def test_every_mapping_has_a_section_with_all_its_keys(section: str, names: tuple[str, ...]) -> None:
    found = rows(section)
    assert tuple(found) == names
    assert all(len(cells) == 4 and cells[1] and cells[3] for cells in found.values())


@pytest.mark.parametrize(
    ("section", "key", "allowed", "default"),
    [
        ("spec.training.sampling", "steps", "an integer, at least 2", "`16`"),
        ("spec.training.sampling", "height", "an integer, at least 8", "**needed**"),
        ("spec.training.optimizer", "betas", "a list of 2 items, each a finite number, at least 0 and below 1", None),
        ("spec.policy", "startTimeoutSeconds", "an integer, at least 1", "`1800`, or null"),
        ("spec.policy", "activeDeadlineSeconds", "an integer, at least 1", ""),
        ("spec", "imagePullPolicy", "`IfNotPresent`, `Always`, `Never`", "`IfNotPresent`"),
        ("spec", "training", "[a mapping](#spectraining)", "**needed**"),
        ("spec.workers", "env", "[a list of up to 64](#specworkersenv)", ""),
        ("spec.training", "rewards", "[a list of 1 to 12](#spectrainingrewards)", "**needed**"),
        ("spec.workers", "sharedMemory", "an amount such as 500m, 16Gi or 8", ""),
        ("spec.workers", "affinity", "a mapping", ""),
        ("spec.workers.resources", "limits", "a mapping of texts to amounts", ""),
    ],
)
def test_rows_say_what_is_allowed_and_what_is_the_default(
    section: str, key: str, allowed: str, default: str | None
) -> None:
    cells = rows(section)[key]
    assert cells[1] == allowed
    assert default is None or cells[2].strip() == default


def test_links_lead_to_sections() -> None:
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in SECTIONS}
    links = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert len(links) > 30
    assert links <= anchors


def test_rules_between_keys_are_told() -> None:
    assert "- `eta` must be at most 1 when law is CPS" in SECTIONS["spec.training.algorithm.g2rpo.noise"]
    assert "- it must be exactly one of secretKeyRef" in SECTIONS["spec.workers.env[].valueFrom"]
    assert "- `spec.workers` can be changed only while the job is suspended" in SECTIONS["spec"]


@pytest.mark.parametrize(("title", "words"), [("Reasons of conditions", Reason), ("Reasons of failures", Cause)])
def test_every_reason_is_explained(title: str, words: type[Reason] | type[Cause]) -> None:
    found = rows(title)
    assert list(found) == [word.value for word in words]
    assert all(cells[1].endswith(".") for cells in found.values())


def test_every_exit_code_is_explained() -> None:
    found = rows("Exit codes of the trainer")
    assert list(found) == [str(int(code)) for code in ExitCode]
    assert all(cells[2].endswith(".") for cells in found.values())


@pytest.mark.parametrize(
    ("title", "prefix"),
    [
        ("Environment of the trainer", "ENV_"),
        ("Labels", "LABEL_"),
        ("Paths that a trainer serves", "PATH_"),
        ("The run folder", "RUN_"),
    ],
)
def test_every_name_that_others_rely_on_is_explained(title: str, prefix: str) -> None:
    found = rows(title)
    assert set(found) == {value for name, value in vars(contract).items() if name.startswith(prefix)}
    assert all(cells[1].endswith(".") for cells in found.values()), found


def test_tables_are_tables_whatever_stands_in_them() -> None:
    assert table(("A", "B"), [("a|b", "<job>")]) == "| A | B |\n| --- | --- |\n| a\\|b | &lt;job> |\n"


def test_texts_below_assignments_are_theirs() -> None:
    class Colour(StrEnum):
        """A colour."""

        RED = "red"
        """Like
        blood."""
        BLUE = "blue"
        GREEN = "green"
        """Like grass."""

    assert docstrings(Colour) == {"RED": "Like blood.", "BLUE": "", "GREEN": "Like grass."}
