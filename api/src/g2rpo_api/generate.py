"""`python -m g2rpo_api.generate [--check] [FOLDER]`: writes manifests, parts of the chart and the reference.

Who calls this: `make generate`, and `make check-generated`, which writes nothing and fails where a file is not what
the models say.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from g2rpo_api import chart
from g2rpo_api.crd import custom_resource_definition
from g2rpo_api.install import NAMESPACE, operator_manifests
from g2rpo_api.rbac import operator_roles, user_roles
from g2rpo_api.reference import reference
from g2rpo_api.yamltext import text_of

NOTE = "Made by `make generate` from api/: change it there."


def manifests(objects: Iterable[Mapping[str, Any]]) -> str:
    """YAML text of some objects."""
    return f"# {NOTE}\n" + "---\n".join(text_of(manifest) for manifest in objects)


Files = Mapping[str, Callable[[], str]]
"""Path in the checkout -> its text."""
FILES: Files = {
    "manifests/crd.yaml": lambda: manifests([custom_resource_definition()]),
    "manifests/operator.yaml": lambda: manifests(operator_manifests()),
    "manifests/rbac.yaml": lambda: manifests([*operator_roles(NAMESPACE), *user_roles()]),
    f"{chart.FOLDER}/templates/crd.yaml": lambda: f"# {NOTE}\n{chart.definition()}",
    f"{chart.FOLDER}/templates/_facts.tpl": lambda: f"{{{{- /* {NOTE} */ -}}}}\n{chart.facts()}",
    f"{chart.FOLDER}/files/trainer-relabelings.yaml": lambda: f"# {NOTE}\n{chart.relabelings()}",
    "docs/reference.md": lambda: f"<!-- {NOTE} -->\n\n{reference()}",
}


def outdated(root: Path, files: Files = FILES) -> list[str]:
    """What has to change in a checkout, as the lines of a diff."""
    lines: list[str] = []
    for name, make in files.items():
        path = root / name
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        parts = found.splitlines(keepends=True), make().splitlines(keepends=True)
        lines += difflib.unified_diff(*parts, fromfile=name, tofile=f"{name} (as generated)")
    return lines


def write(root: Path, files: Files = FILES) -> list[str]:
    """Write what is not as it should be; the names of those files."""
    changed = []
    for name, make in files.items():
        path, text = root / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(name)
    return changed


def run(files: Files, program: str, arguments: list[str] | None = None) -> int:
    """A command that writes these files, or checks them; its exit code."""
    parser = argparse.ArgumentParser(prog=program, description="Writes files that are made from models.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is not as it should be")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="the checkout (default: this folder)")
    chosen = parser.parse_args(arguments)
    if not chosen.check:
        for name in write(chosen.folder, files):
            print(f"wrote {name}")
        return 0
    lines = outdated(chosen.folder, files)
    if lines:
        sys.stdout.writelines(lines)
        print("run `make generate` and commit what it writes", file=sys.stderr)
    return 1 if lines else 0


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 when all is written, or as it should be."""
    return run(FILES, "python -m g2rpo_api.generate", arguments)


if __name__ == "__main__":
    sys.exit(main())
