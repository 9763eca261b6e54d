"""A pod's volumes as folders of this machine.

Who calls this: processnode, at a pod's start and then every second or two, because ConfigMaps change.
emptyDir and the contents of ConfigMaps and Secrets lie in the pod's folder, claims and host paths in the cluster's.
Its business ends with folders: what a process is told about them is podspec's.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testcluster.api import Api, ApiError, Object
from testcluster.podspec import UnsupportedError

NOT_FOUND = 404


@dataclass(frozen=True)
class Volumes:
    """The volumes of one pod. `shared` is the folder for what outlives it."""

    api: Api
    pod: Object
    folder: Path
    shared: Path

    def folders(self, container: Object) -> dict[str, Path]:
        """Folder (or file) of each mount path; ApiError 404 while an object that is mounted does not exist."""
        named = {volume["name"]: volume for volume in self.pod["spec"].get("volumes", [])}
        found = {}
        for mount in container.get("volumeMounts", []):
            folder = self.folder_of(named[mount["name"]])
            if "subPath" in mount:
                folder = folder / str(mount["subPath"])
                folder.parent.mkdir(parents=True, exist_ok=True)
            if not folder.exists():
                folder.mkdir()
            found[mount["mountPath"].rstrip("/")] = folder
        return found

    def folder_of(self, volume: Object) -> Path:
        """The folder of one volume, with its content."""
        own = self.folder / str(volume["name"])
        if "emptyDir" in volume or "projected" in volume:
            return made(own)
        if "hostPath" in volume:
            return made(self.shared / "host" / str(volume["hostPath"]["path"]).lstrip("/"))
        if "persistentVolumeClaim" in volume:
            claim = str(volume["persistentVolumeClaim"]["claimName"])
            return made(self.shared / "claims" / str(self.pod["metadata"]["namespace"]) / claim)
        if "configMap" in volume or "secret" in volume:
            written(made(own), self.content(volume))
            return own
        kinds = ", ".join(sorted(set(volume) - {"name"}))
        raise UnsupportedError(f"volume {volume['name']} of kind {kinds}")

    def refresh(self) -> None:
        """Bring the files of ConfigMaps and Secrets to what the objects say now."""
        for volume in self.pod["spec"].get("volumes", []):
            if "configMap" in volume or "secret" in volume:
                self.folder_of(volume)

    def content(self, volume: Object) -> dict[str, bytes]:
        """Files of a volume, by path in it."""
        source = volume.get("configMap") or {**volume["secret"], "name": volume["secret"]["secretName"]}
        data = self.data("configmaps" if "configMap" in volume else "secrets", source)
        if "items" not in source:
            return data
        return {item["path"]: data[item["key"]] for item in source["items"] if item["key"] in data}

    def key_of(self, source: Mapping[str, Any]) -> str | None:
        """Value of a configMapKeyRef or secretKeyRef; None if it is optional and not there."""
        kinds = {"configMapKeyRef": "configmaps", "secretKeyRef": "secrets"}
        for kind, resource in kinds.items():
            if kind in source:
                value = self.data(resource, source[kind]).get(source[kind]["key"])
                return None if value is None else value.decode()
        raise UnsupportedError(f"a variable from {', '.join(source)}")

    def data(self, resource: str, source: Mapping[str, Any]) -> dict[str, bytes]:
        """Keys of a ConfigMap or Secret; none if it is optional and does not exist."""
        namespace = self.pod["metadata"]["namespace"]
        try:
            found = self.api.get(f"/api/v1/namespaces/{namespace}/{resource}/{source['name']}")
        except ApiError as error:
            if error.code == NOT_FOUND and source.get("optional"):
                return {}
            raise
        plain = {key: text.encode() for key, text in (found.get("data") or {}).items() if resource == "configmaps"}
        encoded = found.get("binaryData") if resource == "configmaps" else found.get("data")
        return plain | {key: base64.b64decode(text) for key, text in (encoded or {}).items()}


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def written(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make the files of a folder exactly these; each changes at once, none is ever half written."""
    for path in folder.iterdir():
        if path.is_file() and path.name not in files:
            path.unlink()
    for name, content in files.items():
        path = folder / name
        if path.exists() and path.read_bytes() == content:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"..{path.name}")
        aside.write_bytes(content)
        aside.replace(path)
