"""Draws docs/images/architecture.svg: the rooms of the code by what may import what, and where each meets the world.

    python docs/architecture.py            write it
    python docs/architecture.py --check    exit with 1 if it is not what the code is

Who calls this: `make generate` and `make check-generated`. Floors are those that .importlinter enforces; who imports
which library is read from the code.
"""

from __future__ import annotations

import configparser
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import grimp

from g2rpo_api.generate import run

ROOT = Path(__file__).resolve().parents[1]
PICTURE = "docs/images/architecture.svg"
OPERATOR, API, TRAINER = PACKAGES = ("g2rpo_operator", "g2rpo_api", "g2rpo_trainer")
WIDTHS = {OPERATOR: 360, API: 370, TRAINER: 430}
TITLES = {OPERATOR: "makes pods of jobs", API: "what a job is; imported by both", TRAINER: "what runs in the pods"}
WORLD = (
    "kopf", "kubernetes", "aiohttp", "prometheus_client", "deepspeed", "diffusers", "transformers", "onnxruntime",
    "matplotlib", "pyarrow", "urllib3",
)  # fmt: skip
"""Libraries that are named at the rooms that import them; of several, the first."""
CHAR, HEIGHT, GAP, PAD = 6.7, 22, 6, 14
STYLE = """
text { font: 11px ui-monospace, monospace; fill: #1c2733; }
.title { font: bold 14px system-ui, sans-serif; }
.small { fill: #5b6b7b; font: 12px system-ui, sans-serif; }
.house { fill: #f6f8fa; stroke: #c3ccd5; }
.room { fill: #ffffff; stroke: #9fb0c0; }
.torch { fill: #e3effb; stroke: #6d9ecb; }
.edge { fill: #fde9cf; stroke: #d8973c; }
"""
LEGEND = (
    ("room", "plain Python"),
    ("torch", "with torch"),
    ("edge", "with the library named"),
)


@dataclass(frozen=True)
class Room:
    """A module or package directly below a distribution, and the library by which it meets the world."""

    name: str
    library: str
    torch: bool

    @property
    def text(self) -> str:
        """What stands in its box."""
        return f"{self.name} · {self.library}" if self.library else self.name

    @property
    def kind(self) -> str:
        """Its class in the style."""
        return "edge" if self.library else "torch" if self.torch else "room"

    @property
    def width(self) -> float:
        """Of its box."""
        return CHAR * len(self.text) + 12


def floors(package: str, graph: grimp.ImportGraph) -> list[list[str]]:
    """Names of rooms from the top floor down; those of a distribution without contract by what they import."""
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    for section in config.sections():
        if config[section].get("containers", "").strip() == package:
            lines = config[section]["layers"].strip().splitlines()
            return [[name.strip() for name in line.split(":")] for line in lines]
    return list(levels(package, graph))[::-1]


def levels(package: str, graph: grimp.ImportGraph) -> Iterator[list[str]]:
    """Rooms that import only those before them, from the bottom up."""
    left = set(graph.find_children(package))
    while left:
        ready = {name for name in left if not graph.find_modules_directly_imported_by(name) & left}
        yield sorted(name.removeprefix(f"{package}.") for name in ready)
        left -= ready


def room(package: str, name: str, graph: grimp.ImportGraph) -> Room:
    """A room with what anything in it imports."""
    whole = f"{package}.{name}"
    inside = {whole, *graph.find_descendants(whole)}
    imported = {target.split(".")[0] for module in inside for target in graph.find_modules_directly_imported_by(module)}
    return Room(name, next((library for library in WORLD if library in imported), ""), "torch" in imported)


def box(kind: str, x: float, y: float, width: float, text: str) -> str:
    """SVG of a rectangle with a text in it."""
    rectangle = f'<rect class="{kind}" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{HEIGHT}" rx="4"/>'
    return f'{rectangle}<text x="{x + 6:.0f}" y="{y + 15:.0f}">{escape(text)}</text>'


def house(package: str, graph: grimp.ImportGraph, x: float) -> tuple[list[str], float]:
    """SVG of the floors of a distribution, and where they end."""
    parts, down, right = [], 58.0, x + WIDTHS[package] - PAD
    for floor in floors(package, graph):
        across = x + PAD
        for item in (room(package, name, graph) for name in floor):
            if across + item.width > right:
                across, down = x + PAD, down + HEIGHT + 2
            parts.append(box(item.kind, across, down, item.width, item.text))
            across += item.width + GAP
        down += HEIGHT + GAP + 4
    return parts, down


def picture() -> str:
    """The whole drawing."""
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True)
    places = {package: 10.0 + sum(WIDTHS[other] + 20 for other in PACKAGES[:i]) for i, package in enumerate(PACKAGES)}
    insides = {package: house(package, graph, x) for package, x in places.items()}
    bottom = max(end for _, end in insides.values()) + 4
    lines = []
    for package, x in places.items():
        frame = f'x="{x:.0f}" y="10" width="{WIDTHS[package]}" height="{bottom - 10:.0f}" rx="8"'
        lines.append(f'<rect class="house" {frame}/>')
        lines.append(f'<text class="title" x="{x + PAD:.0f}" y="32">{package}</text>')
        lines.append(f'<text class="small" x="{x + PAD:.0f}" y="49">{TITLES[package]}</text>')
        lines += insides[package][0]
    across = 10.0 + PAD
    for kind, text in LEGEND:
        lines.append(box(kind, across, bottom + 12, CHAR * len(text) + 12, text))
        across += CHAR * len(text) + 12 + 2 * GAP
    size = f"0 0 {sum(WIDTHS.values()) + 60} {bottom + 46:.0f}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" role="img" aria-label="Rooms of the code">'
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", ground, *lines, "</svg>", ""])


if __name__ == "__main__":
    sys.exit(run({PICTURE: picture}, "python docs/architecture.py", sys.argv[1:]))
