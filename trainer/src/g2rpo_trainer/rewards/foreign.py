"""What is told of an error in code that is not ours: a reward is anybody's, and whoever wrote it wants to know where.

Who calls this: where a reward is imported, made and asked, here and behind HTTP. Each of these places catches whatever
is raised, since nothing else is known of that code, and each goes on to say whose failure it is.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from g2rpo_trainer.errors import RewardError

_OURS = str(Path(__file__).resolve().parents[1])
_IMPORTING = "importlib"
"""In the name of every file between an import and the module that it runs."""


def said(error: Exception) -> str:
    """The error's type and words, and the line of foreign code that our call ended up in first, if it did in any."""
    frames = traceback.extract_tb(error.__traceback__)
    foreign = [f for f in frames if not f.filename.startswith(_OURS) and _IMPORTING not in f.filename]
    where = f" ({Path(foreign[0].filename).name}, line {foreign[0].lineno})" if foreign else ""
    return f"{type(error).__name__}: {error}{where}"


@contextmanager
def told_as(message: Callable[[str], str]) -> Iterator[None]:
    """Inside, such code runs: whatever it raises becomes a RewardError, whose message is made from what is `said`."""
    try:
        yield
    except Exception as error:
        raise RewardError(message(said(error))) from error
