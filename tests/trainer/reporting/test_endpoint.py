"""The HTTP server, asked by a real client."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from g2rpo_trainer.monitoring.endpoint import Answer, Endpoint, file_route

LOCALHOST = "127.0.0.1"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    routes = {
        "/echo": lambda accept: Answer(accept.encode(), "text/plain"),
        "/broken": lambda _: Answer(b"no\n", "text/plain", HTTPStatus.SERVICE_UNAVAILABLE),
    }
    served = Endpoint(routes, 0, LOCALHOST)
    yield served
    served.close()


def ask(port: int, path: str, method: str = "GET", accept: str = "any/thing") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(LOCALHOST, port, timeout=10)
    connection.request(method, path, headers={"Accept": accept})
    answer = connection.getresponse()
    content = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return content


def test_a_route_gets_the_accept_header_and_its_answer_is_sent(endpoint: Endpoint) -> None:
    status, headers, body = ask(endpoint.port, "/echo", accept="text/x;q=1")
    assert (status, body) == (200, b"text/x;q=1")
    assert headers["Content-Type"] == "text/plain"
    assert headers["Content-Length"] == str(len(body))
    assert headers["Cache-Control"] == "no-store"


def test_a_query_does_not_change_the_route(endpoint: Endpoint) -> None:
    assert ask(endpoint.port, "/echo?name[]=a")[0] == 200


def test_the_status_is_the_routes(endpoint: Endpoint) -> None:
    assert ask(endpoint.port, "/broken")[::2] == (503, b"no\n")


def test_other_paths_are_told_what_there_is(endpoint: Endpoint) -> None:
    assert ask(endpoint.port, "/other")[::2] == (404, b"there is /broken, /echo\n")


def test_head_has_headers_only(endpoint: Endpoint) -> None:
    with socket.create_connection((LOCALHOST, endpoint.port), timeout=10) as connection:
        connection.sendall(b"HEAD /echo HTTP/1.0\r\nAccept: any/thing\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ")
    assert f"Content-Length: {len('any/thing')}".encode() in head
    assert body == b""


def test_what_a_client_has_got_is_noted_but_not_what_it_only_asked_about() -> None:
    got = threading.Semaphore(0)
    endpoint = Endpoint({"/it": lambda _: Answer(b"body", "text/plain", sent=got.release)}, 0, LOCALHOST)
    with socket.create_connection((LOCALHOST, endpoint.port), timeout=10) as connection:
        connection.sendall(b"HEAD /it HTTP/1.0\r\n\r\n")
        while connection.recv(4096):
            pass
    assert not got.acquire(blocking=False)
    assert ask(endpoint.port, "/it")[2] == b"body"
    assert got.acquire(timeout=10)
    endpoint.close()


def test_a_file_is_read_when_somebody_asks(tmp_path: Path) -> None:
    route = file_route(tmp_path / "curve.csv", "text/csv")
    assert route("*/*") == Answer(
        b"no curve.csv yet\n", "text/plain; charset=utf-8", HTTPStatus.NOT_FOUND, route("").sent
    )
    for content in (b"1\n", b"1\n2\n"):
        (tmp_path / "curve.csv").write_bytes(content)
        answer = route("*/*")
        assert (answer.body, answer.content_type, answer.status) == (content, "text/csv", HTTPStatus.OK)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_sent(endpoint: Endpoint, method: str) -> None:
    assert ask(endpoint.port, "/echo", method=method)[0] == 501


def test_a_client_that_says_nothing_does_not_hold_up_others(endpoint: Endpoint) -> None:
    with socket.create_connection((LOCALHOST, endpoint.port), timeout=10):
        assert ask(endpoint.port, "/echo")[0] == 200


def test_garbage_is_answered_and_survived(endpoint: Endpoint) -> None:
    with socket.create_connection((LOCALHOST, endpoint.port), timeout=10) as connection:
        connection.sendall(b"\x00\xff\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1024)
    assert ask(endpoint.port, "/echo")[0] == 200


def test_requests_are_answered_beside_each_other() -> None:
    """Each answer waits for the other one's request."""
    barrier = threading.Barrier(2, timeout=10)

    def meet(_: str) -> Answer:
        barrier.wait()
        return Answer(b"met", "text/plain")

    endpoint = Endpoint({"/meet": meet}, 0, LOCALHOST)
    bodies: list[bytes] = []
    threads = [threading.Thread(target=lambda: bodies.append(ask(endpoint.port, "/meet")[2])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    endpoint.close()
    assert bodies == [b"met", b"met"]


def test_a_taken_port_is_named_with_the_remedy(endpoint: Endpoint) -> None:
    with pytest.raises(OSError, match=rf"port {endpoint.port} of 127\.0\.0\.1: .*in use.*--port 0"):
        Endpoint({}, endpoint.port, LOCALHOST)


def test_a_host_that_is_not_ours_is_refused() -> None:
    with pytest.raises(OSError, match=r"port 0 of 192\.0\.2\.1"):
        Endpoint({}, 0, "192.0.2.1")


def test_after_closing_nobody_answers_and_the_port_is_free() -> None:
    endpoint = Endpoint({}, 0, LOCALHOST)
    port = endpoint.port
    endpoint.close()
    with pytest.raises(OSError, match="refused"):
        ask(port, "/")
    Endpoint({}, port, LOCALHOST).close()


def test_the_server_does_not_keep_the_process_alive(endpoint: Endpoint) -> None:
    mine = [thread for thread in threading.enumerate() if thread.name == "endpoint"]
    assert mine
    assert all(thread.daemon for thread in mine)


def served_too_late(failure: Exception | None = None) -> None:
    """A client asks and goes away; then it is answered, or the route fails."""
    asked, left = threading.Event(), threading.Event()

    def late(_: str) -> Answer:
        asked.set()
        assert left.wait(10)
        if failure:
            raise failure
        return Answer(b"x" * 2**24, "text/plain")

    endpoint = Endpoint({"/late": late}, 0, LOCALHOST)
    with socket.create_connection((LOCALHOST, endpoint.port), timeout=10) as client:
        client.sendall(b"GET /late HTTP/1.0\r\n\r\n")
        assert asked.wait(10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    left.set()
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(10)
    endpoint.close()


def test_a_client_that_goes_away_is_no_news(capfd: pytest.CaptureFixture[str]) -> None:
    served_too_late()
    assert capfd.readouterr() == ("", "")


def test_a_route_that_fails_is(capfd: pytest.CaptureFixture[str]) -> None:
    served_too_late(LookupError("nobody knows"))
    assert "LookupError: nobody knows" in capfd.readouterr().err
