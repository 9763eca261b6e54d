"""A small drawing kit: lines, points, bands and bars over iterations, as SVG for a page.

Who calls this: `panels.py` and `curve_figure.py`, which know what to draw. The figures use matplotlib's
objects and never pyplot, so drawing leaves no state behind. Import it late: matplotlib takes a second.

Colours are names. Within a page they become CSS variables, so that one drawing serves light, dark and
paper; `LIGHT` has the values for a file that stands alone.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from g2rpo_trainer.reporting.series import Point, smooth, smoothing_width, thin

LIGHT = {
    "ink": "#1f2430",
    "muted": "#6b7280",
    "grid": "#e5e7eb",
    "s1": "#2563c9",
    "s2": "#d9580d",
    "s3": "#00856f",
    "s4": "#9333a8",
    "s5": "#2f93c9",
    "s6": "#b4234a",
    "s7": "#8a6d00",
    "s8": "#9aa3b2",
}
"""Colours on white; s1 to s8 are series, told apart also by the colour-blind."""
SERIES = tuple(name for name in LIGHT if name.startswith("s"))
PLACEHOLDERS = {name: f"#0101{index:02x}" for index, name in enumerate(LIGHT, start=1)}
"""What matplotlib is told; the finished SVG gets the real colour instead."""
RAMP = ("#3b6fd4", "#4f8fc0", "#5aa79b", "#7aae62", "#b3a13a", "#d98a2b", "#d8652f", "#c9405a")
"""Steps in their order, noisiest first: between black and white, so they show on both."""
ROUND = [1, 2, 2.5, 5, 10]
"""Distances between ticks, times a power of ten."""
MAX_POINTS = 300
"""Points of a line; more would not be seen."""
NAME_WIDTH = 0.25
"""Share of the horizontal axis that the name of an attempt takes, with some room."""
WIDTH, HEIGHT = 360, 210
"""Units of a chart on the page."""
MARGINS = (46, 6, 38, 18)
"""Units left of, right of, below and above the axes."""

Style = Literal["line", "dashed", "points", "area"]


@dataclass(frozen=True)
class LegendEntry:
    """A line of the legend, which the page draws as text."""

    label: str
    color: str
    """A name of `LIGHT` or a hexadecimal colour."""
    style: Style = "line"


@dataclass(frozen=True)
class Chart:
    """A finished chart and what the page says about it."""

    name: str
    """Unique on the page; starts every id within the SVG."""
    title: str
    note: str
    """How to read it, in a sentence."""
    svg: str
    legend: tuple[LegendEntry, ...] = ()


@dataclass
class Canvas:
    """One pair of axes over iterations."""

    name: str
    axes: Axes
    figure: Figure
    legend: list[LegendEntry] = field(default_factory=list)

    @classmethod
    def blank(cls, name: str) -> Canvas:
        """Axes without a frame, light horizontal lines, a few ticks."""
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
        left, right, bottom, top = MARGINS
        box = (left / WIDTH, bottom / HEIGHT, (WIDTH - left - right) / WIDTH, (HEIGHT - bottom - top) / HEIGHT)
        axes = figure.add_axes(box)
        dress(axes)
        return cls(name, axes, figure)

    def line(self, points: Iterable[Point], entry: LegendEntry, gid: str, width: float = 1.8) -> None:
        """A line through the finite points, thinned, with its line in the legend; nothing without points."""
        known = finite(points)
        if not known:
            return
        x, y = zip(*thin(known, MAX_POINTS), strict=True)
        dashes = (0, (4, 2)) if entry.style == "dashed" else "-"
        marker = "o" if len(known) == 1 else ""
        self.axes.plot(
            x,
            y,
            color=placeholder(entry.color),
            linewidth=width,
            linestyle=dashes,
            marker=marker,
            markersize=4,
            gid=gid,
        )
        self.legend.append(entry)

    def smooth(self, points: Iterable[Point], entry: LegendEntry, gid: str) -> None:
        """Faint raw points and a smoothed line through them."""
        known = finite(points)
        if not known:
            return
        x, y = zip(*thin(known, MAX_POINTS), strict=True)
        color = placeholder(entry.color)
        self.axes.plot(x, y, color=color, alpha=0.28, linestyle="", marker=".", markersize=4, gid=f"{gid}-raw")
        self.line(smooth(known, smoothing_width(len(known)), MAX_POINTS), entry, gid)

    def points(self, points: Sequence[Point], errors: Sequence[float], entry: LegendEntry, gid: str) -> None:
        """Marked points with error bars, joined by a thin line; points without a finite error have no bar."""
        if not points:
            return
        x, y = zip(*points, strict=True)
        bars = [error if math.isfinite(error) else 0.0 for error in errors]
        color, dashes = placeholder(entry.color), (0, (4, 2)) if entry.style == "dashed" else "-"
        self.axes.vlines(
            x, [v - e for v, e in zip(y, bars, strict=True)], [v + e for v, e in zip(y, bars, strict=True)],
            color=color, linewidth=1.2, alpha=0.45,
        )  # fmt: skip
        self.axes.plot(x, y, color=color, linewidth=1.2, linestyle=dashes, marker="o", markersize=4.5, gid=gid)
        self.legend.append(entry)

    def attempts(self, starts: Iterable[tuple[int, int]], span: float = 0.0) -> None:
        """A dashed line where each later attempt took over, with its name where the one before, in a span, is far."""
        named, muted = -math.inf, PLACEHOLDERS["muted"]
        for iteration, attempt in starts:
            x, gid = iteration - 0.5, f"attempt-{attempt}"
            self.axes.axvline(x, color=muted, linewidth=1, linestyle=(0, (2, 3)), gid=gid)
            if x - named > NAME_WIDTH * span:
                named = x
                self.axes.annotate(
                    f"attempt {attempt}", (x, 1), xycoords=("data", "axes fraction"),
                    xytext=(0, 3), textcoords="offset points", ha="center", color=muted, fontsize=9,
                )  # fmt: skip

    def from_zero(self) -> None:
        """Let the vertical axis begin at 0, with some air above what is drawn so far."""
        self.axes.set_ylim(0, 1.05 * self.axes.get_ylim()[1])

    def percent(self) -> None:
        """Shares on the vertical axis, from 0."""
        self.from_zero()
        self.axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{tick(100 * value)} %"))

    def counts(self) -> None:
        """Whole numbers on the vertical axis, from 0 to 1 or more."""
        self.from_zero()
        self.axes.set_ylim(top=max(1.0, self.axes.get_ylim()[1]))
        self.axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))

    def chart(self, title: str, note: str) -> Chart:
        """Finish: the canvas must not be drawn on any more."""
        svg = page_svg(self.figure, self.name, title)
        return Chart(self.name, title, note, svg, tuple(self.legend))


def finite(points: Iterable[Point]) -> list[Point]:
    """The points whose y is a number."""
    return [(x, y) for x, y in points if math.isfinite(y)]


def placeholder(color: str) -> str:
    """What to tell matplotlib for a colour's name; a hexadecimal colour stands for itself."""
    return PLACEHOLDERS.get(color, color)


def ramp(index: int, count: int) -> str:
    """The colour of item `index` of `count` that have an order."""
    return RAMP[round(index * (len(RAMP) - 1) / max(1, count - 1))]


def dress(axes: Axes) -> None:
    """No frame, light horizontal lines, whole iterations."""
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(PLACEHOLDERS["grid"])
    axes.grid(axis="y", color=PLACEHOLDERS["grid"], linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=5, labelsize=12, labelcolor=PLACEHOLDERS["muted"])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=ROUND))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))


def tick(value: float) -> str:
    """A number in at most six characters or so: 0.25, 1200, 2e-05, 0."""
    if abs(value) < 1e-12:
        return "0"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}".replace("e-0", "e-").replace("-", "−")


def svg_text(figure: Figure, salt: str, letters: Literal["none", "path"]) -> str:
    """The figure as matplotlib writes it, the same bytes each time; letters as text or as outlines."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": letters, "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=letters == "none")
    return buffer.getvalue()


def page_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an element of a page: own ids, colours as CSS variables, text in the page's font."""
    body = svg_text(figure, name, "none")
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body[body.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r"font-size: [^;]*; font-family: [^;]*; ", "", body)
    body = re.sub(r' transform="rotate\(-0 [^"]*"', "", body)
    body = own_ids(re.sub(r"\s*\n\s*", "\n", body), name)
    body = colored(body, {color: f"var(--{color})" for color in LIGHT})
    label = title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    head = f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}" xmlns="http://www.w3.org/2000/svg">'
    return re.sub(r"<svg.*?>", lambda _: head, body, count=1, flags=re.DOTALL).replace("xlink:href", "href").strip()


def colored(svg: str, colors: Mapping[str, str]) -> str:
    """The drawing with each placeholder replaced by its colour."""
    for name, value in PLACEHOLDERS.items():
        svg = svg.replace(value, colors[name])
    return svg


def own_ids(svg: str, prefix: str) -> str:
    """Prefix every id and drop those that matplotlib numbers and nobody refers to."""
    used = set(re.findall(r"#([\w.-]+)", svg))

    def renamed(match: re.Match[str]) -> str:
        name = match.group(1)
        return "" if name not in used and re.fullmatch(r"[\w.]+_\d+", name) else f' id="{prefix}-{name}"'

    svg = re.sub(r' id="([^"]*)"', renamed, svg)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
