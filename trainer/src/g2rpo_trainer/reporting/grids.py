"""Probe pictures in one PNG with their prompts beneath, and the pictures out of it again.

Who calls this: the loop writes a grid after each evaluation; the report cuts it up. Where each picture
lies stands in the file's own text chunk, so a grid is read without knowing how it was laid out.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin, UnidentifiedImageError

from g2rpo_trainer.errors import DataError
from g2rpo_trainer.storage import replace_file, storage_errors

if TYPE_CHECKING:  # a report is written again without torch's seconds
    from torch import Tensor

CHUNK = "g2rpo-probes"
"""Keyword of the PNG's text chunk: JSON with captions, boxes (x, y, width, height) and scale."""
GROWN = 256
"""Pixels up to which the longer side of a tiny picture is enlarged."""
MIN_CELL = 160
"""Narrowest cell, so that captions have room."""
GAP, FONT_SIZE, LINE, MAX_CAPTION_LINES = 12, 14, 18, 3
BACKGROUND, INK = "white", "#1f2430"


@dataclass(frozen=True)
class Probe:
    """One picture of a grid at its own size."""

    caption: str
    picture: Image.Image


@dataclass(frozen=True)
class Layout:
    """Where things go, in pixels."""

    scale: int
    columns: int
    cell: tuple[int, int]
    """Width and height of picture plus caption, without the gap."""
    tile: tuple[int, int]
    """Width and height of an enlarged picture."""
    lines: tuple[tuple[str, ...], ...]
    """Each caption as it is written."""

    def box(self, index: int) -> tuple[int, int, int, int]:
        """x, y, width, height of picture `index`."""
        row, column = divmod(index, self.columns)
        x, y = GAP + column * (self.cell[0] + GAP), GAP + row * (self.cell[1] + GAP)
        return x, y, *self.tile

    def size(self, count: int) -> tuple[int, int]:
        """Width and height of the whole grid."""
        rows = math.ceil(count / self.columns)
        return GAP + self.columns * (self.cell[0] + GAP), GAP + rows * (self.cell[1] + GAP)


def probe_grid(images: Tensor, captions: Sequence[str], path: Path) -> None:
    """Write pictures with captions as a PNG; replaces the file at once.

    Tiny pictures are enlarged by a whole number, pixel by pixel; others keep their size.

    Args:
        images: [N, 3, H, W], N, H and W at least 1, in 0..1; values outside are clamped, NaN becomes black.
        captions: N texts.
        path: of the PNG; its folder exists.

    Raises:
        ValueError: the shape is another one, or the captions do not match it.
        StorageError: the file cannot be written.
    """
    if images.dim() != 4 or images.shape[1] != 3 or len(images) != len(captions) or not images.numel():
        raise ValueError(f"a grid takes [N, 3, H, W] with N captions, not {list(images.shape)} with {len(captions)}")
    layout = plan(len(images), int(images.shape[2]), int(images.shape[3]), captions)
    buffer = io.BytesIO()
    _draw(to_pictures(images), layout).save(buffer, "PNG", pnginfo=_notes(layout, captions))
    with storage_errors(path):
        replace_file(path, buffer.getvalue())


def _draw(pictures: Sequence[Image.Image], layout: Layout) -> Image.Image:
    sheet = Image.new("RGB", layout.size(len(pictures)), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), caption_font()
    for index, (picture, lines) in enumerate(zip(pictures, layout.lines, strict=True)):
        x, y, width, height = layout.box(index)
        sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), (x, y))
        for number, line in enumerate(lines):
            draw.text((x, y + height + 4 + number * LINE), line, fill=INK, font=font)
    return sheet


def read_grid(path: Path) -> list[Probe]:
    """The pictures of a grid, at the size at which they were made; a PNG without notes is one picture.

    Raises:
        DataError: the file is missing or no picture.
    """
    try:
        with Image.open(path) as opened:
            sheet = opened.convert("RGB")
            notes = opened.info.get(CHUNK)
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read as a picture ({error}); delete it to be rid of this note") from error
    if notes is None:
        return [Probe(path.stem, sheet)]
    known = json.loads(notes)
    return [
        Probe(caption, _cut(sheet, box, known["scale"]))
        for caption, box in zip(known["captions"], known["boxes"], strict=True)
    ]


def plan(count: int, height: int, width: int, captions: Sequence[str]) -> Layout:
    """Enlarge by a whole number, give captions the lines they need, come close to 4:3."""
    scale = max(1, GROWN // max(height, width))
    tile = (width * scale, height * scale)
    across, font = max(tile[0], MIN_CELL), caption_font()
    lines = tuple(tuple(wrap(caption, across, font)) for caption in captions)
    cell = (across, tile[1] + 6 + max(len(some) for some in lines) * LINE)
    columns = min(count, max(1, round(math.sqrt(count * cell[1] / cell[0] * 4 / 3))))
    return Layout(scale, columns, cell, tile, lines)


def to_pictures(images: Tensor) -> list[Image.Image]:
    """[N, 3, H, W] in 0..1 as N pictures of 8 bits."""
    known = images.detach().float().nan_to_num(0.0, 1.0, 0.0).clamp(0, 1)
    values = (known * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(value) for value in values]


@cache
def caption_font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which has the letters of most alphabets; it lies in matplotlib, which is not imported for it."""
    package = find_spec("matplotlib")
    assert package is not None, "a dependency of this distribution"
    assert package.origin is not None, "a package with files"
    return ImageFont.truetype(Path(package.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf", FONT_SIZE)


def wrap(caption: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """The caption in at most three lines of `width` pixels; what does not fit ends in an ellipsis."""
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    kept = lines[:MAX_CAPTION_LINES]
    if len(lines) > len(kept):
        kept[-1] += "…"
    return [_fit(line, width, font) for line in kept]


def _fit(line: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(line) <= width:
        return line
    kept = line.rstrip("…")
    while kept and font.getlength(kept + "…") > width:
        kept = kept[:-1]
    return kept + "…"


def _notes(layout: Layout, captions: Sequence[str]) -> PngImagePlugin.PngInfo:
    boxes = [layout.box(index) for index in range(len(captions))]
    info = PngImagePlugin.PngInfo()
    info.add_text(CHUNK, json.dumps({"captions": list(captions), "boxes": boxes, "scale": layout.scale}))
    return info


def _cut(sheet: Image.Image, box: Sequence[int], scale: int) -> Image.Image:
    """The picture in the box, every scale-th pixel of it."""
    x, y, width, height = box
    tile = sheet.crop((x, y, x + width, y + height))
    return tile.resize((width // scale, height // scale), Image.Resampling.NEAREST)
