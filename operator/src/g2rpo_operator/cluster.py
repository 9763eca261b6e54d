"""The Kubernetes API: raw JSON in and out, errors sorted by what can be done about them, every request counted.

Who calls this: `reconcile.py`, `resync.py`, `watch.py`, `progress.py`, `leader.py` and `__main__`. It knows neither
rules nor caches, and tries nothing twice: whoever asked decides whether to ask again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import getproxies

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from g2rpo_api import contract
from g2rpo_operator.errors import ConflictError, NotFoundError, RejectedError, error_of, unreachable
from g2rpo_operator.resources import (
    CHILD_JOBS,
    CONFIG_MAPS,
    EVENTS,
    JOBS,
    LEASES,
    METHODS,
    PODS,
    SERVICES,
    Call,
    Resource,
    event_about,
)

__all__ = ["CHILD_JOBS", "CONFIG_MAPS", "EVENTS", "JOBS", "LEASES", "PODS", "SERVICES", "Cluster", "Resource"]

PAGE = 500
"""Objects in one answer to a list."""
ANOTHER_UID = ("UID in the precondition", "UID in precondition")
"""In the message of a refusal to delete what only has the name of what was meant."""
IDENTITY = ("namespace", "name", "uid", "resourceVersion")
"""In the metadata of an object, what tells this version of it from all others."""
WATCH_SECONDS = 300
"""After which the API server ends a watch."""
INACTIVITY_SECONDS = 70
"""After which a watch that says nothing counts as dead: there is a bookmark every minute."""
WATCH_TIMEOUT = aiohttp.ClientTimeout(total=WATCH_SECONDS + 30, sock_connect=5, sock_read=INACTIVITY_SECONDS)
NO_ANSWER = "<error>"
"""Counted in place of a status code, as client-go does, when there was no answer."""

Manifest = dict[str, Any]
Manifests = list[Manifest]
Count = Callable[[str, str, str], None]
"""Gets the verb, the resource and the status code of every request."""


def uncounted(verb: str, resource: str, code: str) -> None:
    """Count nothing."""


def utc_now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Cluster:
    """One API server, as one user. Every method raises ClusterError, and its docstring what it adds to that."""

    client: ApiClient
    timeout: aiohttp.ClientTimeout
    count: Count = uncounted
    clock: Callable[[], datetime] = utc_now
    """When events happen."""
    instance: str = contract.MANAGER
    """Name of this replica in events."""

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        kubeconfig: Path | None,
        request_timeout_seconds: float = 30.0,
        connections: int = 64,
        *,
        count: Count = uncounted,
        instance: str = contract.MANAGER,
    ) -> AsyncIterator[Cluster]:
        """Connections for a block, opened as they are needed.

        Args:
            kubeconfig: file to read; where it is None, a pod's own account, or else what kubectl would use.
            request_timeout_seconds: longest time from a request to the last byte of its answer.
            connections: requests under way at once; more of them wait, which counts towards the timeout.
            count: is told of every request.
            instance: name of this replica in events.

        Raises:
            kubernetes.config.ConfigException: there is neither.
        """
        configuration = Configuration()
        configuration.connection_pool_maxsize = connections
        # With it, aiohttp looks for proxies before each request, in a thread.
        configuration.client_session_kwargs = {"trust_env": bool(getproxies())}
        await _load(configuration, kubeconfig)
        async with ApiClient(configuration) as client:
            client.user_agent = contract.MANAGER  # the API server notes it as the owner of what is written
            yield cls(client, aiohttp.ClientTimeout(total=request_timeout_seconds), count, instance=instance)

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """An object; None when there is none of this name."""
        try:
            return await self._json(Call("get", resource.plural, resource.path(namespace, name)))
        except NotFoundError:
            return None

    async def list(self, resource: Resource, namespace: str | None, selector: str = "") -> Manifests:
        """All objects with these labels; None stands for all namespaces."""
        return [item async for page in self.pages(resource, namespace, selector) for item in page]

    async def pages(self, resource: Resource, namespace: str | None, selector: str = "") -> AsyncIterator[Manifests]:
        """The same in parts, for whoever keeps little of each object."""
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        more = True
        while more:
            answer = await self._json(Call("list", resource.plural, resource.path(namespace), query))
            yield answer["items"]
            query["continue"] = answer["metadata"].get("continue", "")
            more = bool(query["continue"])

    async def watch(
        self, resource: Resource, namespace: str | None, selector: str, since: str = ""
    ) -> AsyncIterator[Manifest]:
        """Events about objects with these labels, bookmarks among them, until the API server ends the watch in order.

        Args:
            resource: whose objects.
            namespace: None stands for all.
            selector: their labels.
            since: version after which events are told; if empty, first come all objects there are, as if just added.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        query |= {"labelSelector": selector} | ({"resourceVersion": since} if since else {})
        call = Call("list", resource.plural, resource.path(namespace), query)
        try:
            async with await self._request(call, WATCH_TIMEOUT) as response:
                if response.status >= 400:
                    raise error_of(response.status, await response.read(), response.headers.get("Retry-After"))
                async for line in _lines(response):
                    event: Manifest = json.loads(line)
                    if event["type"] == "ERROR":
                        raise error_of(event["object"].get("code", 500), json.dumps(event["object"]).encode())
                    yield event
        except (aiohttp.ClientError, OSError, config.ConfigException) as error:  # a timeout is an OSError
            raise unreachable(f"watch of {call.path}", error) from error

    async def create(
        self, resource: Resource, namespace: str, manifest: Manifest, *, dry_run: bool = False
    ) -> Manifest:
        """Create an object, or only let the API server judge it, which then refuses keys that it does not know.

        Raises:
            AlreadyExistsError: the name is taken.
        """
        query = {"dryRun": "All", "fieldValidation": "Strict"} if dry_run else {}
        return await self._json(Call("create", resource.plural, resource.path(namespace), query, manifest))

    async def replace(self, resource: Resource, manifest: Manifest, part: str = "") -> Manifest:
        """Write an object, or a part of it.

        Raises:
            ConflictError: it is not the version that the manifest says any more.
        """
        metadata = manifest["metadata"]
        path = resource.path(metadata["namespace"], metadata["name"], part)
        label = f"{resource.plural}/{part}" if part else resource.plural
        return await self._json(Call("update", label, path, body=manifest))

    async def replace_status(self, manifest: Manifest) -> Manifest:
        """Write the status of a G2RPOJob. Nothing else is sent: the API server would read, check and drop it.

        Raises:
            ConflictError: it is not the version that the manifest says any more.
        """
        metadata = {key: manifest["metadata"][key] for key in IDENTITY}
        told = {key: manifest[key] for key in ("apiVersion", "kind", "status")}
        return await self.replace(JOBS, {**told, "metadata": metadata}, "status")

    async def patch(
        self, resource: Resource, namespace: str, name: str, merge_patch: Manifest, uid: str | None = None
    ) -> Manifest:
        """Change an object by JSON merge patch.

        Raises:
            ConflictError: a uid was given, and the object of this name has another.
        """
        metadata = {**merge_patch.get("metadata", {}), "uid": uid}
        body = merge_patch if uid is None else {**merge_patch, "metadata": metadata}
        try:
            return await self._json(Call("patch", resource.plural, resource.path(namespace, name), body=body))
        except RejectedError as error:
            if uid is not None and "metadata.uid" in str(error):  # it would not change the uid of an object, either
                raise ConflictError(str(error)) from error
            raise

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, grace_seconds: int | None = None
    ) -> bool:
        """Ask for the deletion of an object and, in the background, of what it owns.

        Returns:
            Whether it was there; an object with another uid is left alone.

        Raises:
            ConflictError: the API server could not do it just now.
        """
        body: Manifest = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            await self._json(Call("delete", resource.plural, resource.path(namespace, name), body=body))
        except NotFoundError:
            return False
        except ConflictError as error:
            if not any(words in str(error) for words in ANOTHER_UID):
                raise
            return False
        return True

    async def post_event(self, job: Manifest, reason: str, message: str, *, warning: bool) -> None:
        """Tell people something about a job: `kubectl describe` shows it."""
        kind = "Warning" if warning else "Normal"
        manifest = event_about(job, kind, reason, message, self.clock(), self.instance)
        await self.create(EVENTS, job["metadata"]["namespace"], manifest)

    async def get_bytes(self, path: str, limit_bytes: int = 1 << 20) -> bytes:
        """What the API server answers at a path, such as a pod's proxy.

        Raises:
            RejectedError: more than this many bytes.
        """
        call = Call("get", "pods/proxy", path)
        body = await self._send(call, limit_bytes)
        if len(body) > limit_bytes:
            raise RejectedError(f"GET {path}: more than {limit_bytes} bytes")
        return body

    async def _json(self, call: Call) -> Manifest:
        answer: Manifest = json.loads(await self._send(call))
        return answer

    async def _send(self, call: Call, limit_bytes: int | None = None) -> bytes:
        code = NO_ANSWER
        try:
            response = await self._request(call)
            code = str(response.status)
            body = await _body(response, limit_bytes)
        except (aiohttp.ClientError, OSError, config.ConfigException) as error:  # a timeout is an OSError
            raise unreachable(f"{METHODS[call.verb]} {call.path}", error) from error
        finally:
            self.count(call.verb, call.resource, code)
        if response.status >= 400:
            raise error_of(response.status, body, response.headers.get("Retry-After"))
        return body

    async def _request(self, call: Call, timeout: aiohttp.ClientTimeout | None = None) -> aiohttp.ClientResponse:
        # The body is not given here: what is JSON already needs no walk through it.
        method, url, headers, _, _ = await self.client.param_serialize(
            METHODS[call.verb], call.path, header_params=call.headers, auth_settings=["BearerToken"]
        )
        where = f"{url}?{urlencode(call.query)}" if call.query else url
        answer = await self.client.call_api(method, where, headers, call.body, _request_timeout=timeout or self.timeout)
        response: aiohttp.ClientResponse = answer.response
        return response


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Whole lines, however long."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line


async def _body(response: aiohttp.ClientResponse, limit_bytes: int | None) -> bytes:
    """All of it, or so much that one sees that it is too much."""
    if limit_bytes is None:
        return await response.read()
    found = b""
    async for chunk in response.content.iter_any():
        found += chunk
        if len(found) > limit_bytes:
            response.close()
            break
    return found


async def _load(configuration: Configuration, kubeconfig: Path | None) -> None:
    if kubeconfig is None:
        try:
            config.load_incluster_config(configuration)
        except config.ConfigException:
            await config.load_kube_config(client_configuration=configuration, persist_config=False)
    else:
        await config.load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
