"""The models and the contract → docs/reference.md: every key, reason, exit code and name, with its meaning.

Who calls this: `generate.py`. Where its business ends: every sentence about a key stands in the models.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from types import ModuleType

from g2rpo_api import contract
from g2rpo_api.contract import ExitCode
from g2rpo_api.crd import COLUMNS, SHORT_NAME
from g2rpo_api.errors import show
from g2rpo_api.parse import job_schema
from g2rpo_api.rbac import AT_HOME, POD_PROXY, WHERE_JOBS_ARE, Grant
from g2rpo_api.reasons import Cause, Reason
from g2rpo_api.schema import Schema, allowed, child, description, keys, resolve
from g2rpo_api.status import JobStatus

HEAD = f"""\
# Reference

Every key of a `{contract.KIND}` (`{contract.API_VERSION}`, `kubectl get {SHORT_NAME}`), what its status says, and what
operator and trainer agree on. A null counts as a key that is left out, except where the default is a value and null is
allowed beside it. An integer may be written as 16.0.
"""

Row = Sequence[str]
SPEC_HEAD = ("Key", "Allowed", "Default", "Meaning")
STATUS_HEAD = ("Key", "Kind", "Meaning")


def reference() -> str:
    """The document, in Markdown."""
    status = JobStatus.model_json_schema(by_alias=True)
    parts = [
        HEAD,
        "## metadata\n",
        *_mapping(job_schema(), ("metadata",), "metadata", SPEC_HEAD),
        "## spec\n",
        *_mapping(job_schema(), ("spec",), "spec", SPEC_HEAD),
        "## status\n",
        *_mapping(status, (), "status", STATUS_HEAD),
        *_columns(),
        *_words("Reasons of conditions", "In `status.conditions`, and as reasons of events.", Reason),
        *_words("Reasons of failures", "In `status.lastFailure`.", Cause),
        *_exit_codes(),
        *_contract(),
        *_rights(),
    ]
    return "\n".join(parts)


def table(head: Row, rows: Iterable[Row]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def docstrings(source: ModuleType | type[Enum]) -> dict[str, str]:
    """The texts below the assignments of a module or class, by name; empty where there is none."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(source)))
    body = (
        tree.body if isinstance(source, ModuleType) else next(n.body for n in tree.body if isinstance(n, ast.ClassDef))
    )
    found: dict[str, str] = {}
    last: list[str] = []
    for node in body:
        if isinstance(node, ast.Assign):
            last = [target.id for target in node.targets if isinstance(target, ast.Name)]
            found |= dict.fromkeys(last, "")
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found |= dict.fromkeys(last, " ".join(node.value.value.split()))
        else:
            last = []
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _code(text: str) -> str:
    return f"`{text}`"


def _codes(texts: Iterable[str]) -> str:
    return ", ".join(map(_code, texts))


def _mapping(root: Schema, loc: tuple[str | int, ...], title: str, head: Row) -> Iterator[str]:
    """Sections of a mapping and of all mappings in it."""
    node = child(root, loc)
    yield description(root, node) + "\n"
    rows = [_key_row(root, node, key, title) for key in keys(root, node)]
    yield table(head, [row if "Default" in head else (row[0], row[1], row[3]) for row in rows])
    yield from _rules(node)
    if loc == ("spec",):
        yield from _rules(root)  # of the whole job; all are about parts of the spec
    for key in keys(root, node):
        inner, place, name = child(root, (*loc, key)), (*loc, key), f"{title}.{key}"
        if "items" in inner:
            inner, place, name = child(root, (*place, 0)), (*place, 0), f"{name}[]"
        if keys(root, inner):
            yield f"### {name}\n"
            yield from _mapping(root, place, name, head)


def _key_row(root: Schema, node: Schema, key: str, title: str) -> Row:
    inner = resolve(root, node["properties"][key])
    return _code(key), _allowed(root, inner, f"{title}.{key}"), _default(node, inner, key), description(root, inner)


def _allowed(root: Schema, node: Schema, name: str) -> str:
    """What is allowed in words; mappings have sections of their own."""
    if keys(root, node):
        return f"[a mapping](#{_anchor(name)})"
    if "items" in node and keys(root, node["items"]):
        size = (
            f" of {node['minItems']} to {node['maxItems']}" if node.get("minItems") else f" of up to {node['maxItems']}"
        )
        return f"[a list{size}](#{_anchor(name + '[]')})"
    if "enum" in node:
        return _codes(choice or '""' for choice in node["enum"])
    return allowed(root, {**node, "nullable": False})


def _anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return title.lower().replace(".", "").replace("[]", "")


def _default(node: Schema, inner: Schema, key: str) -> str:
    if key in node.get("required", ()):
        return "**needed**"
    value = inner.get("default")
    if value in (None, [], "") or isinstance(value, dict):
        return ""
    return _code(show(value).strip('"')) + (", or null" if inner.get("nullable") else "")


def _rules(node: Schema) -> Iterator[str]:
    rules = node.get("x-kubernetes-validations", ())
    lines = [f"- {_code(rule['fieldPath'][1:]) if 'fieldPath' in rule else 'it'} {rule['message']}\n" for rule in rules]
    if lines:
        yield "".join(lines)


def _columns() -> Iterator[str]:
    yield f"## Columns of `kubectl get {SHORT_NAME}`\n"
    rows = [(name, _code(path), "wide" if priority else "always") for name, _, path, priority in COLUMNS]
    yield table(("Column", "Where it is from", "Shown"), rows)


def _words(title: str, where: str, words: type[Reason] | type[Cause]) -> Iterator[str]:
    yield f"## {title}\n"
    yield where + "\n"
    texts = docstrings(words)
    yield table(("Reason", "What it means, and what to do"), [(_code(word.value), texts[word.name]) for word in words])


def _exit_codes() -> Iterator[str]:
    yield "## Exit codes of the trainer\n"
    texts = docstrings(ExitCode)
    yield table(
        ("Code", "Name", "Meaning"), [(str(int(code)), _code(code.name), texts[code.name]) for code in ExitCode]
    )


def _contract() -> Iterator[str]:
    """Names that pods, operator and people rely on."""
    for title, prefix in (
        ("Environment of the trainer", "ENV_"),
        ("Labels", "LABEL_"),
        ("Paths that a trainer serves", "PATH_"),
        ("The run folder", "RUN_"),
    ):
        yield f"## {title}\n"
        texts = docstrings(contract)
        names = [name for name in texts if name.startswith(prefix)]
        yield table(("Name", "Meaning"), [(_code(vars(contract)[name]), texts[name]) for name in names])
    reserved, prefixes = map(_codes, (contract.RESERVED_ENV, contract.RESERVED_ENV_PREFIXES))
    yield f"A job may not set {reserved}, nor names that begin with {prefixes}.\n"


def _rights() -> Iterator[str]:
    yield "## What the operator may do\n"
    for title, grants in (
        ("Where it looks after jobs:", WHERE_JOBS_ARE),
        ("In its own namespace:", AT_HOME),
        ("Only when it reads progress through the API server:", (POD_PROXY,)),
    ):
        yield title + "\n"
        yield table(("Resources", "Verbs", "Why"), [_right(grant) for grant in grants])


def _right(grant: Grant) -> Row:
    names = []
    for resource in grant.resources:
        plural, slash, part = resource.partition("/")
        names.append(_code(".".join(filter(None, (plural, grant.group))) + slash + part))
    return ", ".join(names), ", ".join(grant.verbs), grant.why
