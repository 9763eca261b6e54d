"""Published schemas of Kubernetes' kinds, by version, and those in CustomResourceDefinitions, as judges of manifests.

Who calls this: the tests of this folder.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from referencing import Registry, Resource

from testchart.helm import YAML, Manifest

STRICT = re.compile(r"v(\d+\.\d+)\.\d+-local-strict")
OPEN = "x-kubernetes-preserve-unknown-fields"


def _folders() -> dict[str, Any]:
    """Minor version of Kubernetes -> its schemas in which unknown keys are refused."""
    places = (files("kubernetes_validate") / "kubernetes-json-schema").iterdir()
    return {found[1]: place for place in places if (found := STRICT.fullmatch(place.name))}


VERSIONS = sorted(_folders(), key=lambda version: int(version.partition(".")[2]))
"""All that are published."""


class Judge:
    """Kubernetes of one minor version, with further kinds."""

    def __init__(self, version: str, definitions: Iterable[Path] = ()) -> None:
        self.version = version
        self.own = dict(_own_kinds(definitions))

    def faults(self, manifests: Iterable[Manifest]) -> list[str]:
        """What is wrong, with place and reason; an unknown kind is wrong, too."""
        return [f"{item['kind']}/{item['metadata']['name']}: {text}" for item in manifests for text in self._of(item)]

    def _of(self, manifest: Manifest) -> Iterator[str]:
        kind = manifest["apiVersion"], manifest["kind"]
        validator = self.own.get(kind) or _published(self.version, *kind)
        if validator is None:
            yield f"{'/'.join(kind)} is not known to {self.version}"
            return
        for error in validator.iter_errors(manifest):
            yield f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"


@functools.cache
def _published(version: str, api_version: str, kind: str) -> Validator | None:
    """The schema of one of Kubernetes' own kinds, named as its publishers do: role-rbac-v1.json."""
    group, _, number = api_version.rpartition("/")
    name = "-".join(filter(None, (kind.lower(), group.partition(".")[0], number)))
    place = _folders()[version] / f"{name}.json"
    if not place.is_file():
        return None
    return Draft202012Validator(json.loads(place.read_text()), registry=_registry(version))


@functools.cache
def _registry(version: str) -> Registry[Any]:
    with as_file(_folders()[version] / "_definitions.json") as path:
        return Resource.from_contents(json.loads(path.read_text())) @ Registry()


def _own_kinds(definitions: Iterable[Path]) -> Iterator[tuple[tuple[str, str], Validator]]:
    for path in definitions:
        spec = yaml.load(path.read_text(), YAML)["spec"]
        for version in spec["versions"]:
            schema = _closed(version["schema"]["openAPIV3Schema"])
            yield (f"{spec['group']}/{version['name']}", spec["names"]["kind"]), Draft202012Validator(schema)


def _closed(schema: Mapping[str, Any], *, root: bool = True) -> dict[str, Any]:
    """A structural schema in which keys that the API server would drop are refused."""
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {name: _closed(child, root=False) for name, child in schema["properties"].items()}
        if root:
            closed["properties"]["metadata"] = {"type": "object"}
        if not schema.get(OPEN) and "additionalProperties" not in schema:
            closed["additionalProperties"] = False
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), Mapping):
            closed[keyword] = _closed(schema[keyword], root=False)
    return closed
