"""Helm as a person runs it, with a home of its own; and what a chart becomes.

Who calls this: the tests of this folder.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from testcluster.locks import CHECKOUT

CHART = CHECKOUT / "charts/g2rpo-operator"
MONITORING = "monitoring.coreos.com/v1"
RELEASE, NAMESPACE = "g2rpo", "g2rpo-system"
Values = Mapping[str, Any]
Manifest = dict[str, Any]
YAML = yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader


class HelmError(Exception):
    """Helm refused; the text is its own."""


@dataclass(frozen=True)
class Helm:
    """One version of Helm. `home` holds its settings and caches."""

    program: Path
    major: int
    home: Path
    kubeconfig: Path | None = None
    chart: Path = CHART
    namespace: str = NAMESPACE
    options: tuple[str, ...] = field(default=())
    """Of every installation and upgrade."""

    def at(self, **changes: Any) -> Helm:
        """The same with another cluster, chart or namespace."""
        return replace(self, **changes)

    def run(self, *arguments: str | Path, values: Values | None = None) -> str:
        """What it prints; HelmError if it fails. `values` are those that a person writes into a file."""
        given = ["--values", "-"] if values is not None else []
        done = subprocess.run(
            [str(self.program), *map(str, arguments), *given],
            input=yaml.safe_dump(values) if values is not None else "",
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise HelmError(f"{done.stderr}{done.stdout}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        """No setting of the user's own."""
        places = {f"HELM_{kind}_HOME": str(self.home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        cluster = {"KUBECONFIG": str(self.kubeconfig or self.home / "none")}
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), **places, **cluster}

    def template(
        self,
        values: Values | None = None,
        release: str = RELEASE,
        kube_version: str = "",
        api_versions: Iterable[str] = (),
    ) -> list[Manifest]:
        """The manifests of a release, hooks included."""
        wishes = [f"--api-versions={version}" for version in api_versions]
        wishes += [f"--kube-version={kube_version}"] if kube_version else []
        return copy.deepcopy(_rendered(self, release, tuple(wishes), json.dumps(values or {})))

    def install(self, values: Values | None = None, *more: str, release: str = RELEASE) -> str:
        """Install and wait until all is ready."""
        return self._change("install", release, values, more)

    def upgrade(self, values: Values | None = None, *more: str, release: str = RELEASE) -> str:
        """Upgrade and wait until all is ready."""
        return self._change("upgrade", release, values, more)

    def release(self, verb: str, *more: str, release: str = RELEASE) -> str:
        """rollback, uninstall, test and other commands about a release."""
        return self.run(verb, release, f"--namespace={self.namespace}", *more)

    def _change(self, verb: str, release: str, values: Values | None, more: Iterable[str]) -> str:
        place = (f"--namespace={self.namespace}", "--wait", "--timeout=180s")
        return self.run(verb, release, self.chart, *place, *self.options, *more, values=values or {})


@functools.cache
def _rendered(helm: Helm, release: str, wishes: tuple[str, ...], values: str) -> list[Manifest]:
    """Manifests of a chart; charts do not change while tests run."""
    place = f"--namespace={helm.namespace}"
    text = helm.run("template", release, helm.chart, place, *wishes, values=json.loads(values))
    return [manifest for manifest in yaml.load_all(text, YAML) if manifest]


def named(manifests: Iterable[Manifest], kind: str, name: str = "") -> Manifest:
    """The only manifest of a kind, or of a kind and a name; LookupError if there is none or several."""
    found = [item for item in manifests if item["kind"] == kind and name in ("", item["metadata"]["name"])]
    if len(found) != 1:
        raise LookupError(f"{len(found)} of {kind} {name}")
    return found[0]


def kinds(manifests: Iterable[Manifest]) -> list[tuple[str, str]]:
    """Kind and name of each manifest, sorted."""
    return sorted((item["kind"], item["metadata"]["name"]) for item in manifests)


def merged(whole: Any, part: Any) -> Any:
    """The whole with what the part says, as Helm does it; lists are replaced."""
    if not (isinstance(whole, dict) and isinstance(part, dict)):
        return part
    return whole | {key: merged(whole.get(key), value) for key, value in part.items()}
