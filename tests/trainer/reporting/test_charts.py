"""The drawing kit: pictures that can stand beside each other in one page, in its colours."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import pytest

from g2rpo_trainer.reporting import charts
from g2rpo_trainer.reporting.charts import LIGHT, MAX_POINTS, PLACEHOLDERS, RAMP, Canvas, Chart, LegendEntry, ramp, tick


def chart(name: str) -> Chart:
    canvas = Canvas.blank(name)
    canvas.smooth([(float(i), i * 0.1) for i in range(20)], LegendEntry("raw", "s1"), "raw")
    canvas.points([(0.0, 0.5), (10.0, 0.9)], [0.1, math.inf], LegendEntry("measured", "s2", "dashed"), "measured")
    canvas.attempts([(7, 2)])
    return canvas.chart('Reward <&> "more"', "note")


def test_ids_of_two_charts_never_meet() -> None:
    ids = [set(re.findall(r'id="([^"]+)"', chart(name).svg)) for name in ("one", "two")]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert all(found.startswith("one-") for found in ids[0])


def test_everything_that_is_referred_to_is_there() -> None:
    svg = chart("one").svg
    ids = re.findall(r'id="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
    assert referred
    assert referred <= set(ids)


def test_colours_are_those_of_the_page() -> None:
    svg = chart("one").svg
    assert not [value for value in PLACEHOLDERS.values() if value in svg]
    assert {"var(--s1)", "var(--s2)", "var(--grid)", "var(--muted)"} <= set(re.findall(r"var\(--\w+\)", svg))


def test_the_element_is_named_scales_and_brings_no_style_of_its_own() -> None:
    svg = chart("one").svg
    head = svg[: svg.index(">")]
    assert 'role="img"' in head
    assert 'aria-label="Reward &lt;&amp;&gt; &quot;more&quot;"' in head
    assert "width=" not in head
    assert "<style" not in svg
    assert "font-family" not in svg
    assert "font-size" not in svg
    assert "xlink" not in svg


def test_the_same_chart_has_the_same_bytes() -> None:
    assert chart("one").svg == chart("one").svg


def test_letters_are_text() -> None:
    assert "attempt 2</text>" in chart("one").svg


def test_names_of_attempts_that_follow_closely_do_not_cover_each_other() -> None:
    canvas = Canvas.blank("near")
    canvas.line([(0.0, 0.0), (100.0, 1.0)], LegendEntry("a", "s1"), "a")
    canvas.attempts([(20, 4), (22, 5), (44, 6), (90, 7)], span=100)
    svg = canvas.chart("t", "n").svg
    assert re.findall(r"attempt \d[^<]*", svg) == ["attempt 4", "attempt 7"]
    assert set(re.findall(r'id="near-attempt-(\d)"', svg)) == set("4567")


def test_a_long_curve_stays_small() -> None:
    canvas = Canvas.blank("long")
    canvas.line([(float(i), math.sin(i)) for i in range(20_000)], LegendEntry("a", "s1"), "a")
    svg = canvas.chart("t", "n").svg
    path = re.search(r'id="long-a">\s*<path d="([^"]+)"', svg)
    assert path is not None
    assert 2 <= len(re.findall("[ML]", path.group(1))) <= MAX_POINTS + 1


def test_gaps_are_left_out_and_nothing_makes_no_line() -> None:
    canvas = Canvas.blank("gaps")
    canvas.line([(0.0, math.nan), (1.0, math.inf)], LegendEntry("nothing", "s1"), "nothing")
    canvas.smooth([], LegendEntry("nothing", "s1"), "nothing")
    canvas.points([], [], LegendEntry("nothing", "s1"), "nothing")
    canvas.line([(0.0, 1.0), (1.0, math.nan), (2.0, 3.0)], LegendEntry("something", "s2"), "something")
    finished = canvas.chart("t", "n")
    assert [entry.label for entry in finished.legend] == ["something"]
    assert "nan" not in finished.svg.lower().replace("nance", "")


def test_a_single_point_is_visible() -> None:
    canvas = Canvas.blank("single")
    canvas.line([(1.0, 0.5)], LegendEntry("one", "s1"), "one")
    assert "<use" in canvas.chart("t", "n").svg.split('id="single-one"')[1]


@pytest.mark.parametrize(("value", "text"), [
    (0.0, "0"), (1e-17, "0"), (0.25, "0.25"), (-0.5, "−0.5"), (2e-5, "2e−5"), (1200.0, "1200"), (-3.0, "−3"),
    (0.0001, "0.0001"), (123456.0, "123456"),
])  # fmt: skip
def test_ticks_are_short(value: float, text: str) -> None:
    assert tick(value) == text


@pytest.mark.parametrize("count", [1, 2, 3, 8, 16])
def test_ordered_colours_begin_and_end_with_the_ramp(count: int) -> None:
    colors = [ramp(i, count) for i in range(count)]
    assert colors[0] == RAMP[0]
    if count > 1:
        assert colors[-1] == RAMP[-1]
    if count <= len(RAMP):
        assert len(set(colors)) == count


def test_placeholders_are_no_colour_that_is_used() -> None:
    assert not set(PLACEHOLDERS.values()) & {*LIGHT.values(), *RAMP}
    assert len(set(PLACEHOLDERS.values())) == len(LIGHT)


def test_a_trainer_starts_without_matplotlib() -> None:
    names = ("monitoring.console", "monitoring.telemetry", "reporting.curves", "reporting.grids", "reporting.report")
    modules = ", ".join(f"g2rpo_trainer.{name}" for name in names)
    code = f"import sys, {modules}; sys.exit(bool({{'matplotlib', 'torch'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_drawing_leaves_no_state_behind() -> None:
    code = "import sys, g2rpo_trainer.reporting.panels; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    before = dict(charts.mpl.rcParams)
    chart("one")
    assert dict(charts.mpl.rcParams) == before
