"""Metrics and health over HTTP, on one port.

Who calls this: `__main__`. What is healthy is said by the checks that it is given.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

from g2rpo_operator.metrics import Metrics

Check = Callable[[], str]
"""Says what is wrong; empty when nothing is."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(
    host: str, port: int, metrics: Metrics, health: Mapping[str, Check], ready: Mapping[str, Check]
) -> AsyncIterator[int]:
    """Answer /metrics, /healthz and /readyz within; yields the port that is listened on.

    Args:
        host: address; all of them when empty.
        port: 0 takes a free one; with a host only, since each kind of address gets its own.
        metrics: what a scrape gets.
        health: of a replica that fails one of these, nothing good is to be expected: it is started again.
        ready: whether it could take over.

    Raises:
        OSError: the port is taken.
    """

    async def page(request: web.Request) -> web.Response:
        body, content_type = metrics.page(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    application = web.Application()
    application.router.add_get("/metrics", page)
    application.router.add_get("/healthz", _answer(health))
    application.router.add_get("/readyz", _answer(ready))
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host or None, port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _answer(checks: Mapping[str, Check]) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        found = {name: check() for name, check in checks.items()}
        body = {name: text or "ok" for name, text in found.items()}
        return web.json_response(body, status=503 if any(found.values()) else 200, dumps=_indented)

    return answer


def _indented(body: object) -> str:
    return json.dumps(body, indent=1) + "\n"
