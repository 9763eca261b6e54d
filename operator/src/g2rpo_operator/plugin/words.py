"""Lines of styled text, numbers in few digits, and which word has which colour. Pure.

Who calls this: whatever is printed for people. Colours are for terminals only; that is decided where it is printed.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.text import Text

from g2rpo_operator.plugin.table import Widths

WIDEST_TEXT, NARROWEST_TEXT = 100, 30
GOOD, BAD, WARY, CALM = "green", "bold red", "yellow", "blue"
STYLES = {
    "Running": GOOD,
    "Succeeded": GOOD,
    "Completed": GOOD,
    "Failed": BAD,
    "Error": BAD,
    "OOMKilled": BAD,
    "Warning": WARY,
    "Restarting": WARY,
    "Terminating": WARY,
    "Suspending": CALM,
    "Suspended": CALM,
}
"""Of phases, states of pods and kinds of events; other words have none."""
HEADER = "bold"
FAINT = "dim"


def line(*parts: str | tuple[str, str]) -> Text:
    """Pieces one after another; a pair is a text and its style."""
    return Text.assemble(*parts)


def paragraph(text: str, width: int, style: str = "", indent: str = "  ") -> Text:
    """A text in lines of at most `width` columns; its own line breaks stay."""
    widest = min(width, WIDEST_TEXT)
    lines = [
        textwrap.fill(part, widest, initial_indent=indent, subsequent_indent=indent, break_long_words=False)
        for part in text.splitlines()
    ]
    return Text("\n".join(lines), style)


def styled(row: Sequence[str], widths: Widths, indent: str = "") -> Text:
    """A row of a table, its known words in their colours."""
    text = Text(indent).append_tokens((cell, style_of(cell.strip())) for cell in widths.padded(row))
    text.rstrip()
    return text


def rows(header: Sequence[str], body: Sequence[Sequence[str]], width: int, indent: str = "") -> list[Text]:
    """A table below its header, its last column cut to the screen; nothing when it is empty."""
    if not body:
        return []
    widths = Widths()
    widths.fit([header, *body])
    room = max(NARROWEST_TEXT, width - len(indent) - len("".join(widths.padded([*header[:-1], ""]))))
    shown = [[*row[:-1], shortened(row[-1], room)] for row in body]
    return [Text(indent + "".join(widths.padded(header)), HEADER), *(styled(row, widths, indent) for row in shown)]


def shortened(text: str, room: int) -> str:
    """A text on one line, cut where it does not fit."""
    flat = " ".join(text.split())
    return flat if len(flat) <= room else flat[: room - 1] + "…"


def style_of(word: str) -> str:
    """Colour of a phase, a state, a change; empty for everything else."""
    if word[:1] in "+-" and word[1:2].isdigit():
        return GOOD if word[0] == "+" else BAD
    return STYLES.get(word, "")


def number(value: float | None) -> str:
    """Four significant digits; a dash where nothing was measured."""
    return "-" if value is None else f"{value:.4g}"


def change(value: float | None) -> str:
    """The same with its sign."""
    return "-" if value is None else f"{value:+.4g}"
