"""What a pod's container says → the command, environment and paths of a process on this machine. Pure.

Who calls this: processnode. There are no mount namespaces and no DNS here, so a process is told real paths and
addresses: where a value names a mounted path or a pod's DNS name, the folder or address is put in its place.
A program that builds such a path by itself, or has it compiled in, does not find it.
Its business ends with texts: it reads no file and asks no server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Object = dict[str, Any]
REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
TERMINATION_PATH = "/dev/termination-log"


class UnsupportedError(Exception):
    """The pod wants what a process node cannot give; the text says what."""


@dataclass(frozen=True)
class Place:
    """Where a pod is: its address, its node's, and the folder in place of each mounted path."""

    ip: str
    node_ip: str
    folders: Mapping[str, Path]
    address_of: Callable[[str], str]
    """Address of the pod with this hostname and the same subdomain."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace $(NAME) by the variable, $$ by $; an unknown name stays as it is."""

    def one(match: re.Match[str]) -> str:
        return variables.get(match[1], match[0]) if match[1] else "$"

    return REFERENCE.sub(one, text)


def real_paths(text: str, folders: Mapping[str, Path]) -> str:
    """Replace each mounted path, where it begins a path in the text, by its folder; the longest one wins."""
    if not folders:
        return text
    mounted = "|".join(re.escape(path) for path in sorted(folders, key=len, reverse=True))
    return re.sub(rf"(?<![\w./-])({mounted})(?=/|$|[^\w.-])", lambda match: str(folders[match[1]]), text)


def real_addresses(text: str, pod: Object, address_of: Callable[[str], str]) -> str:
    """Replace HOSTNAME.SUBDOMAIN[.NAMESPACE[.svc[.cluster.local]]] of the pod's own subdomain by an address."""
    subdomain = pod["spec"].get("subdomain")
    if not subdomain:
        return text
    rest = rf"(?:\.{re.escape(pod['metadata']['namespace'])}(?:\.svc(?:\.cluster\.local)?)?)?"
    name = rf"(?<![\w./-])([a-z0-9-]+)\.{re.escape(subdomain)}{rest}(?![\w.-])"
    return re.sub(name, lambda match: address_of(match[1]), text)


def field(pod: Object, path: str, place: Place) -> str:
    """Value of a fieldRef."""
    keyed = KEYED.fullmatch(path)
    if keyed:
        return str(pod["metadata"].get(keyed[1], {}).get(keyed[2], ""))
    known = {
        "metadata.name": pod["metadata"]["name"],
        "metadata.namespace": pod["metadata"]["namespace"],
        "metadata.uid": pod["metadata"]["uid"],
        "spec.nodeName": pod["spec"]["nodeName"],
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
        "status.podIP": place.ip,
        "status.podIPs": place.ip,
        "status.hostIP": place.node_ip,
    }
    if path not in known:
        raise UnsupportedError(f"fieldRef {path}")
    return str(known[path])


def environment(
    container: Object, pod: Object, place: Place, base: Mapping[str, str], key_of: Callable[[Object], str | None]
) -> dict[str, str]:
    """Variables of the process: the node's, then the container's. `key_of` reads a ConfigMap's or Secret's key."""
    variables: dict[str, str] = {}
    for variable in container.get("env", []):
        source = variable.get("valueFrom")
        if not source:
            value: str | None = expand(variable.get("value", ""), variables)
        elif "fieldRef" in source:
            value = field(pod, source["fieldRef"]["fieldPath"], place)
        else:
            value = key_of(source)
        if value is not None:
            variables[variable["name"]] = value
    real = {name: real_paths(text, place.folders) for name, text in variables.items()}
    return {**base, **{name: real_addresses(text, pod, place.address_of) for name, text in real.items()}}


def command(container: Object, variables: Mapping[str, str], place: Place) -> list[str]:
    """Command line of the process. The image's own is not known here, so the container must say its command."""
    words = [*container.get("command", []), *container.get("args", [])]
    if not container.get("command"):
        raise UnsupportedError(
            f"a container without a command; that of the image {container['image']} is not known here"
        )
    return [real_paths(expand(word, variables), place.folders) for word in words]


def hostname(pod: Object) -> str:
    return str(pod["spec"].get("hostname") or pod["metadata"]["name"])
