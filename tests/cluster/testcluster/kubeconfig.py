"""Kubeconfig files, complete in themselves: certificates, keys and tokens are in the file.

Who calls this: controlplane.
Its business ends with the file.
"""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from testcluster.certificates import Pair

Credentials = dict[str, str]


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def certificate(pair: Pair) -> Credentials:
    """The user that a client certificate names."""
    return {"client-certificate-data": encoded(pair.certificate), "client-key-data": encoded(pair.key)}


def token(value: str) -> Credentials:
    """The user that a bearer token stands for."""
    return {"token": value}


def write(path: Path, server: str, authority: Path, user: Credentials, namespace: str = "default") -> Path:
    """Write a file with one context, readable by its owner only; returns its path."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "testcluster", "cluster": {"server": server, "certificate-authority-data": encoded(authority)}}
        ],
        "users": [{"name": "user", "user": user}],
        "contexts": [
            {"name": "testcluster", "context": {"cluster": "testcluster", "user": "user", "namespace": namespace}}
        ],
        "current-context": "testcluster",
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
