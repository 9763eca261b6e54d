"""The probe grids of a run folder as pictures of a page: before and after, and the way in between.

Who calls this: `report.py`. How a grid file is made and cut up is `grids.py`'s business.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from g2rpo_trainer.errors import DataError
from g2rpo_trainer.reporting.grids import Probe, read_grid
from g2rpo_trainer.reporting.series import evenly

NAME = re.compile(r"iter-(\d+)\.png")
MAX_MOMENTS = 8
"""Grids in the strip, first and last among them."""
PAIR_PIXELS, STRIP_PIXELS = 512, 160
"""Longest side of a picture before/after, and in the strip: larger ones are reduced."""
SMALL_PIXELS = 64 * 64
"""Pictures up to this area stay lossless."""


@dataclass(frozen=True)
class PagePicture:
    """A picture as it stands in the page."""

    uri: str
    alt: str
    pixelated: bool
    """Whether it is so small that it is enlarged pixel by pixel."""


@dataclass(frozen=True)
class Pair:
    """A probe before and after training."""

    caption: str
    before: PagePicture
    after: PagePicture


@dataclass(frozen=True)
class Moment:
    """All probes at one iteration."""

    iteration: int
    pictures: tuple[PagePicture | None, ...]
    """One per caption of the gallery; None where this grid has no such probe."""


@dataclass(frozen=True)
class Gallery:
    """What the page shows of the probes; `pairs` and `moments` are empty without at least one grid."""

    captions: tuple[str, ...]
    pairs: tuple[Pair, ...]
    """Empty with a single grid: there is no after."""
    moments: tuple[Moment, ...]
    unreadable: tuple[str, ...]
    """What could not be shown, and why."""

    @property
    def first(self) -> int:
        """Iteration of the pictures called before."""
        return self.moments[0].iteration

    @property
    def last(self) -> int:
        """Iteration of the pictures called after."""
        return self.moments[-1].iteration


def gallery(folder: Path, last_iteration: int) -> Gallery:
    """The grids `iter-<iteration>.png` of a folder up to an iteration; later ones belong to a lost attempt."""
    named = sorted((int(match.group(1)), path) for path in folder.glob("*.png") if (match := NAME.fullmatch(path.name)))
    usable = [(iteration, path) for iteration, path in named if iteration <= last_iteration]
    grids, unreadable = _read([usable[i] for i in evenly(len(usable), MAX_MOMENTS)])
    if not grids:
        return Gallery((), (), (), unreadable)
    captions = tuple(probe.caption for probe in grids[-1][1])
    moments = tuple(_moment(iteration, probes, captions) for iteration, probes in grids)
    return Gallery(captions, _pairs(grids[0], grids[-1]) if len(grids) > 1 else (), moments, unreadable)


def _read(files: list[tuple[int, Path]]) -> tuple[list[tuple[int, list[Probe]]], tuple[str, ...]]:
    """Grids by iteration, and why some could not be read."""
    grids, unreadable = [], []
    for iteration, path in files:
        try:
            grids.append((iteration, read_grid(path)))
        except DataError as error:
            unreadable.append(str(error))
    return grids, tuple(unreadable)


def _moment(iteration: int, probes: list[Probe], captions: tuple[str, ...]) -> Moment:
    known = {probe.caption: probe for probe in probes}
    pictures = (_picture(known[name], iteration, STRIP_PIXELS) if name in known else None for name in captions)
    return Moment(iteration, tuple(pictures))


def _pairs(first: tuple[int, list[Probe]], last: tuple[int, list[Probe]]) -> tuple[Pair, ...]:
    """Probes that both grids have, by caption: probes may have been changed between attempts."""
    before = {probe.caption: probe for probe in first[1]}
    return tuple(
        Pair(
            after.caption,
            _picture(before[after.caption], first[0], PAIR_PIXELS),
            _picture(after, last[0], PAIR_PIXELS),
        )
        for after in last[1]
        if after.caption in before
    )


def _picture(probe: Probe, iteration: int, longest: int) -> PagePicture:
    when = "before training" if iteration == 0 else f"after iteration {iteration}"
    tiny = max(probe.picture.size) <= longest // 2
    return PagePicture(data_uri(probe.picture, longest), f"{probe.caption}, {when}", tiny)


def data_uri(picture: Image.Image, longest: int) -> str:
    """The picture within a square of `longest` pixels: PNG when small, else JPEG."""
    shown = picture.copy()
    shown.thumbnail((longest, longest))
    kind = "png" if shown.width * shown.height <= SMALL_PIXELS else "jpeg"
    buffer = io.BytesIO()
    shown.save(buffer, kind, **({"optimize": True} if kind == "png" else {"quality": 86}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
