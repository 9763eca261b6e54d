"""What lies between an operator and the API server: it counts, and breaks what a test wants broken.

An operator that is pointed at a proxy of its own is an ordinary client with an ordinary kubeconfig; the proxy adds the
credentials. All proxies share one thread.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, TypeVar

import aiohttp
from aiohttp import web
from yarl import URL

from live.traffic import Request, request_of

T = TypeVar("T")
DROPPED = ("host", "connection", "transfer-encoding", "content-length", "authorization", "keep-alive")
"""Headers that belong to one connection, or that the proxy sets itself."""
REASONS = {409: "Conflict", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
POLL_SECONDS = 0.05


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="proxies", daemon=True)
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, T], seconds: float = 30.0) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


async def ended(tasks: set[asyncio.Task[Any]]) -> None:
    """End tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True)
class Upstream:
    """The API server, and as whom to speak to it."""

    server: str
    tls: ssl.SSLContext
    token: str


def every(request: Request) -> bool:
    """Any request but those that keep a leader: a storm over leases is a test of its own."""
    return request.resource != "leases"


@dataclass
class Fault:
    """What happens to requests in place of an answer."""

    code: int | None
    """Of the answer; None for none at all, until the client gives up."""
    share: float = 1.0
    """Of the requests that it meets."""
    carried_out: bool = False
    """Whether the API server got the request all the same, so that only its answer is lost."""
    retry_after: int | None = None
    of: Callable[[Request], bool] = every
    met: int = 0

    def meets(self, request: Request, randomness: random.Random) -> bool:
        if not self.of(request) or randomness.random() >= self.share:
            return False
        self.met += 1
        return True

    def answer(self) -> web.Response:
        assert self.code is not None
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        content = {"code": self.code, "reason": REASONS[self.code], "message": f"a test says {HTTPStatus(self.code)}"}
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", **content}
        return web.json_response(status, status=self.code, headers=headers)


@dataclass
class Ambush:
    """Something that happens once, at the first request of a kind."""

    moment: Literal["before", "after"]
    """Before the API server gets the request, or after it has answered and before the client hears of it."""
    of: Callable[[Request], bool]
    action: Callable[[], object]
    """The client never gets an answer to the request, whatever this does."""
    sprung: Request | None = None

    def meets(self, request: Request) -> bool:
        if self.sprung is not None or not self.of(request):
            return False
        self.sprung = request
        return True


@dataclass
class Stream:
    """A watch that is open."""

    transport: asyncio.Transport
    frozen: bool = False


@dataclass
class Proxy:
    """One client's way to the API server, at http://127.0.0.1:`port`."""

    loop: Loop
    upstream: Upstream
    requests: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    ambush: Ambush | None = None
    port: int = 0
    streams: list[Stream] = field(default_factory=list)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    """Requests under way."""
    randomness: random.Random = field(default_factory=lambda: random.Random(0))

    def start(self) -> None:
        self.loop.run(self._start())

    async def _start(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, ssl=self.upstream.tls)
        self.session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self.runner.addresses[0][1]

    def stop(self) -> None:
        async def stop() -> None:
            await ended(self.tasks)
            await self.runner.cleanup()
            await self.session.close()

        self.loop.run(stop())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def writes(self, about: str = "") -> list[Request]:
        """Writes so far, of objects whose name begins so."""
        return [request for request in list(self.requests) if request.write and request.name.startswith(about)]

    def freeze_watches(self) -> int:
        """Watches that are open deliver nothing any more, and say nothing of it; how many there are."""
        for stream in self.streams:
            stream.frozen = True
        return len(self.streams)

    def cut_watches(self) -> int:
        """Connections of watches break; how many there were."""
        streams = list(self.streams)
        for stream in streams:
            self.loop.loop.call_soon_threadsafe(stream.transport.abort)
        return len(streams)

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return await self._answer(incoming)

    async def _answer(self, incoming: web.Request) -> web.StreamResponse:
        body = await incoming.read()
        request = request_of(incoming.method, incoming.path, incoming.query, body)
        self.requests.append(request)
        ambush = self.ambush if self.ambush is not None and self.ambush.meets(request) else None
        if ambush is not None:
            return await self._spring(ambush, incoming, body)
        fault = next((fault for fault in self.faults if fault.meets(request, self.randomness)), None)
        if fault is not None:
            return await self._fail(fault, incoming, body)
        if request.verb == "watch":
            return await self._watch(incoming)
        return await self._pass(incoming, body)

    async def _spring(self, ambush: Ambush, incoming: web.Request, body: bytes) -> web.StreamResponse:
        if ambush.moment == "after":
            await self._pass(incoming, body)
        await asyncio.to_thread(ambush.action)
        return dropped(incoming)

    async def _fail(self, fault: Fault, incoming: web.Request, body: bytes) -> web.StreamResponse:
        if fault.carried_out:
            await self._pass(incoming, body)
        if fault.code is not None:
            return fault.answer()
        await left_alone(incoming)
        return dropped(incoming)

    def _forward(self, incoming: web.Request, body: bytes = b"") -> Any:
        headers = {key: value for key, value in incoming.headers.items() if key.lower() not in DROPPED}
        headers["Authorization"] = f"Bearer {self.upstream.token}"
        url = URL(f"{self.upstream.server}{incoming.raw_path}", encoded=True)
        forever = aiohttp.ClientTimeout(total=None)
        bare = {"skip_auto_headers": ("Accept", "Content-Type", "User-Agent"), "timeout": forever}
        return self.session.request(incoming.method, url, data=body or None, headers=headers, **bare)

    async def _pass(self, incoming: web.Request, body: bytes) -> web.StreamResponse:
        try:
            async with self._forward(incoming, body) as answer:
                content = await answer.read()
        except aiohttp.ClientError:  # the API server is away: to the client it looks the same
            return dropped(incoming)
        return web.Response(status=answer.status, body=content, headers=passed_on(answer))

    async def _watch(self, incoming: web.Request) -> web.StreamResponse:
        assert incoming.transport is not None
        stream = Stream(incoming.transport)
        try:
            async with self._forward(incoming) as answer:
                if answer.status != HTTPStatus.OK:
                    return web.Response(status=answer.status, body=await answer.read(), headers=passed_on(answer))
                self.streams.append(stream)
                return await self._flow(stream, incoming, answer)
        except (aiohttp.ClientError, ConnectionError):
            return dropped(incoming)
        finally:
            self.streams = [other for other in self.streams if other is not stream]

    async def _flow(self, stream: Stream, incoming: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        outgoing = web.StreamResponse(status=answer.status, headers=passed_on(answer))
        await outgoing.prepare(incoming)
        async for chunk in answer.content.iter_any():
            if stream.frozen:
                await left_alone(incoming)
                break
            await outgoing.write(chunk)
        return outgoing


def passed_on(answer: aiohttp.ClientResponse) -> dict[str, str]:
    """Headers of an answer that the client gets."""
    return {key: value for key, value in answer.headers.items() if key.lower() not in DROPPED}


def dropped(incoming: web.Request) -> web.StreamResponse:
    """No answer: the connection breaks."""
    if incoming.transport is not None:
        incoming.transport.abort()
    return web.Response()


async def left_alone(incoming: web.Request) -> None:
    """Wait until the client gives up."""
    while incoming.transport is not None and not incoming.transport.is_closing():
        await asyncio.sleep(POLL_SECONDS)
