"""The Kubernetes API as the person at the terminal: raw JSON, with kubectl's way to find the cluster.

Who calls this: the commands. The only module of the plugin that knows the kubernetes client. It knows no
kind of object but by the path that it is given.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
import yaml
from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration

from g2rpo_operator.plugin.failures import PluginError, ServerError, server_error
from g2rpo_operator.plugin.options import Where

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
CONNECTIONS = 64
PATIENCE = urllib3.Retry(8, connect=False, read=False, other=False, allowed_methods=None, raise_on_status=False)
"""A server that is busy says when to come again, and has done nothing; one that does not answer is told at once."""
PAGE = 500
"""Objects in one answer to a list."""
FIELD_MANAGER = "kubectl-g2rpo"
JSON = "application/json"
TABLE = f"{JSON};as=Table;v=v1;g=meta.k8s.io,{JSON}"
"""What kubectl asks for when it prints columns."""
NAMES = f"{JSON};as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
"""Metadata only."""
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
DEFAULT_KUBECONFIG = "~/.kube/config"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

Manifest = dict[str, Any]
Event = tuple[str, Manifest]
"""ADDED, MODIFIED, DELETED or BOOKMARK, and the object."""


@dataclass(frozen=True)
class Call:
    """One request."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Manifest | None = None
    content: str = JSON
    accept: str = JSON
    read_seconds: float | None = READ_SECONDS
    """Longest silence of the server; None for streams."""


@dataclass(frozen=True)
class Client:
    """An API server. Every method raises ServerError when it refuses, PluginError when it cannot be reached."""

    api: ApiClient
    namespace: str
    """Where a job is looked for."""
    namespace_asked: bool = False
    """Whether the person named it."""

    def get(self, path: str, accept: str = JSON, **query: str) -> Manifest:
        """An object, or a list's first page."""
        return self._json(Call("GET", path, query, accept=accept))

    def find(self, path: str) -> Manifest | None:
        """An object; None when there is none of this name."""
        try:
            return self.get(path)
        except ServerError as error:
            if error.not_found:
                return None
            raise

    def pages(self, path: str, accept: str = JSON, **query: str) -> Iterator[Manifest]:
        """All pages of a list."""
        more = ""
        while True:
            page = self.get(path, accept, limit=str(PAGE), **({"continue": more} if more else {}), **query)
            yield page
            more = page["metadata"].get("continue", "")
            if not more:
                return

    def items(self, path: str, **query: str) -> list[Manifest]:
        """All objects of a list."""
        return [item for page in self.pages(path, **query) for item in page["items"]]

    def create(self, path: str, manifest: Manifest, **query: str) -> Manifest:
        """Create an object."""
        return self._json(Call("POST", path, {"fieldManager": FIELD_MANAGER, **query}, manifest))

    def apply(self, path: str, manifest: Manifest, **query: str) -> Manifest:
        """Create an object, or bring it to what the manifest says: server-side apply, unknown keys refused."""
        strict = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", **query}
        return self._json(Call("PATCH", path, strict, manifest, APPLY))

    def merge(self, path: str, patch: Manifest) -> Manifest:
        """Change an object by JSON merge patch."""
        return self._json(Call("PATCH", path, {"fieldManager": FIELD_MANAGER}, patch, MERGE))

    def delete(self, path: str) -> None:
        """Delete an object at once."""
        self._json(Call("DELETE", path, body={"gracePeriodSeconds": 0}))

    def read(self, path: str, **query: str) -> bytes:
        """What the server answers at a path that is no object.

        A pod behind it is not asked for HTML, which the API server would rewrite on its way.
        """
        response = self._open(Call("GET", path, query, accept="*/*"))
        return self._all(response)

    def lines(self, path: str, **query: str) -> Iterator[bytes]:
        """The same line by line as it comes, each with its end."""
        response = self._open(Call("GET", path, query, accept="*/*", read_seconds=None))
        try:
            yield from response
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            response.close()

    def watch(self, path: str, seconds: int, accept: str = JSON, **query: str) -> Iterator[Event]:
        """Changes for at most so many seconds; the server may end it earlier."""
        wish = {**query, "watch": "1", "timeoutSeconds": str(seconds)}
        response = self._open(Call("GET", path, wish, accept=accept, read_seconds=seconds + READ_SECONDS))
        try:
            for line in response:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise server_error(event["object"].get("code", 500), json.dumps(event["object"]).encode(), path)
                yield event["type"], event["object"]
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            response.close()

    def _json(self, call: Call) -> Manifest:
        answer: Manifest = json.loads(self._all(self._open(call)))
        return answer

    def _all(self, response: urllib3.BaseHTTPResponse) -> bytes:
        try:
            return response.data
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from error

    def _open(self, call: Call) -> urllib3.BaseHTTPResponse:
        """The answer whose body has not been read; an error if it is one."""
        headers = {"Accept": call.accept, "Content-Type": call.content}
        method, url, headers, _, _ = self.api.param_serialize(
            call.method, call.path, header_params=headers, auth_settings=["BearerToken"]
        )
        where = f"{url}?{urlencode(call.query)}" if call.query else url
        patience = (CONNECT_SECONDS, call.read_seconds)
        try:
            answer = self.api.call_api(method, where, headers, call.body, _request_timeout=patience)
        except (urllib3.exceptions.HTTPError, ApiException) as error:
            raise self._unreachable(error) from error
        response: urllib3.BaseHTTPResponse = answer.response
        if response.status >= 400:
            raise server_error(response.status, self._all(response), call.path)
        return response

    def _unreachable(self, error: Exception) -> PluginError:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        return PluginError(f"no answer from {self.api.configuration.host}: {reason}")


def connect(where: Where) -> Client:
    """The cluster that kubectl would talk to: of the kubeconfig, or, in a pod without one, the pod's own.

    Raises:
        PluginError: there is neither, or the kubeconfig has no such context.
    """
    configuration = Configuration()
    configuration.retries = PATIENCE
    configuration.connection_pool_maxsize = CONNECTIONS
    file = where.kubeconfig or os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
    try:
        if where.kubeconfig is None and where.context is None and _in_cluster(file):
            config.load_incluster_config(configuration)
            return _client(configuration, where, ACCOUNT.read_text().strip())
        context = where.context or _current_context(file)
        config.load_kube_config(file, context, configuration, persist_config=False)
        contexts, _ = config.list_kube_config_contexts(file)
    except (config.ConfigException, OSError, yaml.YAMLError) as error:
        raise PluginError(f"kubeconfig {file}: {error}") from error
    chosen = next(item for item in contexts if item["name"] == context)
    return _client(configuration, where, chosen["context"].get("namespace") or "default")


def _client(configuration: Configuration, where: Where, namespace: str) -> Client:
    return Client(ApiClient(configuration), where.namespace or namespace, where.namespace is not None)


def _current_context(file: str) -> str | None:
    """The context in use: of several files, kubectl takes the first that names one, and the client library the last."""
    for path in _paths(file):
        content = (yaml.safe_load(path.read_text()) if path.is_file() else None) or {}
        if not isinstance(content, dict):
            raise PluginError(f"kubeconfig {path}: it holds no mapping with clusters, users and contexts")
        if content.get("current-context"):
            return str(content["current-context"])
    return None


def _paths(file: str) -> list[Path]:
    return [Path(part).expanduser() for part in file.split(os.pathsep) if part]


def _in_cluster(file: str) -> bool:
    """Whether there is no kubeconfig and this is a pod with an account."""
    return not any(path.exists() for path in _paths(file)) and ACCOUNT.exists()
