"""`python -m values.generate [--check] [FOLDER]`: writes the chart's values.yaml, values.schema.json and README.md.

Who calls this: `make generate`, and `make check-generated`, which writes nothing and fails where a file is not what
the model says. Run it with `charts` in PYTHONPATH.
"""

from __future__ import annotations

import sys
from pathlib import Path

from g2rpo_api.chart import FOLDER
from g2rpo_api.generate import Files, run
from values.documents import json_schema, settings_table, values_table, values_yaml

NOTE = "Made by `make generate` from charts/values/: change it there."
README = Path(__file__).with_name("readme.txt")


def readme() -> str:
    """The chart's README: text, and the tables."""
    text = README.read_text(encoding="utf-8")
    tables = {"VALUES": values_table(), "SETTINGS": settings_table()}
    for name, table in tables.items():
        text = text.replace(f"<{name}>\n", table)
    return text


FILES: Files = {
    f"{FOLDER}/values.yaml": lambda: f"# {NOTE}\n{values_yaml()}",
    f"{FOLDER}/values.schema.json": json_schema,
    f"{FOLDER}/README.md": lambda: f"<!-- {NOTE} -->\n\n{readme()}",
}

if __name__ == "__main__":
    sys.exit(run(FILES, "python -m values.generate", sys.argv[1:]))
