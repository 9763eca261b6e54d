"""The operator's HTTP side, asked over a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from g2rpo_operator.metrics import Metrics
from g2rpo_operator.server import serving

T = TypeVar("T")
Ask = Callable[..., Awaitable[tuple[int, str, str]]]


def asked(
    question: Callable[[Ask], Awaitable[T]], health: dict[str, Any] | None = None, ready: dict[str, Any] | None = None
) -> T:
    """What someone gets who asks a server with these checks; answers are status, content type and body."""

    async def main() -> T:
        metrics = Metrics()
        metrics.count_poll("ok")
        async with serving("127.0.0.1", 0, metrics, health or {}, ready or {}) as port, aiohttp.ClientSession() as http:

            async def ask(path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
                async with http.request(method, f"http://127.0.0.1:{port}{path}", headers=headers) as answer:
                    return answer.status, answer.headers.get("Content-Type", ""), await answer.text()

            return await question(ask)

    return asyncio.run(main())


def test_a_scrape_gets_what_prometheus_reads() -> None:
    status, content_type, body = asked(lambda ask: ask("/metrics"))
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    assert "g2rpo_operator_progress_polls" in {family.name for family in text_string_to_metric_families(body)}


def test_a_scrape_gets_openmetrics_if_it_asks_for_it() -> None:
    status, content_type, body = asked(lambda ask: ask("/metrics", Accept="application/openmetrics-text"))
    assert (status, content_type.partition(";")[0]) == (200, "application/openmetrics-text")
    assert body.endswith("# EOF\n")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_all_is_well_when_no_check_complains(path: str) -> None:
    checks = {"loop": lambda: "", "watches": lambda: ""}
    status, content_type, body = asked(lambda ask: ask(path), checks, checks)
    assert (status, content_type.partition(";")[0]) == (200, "application/json")
    assert body == '{\n "loop": "ok",\n "watches": "ok"\n}\n'


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_check_that_complains_is_named_with_its_complaint(path: str) -> None:
    checks = {"loop": lambda: "", "watches": lambda: "Pod silent for 120 s"}
    status, _, body = asked(lambda ask: ask(path), checks, checks)
    assert status == 503
    assert body == '{\n "loop": "ok",\n "watches": "Pod silent for 120 s"\n}\n'


def test_health_and_readiness_are_asked_apart_and_each_time_anew() -> None:
    complaints = ["not synced", ""]
    seen: list[int] = []

    async def question(ask: Ask) -> None:
        seen.append((await ask("/healthz"))[0])
        seen.append((await ask("/readyz"))[0])
        seen.append((await ask("/readyz"))[0])

    asked(question, {"loop": lambda: ""}, {"synced": lambda: complaints.pop(0)})
    assert seen == [200, 503, 200]


def test_a_check_that_breaks_is_not_health() -> None:
    def broken() -> str:
        raise ZeroDivisionError

    assert asked(lambda ask: ask("/healthz"), {"loop": broken})[0] == 500


def test_nothing_else_is_served() -> None:
    async def question(ask: Ask) -> list[int]:
        return [(await ask(*request))[0] for request in (("/",), ("/debug",), ("/metrics", "POST"))]

    assert asked(question) == [404, 404, 405]


def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    async def main(port: int) -> None:
        async with serving("127.0.0.1", port, Metrics(), {}, {}):
            pass

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="address already in use"):
        asyncio.run(main(taken.getsockname()[1]))


def test_an_operator_whose_port_is_taken_says_so_in_a_line_and_names_the_setting(tmp_path: Path) -> None:
    names = {"cluster": {"server": "http://127.0.0.1:9"}, "context": {"cluster": "a", "user": "a"}, "user": {}}
    content = {f"{kind}s": [{"name": "a", kind: value}] for kind, value in names.items()}
    (tmp_path / "kubeconfig").write_text(json.dumps({**content, "current-context": "a"}))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = {
            "KUBECONFIG": str(tmp_path / "kubeconfig"),
            "G2RPO_OPERATOR_HOST": "127.0.0.1",
            "G2RPO_OPERATOR_PORT": str(taken.getsockname()[1]),
            "G2RPO_OPERATOR_LEADER_ELECTION": "false",
        }
        command = [sys.executable, "-m", "g2rpo_operator"]
        ended = subprocess.run(
            command, env=os.environ | settings, capture_output=True, text=True, timeout=120, check=False
        )
    (line,) = (ended.stdout + ended.stderr).splitlines()
    assert ended.returncode == 1
    assert "address already in use; choose another port by G2RPO_OPERATOR_PORT" in line


def test_the_port_is_free_again_afterwards() -> None:
    async def main() -> None:
        async with serving("127.0.0.1", 0, Metrics(), {}, {}) as port:
            pass
        async with serving("127.0.0.1", port, Metrics(), {}, {}) as again:
            assert again == port

    asyncio.run(main())


def test_without_an_address_it_listens_on_all() -> None:
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]

    async def main() -> None:
        async with serving("", port, Metrics(), {}, {}), aiohttp.ClientSession() as http:
            for host in ("127.0.0.1", "127.0.0.2"):
                async with http.get(f"http://{host}:{port}/healthz") as answer:
                    assert answer.status == 200

    asyncio.run(main())
