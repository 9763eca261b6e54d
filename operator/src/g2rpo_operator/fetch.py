"""GETs to trainer pods, by their address or through the API server.

Who calls this: `progress.py`. The API server's proxy serves an operator outside the cluster's network.
"""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp

from g2rpo_api import contract
from g2rpo_operator.cluster import Cluster
from g2rpo_operator.errors import ClusterError
from g2rpo_operator.progress import FetchError, Source


@dataclass(frozen=True)
class PodFetch:
    """Straight to the pod's address."""

    session: aiohttp.ClientSession
    timeout_seconds: float

    async def __call__(self, source: Source, path: str, limit: int) -> bytes:
        """See `progress.Fetch`."""
        host = f"[{source.ip}]" if ":" in source.ip else source.ip
        url = f"http://{host}:{contract.DEFAULT_PORT}{path}"
        timeout = aiohttp.ClientTimeout(total=self.timeout_seconds)
        try:
            async with self.session.get(url, timeout=timeout, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise FetchError(f"{url}: status {answer.status}")
                body = await answer.content.read(limit + 1)
                while len(body) <= limit and (more := await answer.content.read(limit + 1 - len(body))):
                    body += more
        except TimeoutError as error:
            raise FetchError(f"{url}: no answer within {self.timeout_seconds:g} s") from error
        except aiohttp.ClientError as error:
            raise FetchError(f"{url}: {error}") from error
        return _within(body, limit, url)


@dataclass(frozen=True)
class ProxyFetch:
    """Through the API server; needs the right to get pods/proxy."""

    cluster: Cluster

    async def __call__(self, source: Source, path: str, limit: int) -> bytes:
        """See `progress.Fetch`."""
        url = f"/api/v1/namespaces/{source.owner.namespace}/pods/{source.pod}:{contract.DEFAULT_PORT}/proxy{path}"
        try:
            return await self.cluster.get_bytes(url, limit)
        except ClusterError as error:
            raise FetchError(f"{url}: {error}") from error


def _within(body: bytes, limit: int, url: str) -> bytes:
    if len(body) > limit:
        raise FetchError(f"{url}: more than {limit} bytes")
    return body
