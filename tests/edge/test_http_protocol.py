"""Slow and greedy connections, with deadlines shortened from seconds to fractions."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from service.dialects import body
from service.edge.http_protocol import HttpProtocol
from service.events import Event, TextDelta
from tests.dialects.fakes import FakeRuntime
from tests.dialects.serving import serving, wait_until

HEAD = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"


class Hasty(HttpProtocol):
    idle_seconds = 0.6
    header_seconds = 0.3
    stall_seconds = 0.4


class Flood:
    def __iter__(self) -> Iterator[list[Event] | float]:
        for n in range(100_000):
            yield [TextDelta(0, "x" * 4000)]
            if n % 16 == 0:
                yield 0.0


@contextmanager
def connected(url: str, receive_buffer: int = 0) -> Iterator[socket.socket]:
    parts = urlsplit(url)
    with socket.socket() as connection:
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(5)
        connection.connect((parts.hostname or "", parts.port or 0))
        yield connection


def closed_after(connection: socket.socket) -> float:
    """Seconds until the other side closes."""
    started = time.monotonic()
    while connection.recv(65536):
        pass
    return time.monotonic() - started


def test_a_connection_that_asks_nothing_is_closed() -> None:
    with serving(FakeRuntime(), Hasty) as url, connected(url) as connection:
        assert 0.4 < closed_after(connection) < 1.5


@pytest.mark.parametrize("begun", [b"G", HEAD, HEAD + b"X-Long: ", b"\r\n", b"\r\n\r\n"])
def test_headers_that_do_not_end_are_not_waited_for(begun: bytes) -> None:
    with serving(FakeRuntime(), Hasty) as url, connected(url) as connection:
        connection.sendall(begun)
        assert 0.1 < closed_after(connection) < 1.2


def test_a_byte_now_and_then_gains_no_time() -> None:
    with serving(FakeRuntime(), Hasty) as url, connected(url) as connection:
        started = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT012  which byte it is depends on the clock
            for byte in HEAD * 20:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        assert time.monotonic() - started < 1.5


def test_the_second_request_of_a_connection_has_a_deadline_too() -> None:
    with serving(FakeRuntime(), Hasty) as url, connected(url) as connection:
        connection.sendall(HEAD + b"\r\n")
        assert b"200 OK" in connection.recv(65536)
        connection.sendall(b"GET /hea")
        assert closed_after(connection) < 1.2


def test_a_connection_may_rest_between_requests() -> None:
    with serving(FakeRuntime(), Hasty) as url, connected(url) as connection:
        for _ in range(2):
            connection.sendall(HEAD + b"\r\n")
            assert b"200 OK" in connection.recv(65536)
            time.sleep(0.8)


def test_a_body_that_does_not_come_is_answered_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "READ_SECONDS", 0.3)
    with serving(FakeRuntime(), Hasty) as url, connected(url) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
        )
        answer = connection.recv(65536)
        assert b"408" in answer.split(b"\r\n")[0]
        assert closed_after(connection) < 1.2


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        HEAD + b"X-Long: " + b"x" * 40_000 + b"\r\n\r\n",
        HEAD + b"".join(b"X-%d: %b\r\n" % (n, b"y" * 90) for n in range(500)) + b"\r\n",
        HEAD + b"X-Endless: " + b"x" * 100_000,
        b"not http at all\r\n\r\n",
    ],
)
def test_headers_have_a_size_that_is_too_much(request_: bytes) -> None:
    with serving(FakeRuntime(), Hasty) as url, connected(url) as connection:
        connection.sendall(request_)
        assert b" 400 " in connection.recv(65536).split(b"\r\n")[0]


def test_headers_of_an_honest_size_are_taken() -> None:
    with serving(FakeRuntime(), Hasty) as url:
        response = httpx.get(url + "/health/live", headers={"X-Long": "x" * 30_000})

    assert response.status_code == 200


def test_a_reader_that_stops_is_cut_and_its_generation_cancelled() -> None:
    runtime = FakeRuntime(script=Flood())  # type: ignore[arg-type]
    request: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    payload = json.dumps(request).encode()
    with serving(runtime, Hasty) as url, connected(url, 4096) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
            % (len(payload), payload)
        )
        started = time.monotonic()
        wait_until(lambda: runtime.cancelled, 5)
        seconds = time.monotonic() - started

    assert 0.3 < seconds < 3


def test_a_reader_that_is_only_slow_is_not() -> None:
    runtime = FakeRuntime(script=Flood())  # type: ignore[arg-type]
    request: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    payload = json.dumps(request).encode()
    with serving(runtime, Hasty) as url, connected(url, 65536) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
            % (len(payload), payload)
        )
        for _ in range(20):
            assert connection.recv(65536)
            time.sleep(0.1)
        assert not runtime.cancelled


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/chat/completions", 413), ("/v1/audio/transcriptions", 501), ("/nothing", 404)],
)
def test_who_is_answered_while_sending_can_finish_and_go_on(path: str, status: int) -> None:
    """Closing the connection under it would reset it, and the answer would be lost."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n".encode()
    with serving(FakeRuntime()) as url, connected(url) as connection:
        for _ in range(3):
            connection.sendall(head + b"x" * 8_000_000)
            assert connection.recv(65536).startswith(b"HTTP/1.1 %d " % status)
        connection.sendall(HEAD + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_who_waits_to_be_asked_for_a_body_is_answered_and_asked_for_none() -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
    with serving(FakeRuntime()) as url, connected(url) as connection:
        connection.sendall(head + b"Content-Length: 9000000\r\n\r\n")
        answer = b""
        while data := connection.recv(65536):
            answer += data

    assert answer.startswith(b"HTTP/1.1 413 ")


class Impatient(HttpProtocol):
    drop_seconds = 0.3
    max_dropped_bytes = 1_000_000


@pytest.mark.parametrize(("piece", "pause"), [(b"x" * 100_000, 0.0), (b"x", 0.02)])
def test_a_body_that_nobody_wants_is_not_taken_for_ever(piece: bytes, pause: float) -> None:
    head = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000000\r\n\r\n"
    with serving(FakeRuntime(), Impatient) as url, connected(url) as connection:
        connection.sendall(head)
        deadline = time.monotonic() + 10
        with pytest.raises(OSError):  # noqa: PT012  which piece meets the closed door is chance
            while time.monotonic() < deadline:
                connection.sendall(piece)
                time.sleep(pause)
