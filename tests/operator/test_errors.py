"""What answers of an API server are taken for: Status bodies as real servers write them, and servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_operator import cluster as edge
from g2rpo_operator.errors import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RejectedError,
    TransientError,
    error_of,
)
from g2rpo_operator.resources import CONFIG_MAPS, PODS

T = TypeVar("T")
KINDS = (AlreadyExistsError, ConflictError, ForbiddenError, NotFoundError, RejectedError, TransientError)


def status(code: int, reason: str, message: str, **details: Any) -> bytes:
    """The body of a refusal, with the keys that a real server sends."""
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    return json.dumps(body | {"reason": reason, "details": details, "code": code}).encode()


MODIFIED = (
    'Operation cannot be fulfilled on g2rpojobs.g2rpo.dev "a": the object has been modified; please apply your '
    "changes to the latest version and try again"
)
RBAC = (
    'pods is forbidden: User "system:serviceaccount:g2rpo:operator" cannot list resource "pods" in API group "" '
    "at the cluster scope"
)
QUOTA = (
    'jobs.batch "a-a1" is forbidden: exceeded quota: few, requested: count/jobs.batch=1, used: count/jobs.batch=5, '
    "limited: count/jobs.batch=5"
)
UNCOUNTED = 'services "a" is forbidden: status unknown for quota: few, resources: count/services'
ENDING = 'configmaps "a" is forbidden: unable to create new content in namespace team because it is being terminated'
POLICY = (
    "jobs.batch \"a-a1\" is forbidden: ValidatingAdmissionPolicy 'gpus' with binding 'gpus' denied request: "
    "no GPUs on Sundays"
)
WEBHOOK = 'admission webhook "validate.policy.example" denied the request: image is not signed'
NO_WEBHOOK = (
    'Internal error occurred: failed calling webhook "mjob.kb.io": failed to call webhook: Post '
    '"https://kueue-webhook-service.kueue-system.svc:443/mutate-batch-v1-job?timeout=10s": no endpoints available '
    'for service "kueue-webhook-service"'
)
INVALID = 'Job.batch "a-a1" is invalid: spec.template.spec.containers[0].image: Required value'


@pytest.mark.parametrize(
    ("code", "reason", "message", "expected", "permanent"),
    [
        (400, "BadRequest", "the object provided is unrecognized (must be of type Job)", RejectedError, True),
        (400, "", WEBHOOK, RejectedError, True),
        (401, "Unauthorized", "Unauthorized", ForbiddenError, None),
        (403, "Forbidden", RBAC, ForbiddenError, None),
        (403, "Forbidden", QUOTA, RejectedError, False),
        (403, "Forbidden", UNCOUNTED, RejectedError, False),
        (403, "Forbidden", ENDING, RejectedError, False),
        (403, "Forbidden", WEBHOOK, RejectedError, True),
        (404, "NotFound", 'pods "a" not found', NotFoundError, None),
        (409, "AlreadyExists", 'jobs.batch "a-a1" already exists', AlreadyExistsError, None),
        (409, "Conflict", MODIFIED, ConflictError, None),
        (410, "Expired", "The provided continue parameter is too old", TransientError, None),
        (413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728", RejectedError, True),
        (422, "Invalid", INVALID, RejectedError, True),
        (422, "Invalid", POLICY, RejectedError, True),
        (429, "TooManyRequests", "too many requests, please try again later", TransientError, None),
        (500, "InternalError", NO_WEBHOOK, TransientError, None),
        (500, "", "etcdserver: request timed out", TransientError, None),
        (503, "ServiceUnavailable", "the server is currently unable to handle the request", TransientError, None),
        (504, "Timeout", "Timeout: request did not complete within requested timeout", TransientError, None),
    ],
)
def test_answers_are_sorted_by_what_can_be_done(
    code: int, reason: str, message: str, expected: type[ClusterError], permanent: bool | None
) -> None:
    error = error_of(code, status(code, reason, message))
    assert type(error) is expected
    assert str(error) == f"{message} ({code})"
    assert (error.permanent if isinstance(error, RejectedError) else None) is permanent


@pytest.mark.parametrize(
    ("body", "text"), [(b"404 page not found\n", "404 page not found\n"), (b"", "no text"), (b"[1]", "[1]")]
)
def test_answers_that_are_no_status_are_quoted(body: bytes, text: str) -> None:
    assert str(error_of(404, body)) == f"{text} (404)"


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), (None, None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)])
def test_the_servers_wish_to_wait_is_kept(header: str | None, seconds: float | None) -> None:
    error = error_of(429, status(429, "TooManyRequests", "slow down"), header)
    assert isinstance(error, TransientError)
    assert error.after_seconds == seconds


@given(st.integers(400, 599), st.binary(max_size=64) | st.just(b'{"kind": "Status"}') | st.just(b"null"))
def test_every_answer_is_one_of_the_kinds(code: int, body: bytes) -> None:
    error = error_of(code, body)
    assert type(error) in KINDS
    assert len(str(error)) < 4096


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(handler: Handler, folder: Path, **options: Any):  # type: ignore[no-untyped-def]
    """A client of a server that answers like this."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with edge.Cluster.connect(kubeconfig(folder, port), **options) as api:
            yield api
    finally:
        await runner.cleanup()


def kubeconfig(folder: Path, port: int) -> Path:
    """A file that names a server without certificates."""
    path = folder / "kubeconfig"
    content = {
        "clusters": [{"name": "plain", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "user", "user": {"token": "secret-token"}}],
        "contexts": [{"name": "plain", "context": {"cluster": "plain", "user": "user"}}],
        "current-context": "plain",
    }
    path.write_text(yaml.safe_dump(content))
    return path


def answered(handler: Handler, folder: Path, question: Callable[[edge.Cluster], Awaitable[T]], **options: Any) -> T:
    async def main() -> T:
        async with served(handler, folder, **options) as api:
            return await question(api)

    return asyncio.run(main())


def test_requests_carry_the_token_the_name_and_the_kind_of_patch(tmp_path: Path) -> None:
    seen: list[tuple[str, str, str, str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        names = ("Authorization", "User-Agent", "Content-Type")
        seen.append((request.method, request.path_qs, *(request.headers[name] for name in names)))
        return web.json_response({})

    async def question(api: edge.Cluster) -> None:
        await api.get(PODS, "team", "a")
        await api.patch(PODS, "team", "a", {})

    answered(handler, tmp_path, question)
    path = "/api/v1/namespaces/team/pods/a"
    assert seen == [
        ("GET", path, "Bearer secret-token", "g2rpo-operator", "application/json"),
        ("PATCH", path, "Bearer secret-token", "g2rpo-operator", "application/merge-patch+json"),
    ]


def test_a_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.host)
        return web.json_response({"kind": "Pod"})

    async def main() -> Any:
        async with served(handler, tmp_path) as direct:
            monkeypatch.setenv("http_proxy", direct.client.configuration.host)
            content = yaml.safe_load((tmp_path / "kubeconfig").read_text())
            content["clusters"][0]["cluster"]["server"] = "http://kubernetes.invalid:1234"
            (tmp_path / "kubeconfig").write_text(yaml.safe_dump(content))
            async with edge.Cluster.connect(tmp_path / "kubeconfig") as api:
                return await api.get(PODS, "team", "a")

    assert asyncio.run(main()) == {"kind": "Pod"}
    assert seen == ["kubernetes.invalid"]


def test_an_overloaded_server_is_not_asked_again_and_says_when(tmp_path: Path) -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.method)
        body = status(429, "TooManyRequests", "too many requests, please try again later", retryAfterSeconds=3)
        return web.Response(status=429, body=body, headers={"Retry-After": "3"}, content_type="application/json")

    async def question(api: edge.Cluster) -> float | None:
        with pytest.raises(TransientError, match="please try again later") as caught:
            await api.list(PODS, None)
        return caught.value.after_seconds

    assert answered(handler, tmp_path, question) == 3.0
    assert asked == ["GET"]


@pytest.mark.parametrize("method", ["get", "create"])
def test_a_server_that_does_not_answer_is_left_after_the_timeout(tmp_path: Path, method: str) -> None:
    requests: list[tuple[str, str, str]] = []

    async def main() -> None:
        never = asyncio.Event()

        async def handler(_: web.Request) -> web.Response:
            await never.wait()
            return web.Response()

        options = {"request_timeout_seconds": 0.05, "count": lambda *request: requests.append(request)}
        async with served(handler, tmp_path, **options) as api:
            with pytest.raises(TransientError, match="/api/v1/namespaces/team/configmaps"):
                await (api.get(CONFIG_MAPS, "team", "a") if method == "get" else api.create(CONFIG_MAPS, "team", {}))
            never.set()

    asyncio.run(main())
    assert requests == [(method, "configmaps", "<error>")]


def test_an_answer_that_breaks_off_is_no_answer(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"items": [')
        assert request.transport is not None
        request.transport.abort()
        return response

    async def question(api: edge.Cluster) -> None:
        with pytest.raises(TransientError):
            await api.list(PODS, None)

    answered(handler, tmp_path, question)


def test_a_server_that_is_not_there_is_trouble_that_may_pass(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))

        async def main() -> None:
            async with edge.Cluster.connect(kubeconfig(tmp_path, taken.getsockname()[1])) as api:
                with pytest.raises(TransientError, match="Cannot connect"):
                    await api.get(PODS, "team", "a")

        asyncio.run(main())


def test_an_answer_without_end_is_read_as_far_as_allowed(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while request.transport is not None and not request.transport.is_closing():
            await response.write(b"x" * 4096)
        return response

    async def question(api: edge.Cluster) -> None:
        with pytest.raises(RejectedError, match="more than 100000 bytes"):
            await api.get_bytes("/api/v1/namespaces/team/pods/a:9464/proxy/progress", limit_bytes=100_000)

    answered(handler, tmp_path, question)


def test_an_answer_of_just_the_allowed_length_is_fine(tmp_path: Path) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * 100_000)

    assert answered(handler, tmp_path, lambda api: api.get_bytes("/x", limit_bytes=100_000)) == b"x" * 100_000
