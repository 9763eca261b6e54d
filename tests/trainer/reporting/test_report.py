"""report.html: complete, valid, self-contained, and true to the run folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from g2rpo_trainer.errors import DataError, StorageError
from g2rpo_trainer.reporting.report import read_job, write_report

Attributes = dict[str, str]
VOID = {"meta", "link", "img", "br", "input", "hr"}
HEADINGS = {"h1", "h2", "h3"}


@dataclass
class Page(HTMLParser):
    """A page taken apart; refuses tags that are not closed in order."""

    elements: list[tuple[str, Attributes]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    """(innermost tag, text)."""
    cells: list[list[str]] = field(default_factory=list)
    """Rows of all tables."""
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "tr":
            self.cells.append([])
        if tag in {"td", "th"}:
            self.cells[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))
        if self.open and self.open[-1] in {"td", "th"}:
            self.cells[-1][-1] += data.strip()

    def all(self, tag: str) -> Iterator[Attributes]:
        return (attributes for name, attributes in self.elements if name == tag)

    def words(self) -> str:
        return " ".join(text for tag, text in self.texts if tag not in {"style", "pre"})


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def page(make: Any, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report of a good run."""
    return read(write_report(make.folder(tmp_path_factory.mktemp("run"), make.rising_run())))


def test_the_file_is_where_the_contract_says_and_alone(make: Any, tmp_path: Path) -> None:
    folder = make.folder(tmp_path, make.rising_run())
    before = {path.name for path in folder.iterdir()}
    assert write_report(folder) == folder / "report.html"
    assert {path.name for path in folder.iterdir()} == before | {"report.html"}


def test_nothing_is_fetched(page: Page) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:")), (tag, name, value[:80])
    assert not {"script", "iframe", "object", "embed", "form"} & {tag for tag, _ in page.elements}
    styles = " ".join(text for tag, text in page.texts if tag == "style")
    assert "url(" not in styles
    assert "@import" not in styles


def test_ids_are_unique_and_references_lead_somewhere(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = {attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes}
    uses = {attributes["href"][1:] for attributes in page.all("use")}
    clips = {attributes["clip-path"][5:-1] for _, attributes in page.elements if "clip-path" in attributes}
    assert labels
    assert uses
    assert clips
    assert labels | uses | clips <= set(ids)


def test_headings_descend_one_by_one(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if tag in HEADINGS]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_pictures_and_charts_are_named(page: Page) -> None:
    images = list(page.all("img"))
    assert images
    assert all(image["alt"] for image in images)
    charts = list(page.all("svg"))
    assert len(charts) >= 10
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert next(page.all("html"))["lang"] == "en"


def test_tables_have_headings_with_scope(page: Page) -> None:
    tags = [tag for tag, _ in page.elements]
    assert tags.count("caption") == tags.count("table") > 4
    assert {heading.get("scope") for heading in page.all("th")} == {"row", "col"}


def test_the_page_knows_light_dark_and_paper(page: Page) -> None:
    styles = " ".join(text for tag, text in page.texts if tag == "style")
    light, dark, paper = (
        re.search(pattern, styles, re.DOTALL)
        for pattern in (
            r"^:root \{(.*?)\}",
            r"prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}",
            r"print \{\s*:root \{(.*?)\}",
        )
    )
    used = set(re.findall(r"var\((--[\w-]+)", " ".join(a.get("style", "") for _, a in page.elements)))
    assert {"--s1", "--grid", "--muted"} <= used
    defined = [set(re.findall(r"(--[\w-]+):", block.group(1))) for block in (light, dark, paper) if block]
    assert len(defined) == 3
    assert all(used - {"--c"} <= names for names in defined)
    assert defined[0] == defined[1] == defined[2]


def test_the_head_says_who_what_and_how_it_went(page: Page) -> None:
    assert ("h1", "numbers") in page.texts
    words = page.words()
    for fact in ("G2RPO", "builtin:miniature", "40 of 40 iterations", "1 min 22 s", "2023-11-14 22:14 UTC"):
        assert fact in words
    assert "It worked, and the held-out judge agrees" in words
    assert "The held-out reward reader rose by 30 points (10 % → 40 %)." in words


def test_scores_stand_in_the_table(page: Page) -> None:
    rows = [row for row in page.cells if row[0] in {"ocr", "reader"} and len(row) == 10]
    assert len(rows) == 4
    first = dict(zip(page.cells[[row[0] for row in page.cells].index("reward")], rows[0], strict=True))
    assert (first["reward"], first["role"], first["prompts"]) == ("ocr", "trained", "80")
    assert (first["before"], first["after"], first["change"], first["reading"]) == ("0.30", "0.70", "+0.40", "rose")


def test_pictures_stand_before_and_after_and_in_the_strip(page: Page) -> None:
    alts = [image["alt"] for image in page.all("img")]
    assert alts[:4] == [
        "a 1, before training", "a 1, after iteration 40", "a 2, before training", "a 2, after iteration 40",
    ]  # fmt: skip
    assert len(alts) == 4 + 5 * 2
    assert all(image.get("class") == "tiny" for image in page.all("img"))


def test_settings_and_the_whole_job_are_there(make: Any, page: Page) -> None:
    assert ["g2rpo.clipRange", "0.001"] in page.cells
    assert ("pre", make.job.strip()) in page.texts


def test_an_interruption_is_told(page: Page) -> None:
    assert "went on from a checkpoint as attempt 2 at iteration 25" in page.words()


def test_time_and_totals(page: Page) -> None:
    assert ["wall time", "1 min 22 s"] in page.cells
    assert ["pictures trained on", "8,000"] in page.cells
    assert ["rollout (model)", "40.0 s", "48.8 %"] in page.cells


@pytest.mark.parametrize("count", [1, 2, 12])
def test_a_young_run_has_a_page(make: Any, tmp_path: Path, count: int) -> None:
    page = read(write_report(make.folder(tmp_path, make.rising_run()[:count])))
    titles = {text for tag, text in page.texts if tag == "h2"}
    assert "No verdict yet" in titles or count == 12
    assert {"Pictures", "Rewards", "Time and totals", "Settings"} <= titles
    assert ("Policy health" in titles) == (count > 1)
    assert "What the pictures look like" in titles
    if count == 1:
        assert ["reader", "held out", "training prompts", "80", "0.1 ± 0.3"] in page.cells
        assert "What the model draws at iteration 0." in page.words()


def test_a_run_without_held_out_rewards(make: Any, tmp_path: Path) -> None:
    records = [make.record(i, evaluation=[make.evaluation(80, ocr=make.spread(0.3 + i / 50))]) for i in (0, 10)]
    page = read(write_report(make.folder(tmp_path, records)))
    assert "nothing independent was watched" in page.words()
    assert "reader (held out)" not in page.words()


def test_a_run_without_any_evaluation(make: Any, tmp_path: Path) -> None:
    page = read(write_report(make.folder(tmp_path, [make.record(i) for i in range(1, 4)])))
    assert "none so far" in page.words()
    assert "ocr (trained)" in page.words()


def test_a_run_without_pictures_and_without_job(make: Any, tmp_path: Path) -> None:
    folder = make.folder(tmp_path, make.rising_run(), job=None, captions=())
    page = read(write_report(folder))
    assert "The run folder holds no pictures." in page.words()
    assert "The run folder holds no job.yaml." in page.words()
    assert ("h1", folder.name) in page.texts


def test_a_damaged_picture_does_not_cost_the_page(make: Any, tmp_path: Path) -> None:
    folder = make.folder(tmp_path, make.rising_run())
    (folder / "samples/iter-000010.png").write_bytes(b"no picture")
    page = read(write_report(folder))
    assert "iter-000010.png cannot be read as a picture" in page.words()
    assert "On the way" in page.words()


def test_what_people_wrote_is_text_and_not_markup(make: Any, tmp_path: Path) -> None:
    evil = '<script>alert("x")</script> & {{ 7 * 7 }}'
    job = f"metadata:\n  name: '{evil}'\nspec: {{training: {{model: {{path: '<b>bold'}}}}}}\n"
    page = read(write_report(make.folder(tmp_path, make.rising_run(10, 5), job=job, captions=[evil])))
    assert not list(page.all("script"))
    assert not list(page.all("b"))
    assert ("h1", evil) in page.texts
    assert next(page.all("img"))["alt"] == f"{evil}, before training"


@pytest.mark.parametrize(("text", "name"), [
    ("metadata: {name: [", "default"), ("- a list", "default"), ("", "default"), ("metadata: text", "default"),
    ("metadata: {name: good}\nspec: {training: {rewards: [3], iterations: soon}}", "good"),
])  # fmt: skip
def test_odd_jobs_are_shown_as_they_are(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    job = read_job(tmp_path / "job.yaml")
    assert job.text == text
    assert job.name("default") == name
    assert job.roles() == {}
    assert job.iterations is None


def test_roles_come_from_the_job(make: Any, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(make.job)
    assert read_job(tmp_path / "job.yaml").roles() == {"ocr": "train", "reader": "heldout"}


def test_no_record_no_page(make: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metrics\.jsonl: No such file"):
        write_report(tmp_path)
    with pytest.raises(DataError, match="no whole record yet"):
        write_report(make.folder(tmp_path, []))


def test_a_page_that_cannot_be_written_is_a_storage_error(make: Any, tmp_path: Path) -> None:
    folder = make.folder(tmp_path, [make.record(1)])
    (folder / "report.html").mkdir()
    with pytest.raises(StorageError, match=r"report\.html"):
        write_report(folder)


def test_the_page_of_a_long_run_is_light(make: Any, tmp_path: Path) -> None:
    records = [make.record(i, policy=make.policy(k=8)) for i in range(1, 1500)]
    path = write_report(make.folder(tmp_path, records))
    assert path.stat().st_size < 1_500_000
