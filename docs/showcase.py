"""The README's pictures, from the run folder of the quickstart.

python docs/showcase.py runs/miniature-g2rpo
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image, ImageDraw

from g2rpo_api import contract
from g2rpo_trainer.reporting.grids import caption_font, read_grid

IMAGES = Path(__file__).parent / "images"
SCALE, GAP, MARGIN = 5, 14, 70


def before_after(first: Path, last: Path) -> Image.Image:
    """Two rows of pictures, each under the prompt that asked for it."""
    rows = [read_grid(path) for path in (first, last)]
    width, height = (SCALE * side for side in rows[0][0].picture.size)
    sheet = Image.new("RGB", (MARGIN + len(rows[0]) * (width + GAP), 30 + 2 * (height + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), caption_font()
    for column, probe in enumerate(rows[0]):
        draw.text((MARGIN + column * (width + GAP), 8), probe.caption, "black", font)
    for row, (label, probes) in enumerate(zip(("before", "after"), rows, strict=True)):
        top = 30 + row * (height + GAP)
        draw.text((8, top + height // 2 - 7), label, "black", font)
        for column, probe in enumerate(probes):
            picture = probe.picture.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(picture, (MARGIN + column * (width + GAP), top))
    return sheet


def main(run: Path) -> None:
    samples = sorted((run / contract.RUN_SAMPLES).glob("iter-*.png"))
    IMAGES.mkdir(exist_ok=True)
    before_after(samples[0], samples[-1]).save(IMAGES / "before-after.png", optimize=True)
    shutil.copyfile(run / contract.RUN_CURVE_SVG, IMAGES / "curve.svg")
    print(f"pictures of iterations {samples[0].stem} and {samples[-1].stem} in {IMAGES}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
