from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from service.app import create_app
from service.edge.host_guard import HostGuard
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("in")(scope, receive, send)


def admits(*hosts: str, **settings: Any) -> bool:
    in_force = Settings(**settings)
    guard = HostGuard(app, lambda: in_force, lambda scope: Response(status_code=421))
    headers = [(b"host", host.encode("latin-1")) for host in hosts]
    return guard.admits({"type": "http", "headers": headers})


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:11436", "LocalHost", "127.0.0.1", "127.0.0.1:80", "[::1]:11436"],
)
def test_the_services_own_names_are_let_in(host: str) -> None:
    assert admits(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.com", "evil.com:11436", ":11436", "", " ", "localhost.evil", "localhost.evil:11436",
        "127.0.0.1.nip.io", "127.0.0.1.evil.com", "0x7f.1", "0177.0.0.1", "2130706433", "127.1",
        "127.0.0.2", "10.0.0.1", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "[::1", "::1", "localhost:",
        "localhost:x", "localhost:123456", "localhost, evil.com", "localhost evil.com",
        "evil.com@localhost", "localhost@evil.com", "localhost/evil", "http://localhost",
        "localhost#", "localhost?", "local\xadhost", "locálhost", "localhost.", ".localhost",
        "xlocalhost", "localhostx", "app.localhost", "127.0.0.1x",
    ],
)  # fmt: skip
def test_everybody_elses_names_are_not(host: str) -> None:
    assert not admits(host)


def test_there_is_exactly_one_host() -> None:
    assert not admits()
    assert not admits("localhost", "localhost")
    assert not admits("localhost", "evil.com")


def test_names_can_be_added() -> None:
    assert admits("llm:11436", allowed_hosts=("llm",))
    assert not admits("llm.evil", allowed_hosts=("llm",))


def test_an_address_is_only_let_in_where_it_is_ours() -> None:
    bound = {"host": "10.0.0.5", "insecure_no_auth": True}
    assert admits("10.0.0.5:11436", **bound)
    assert not admits("10.0.0.6", **bound)

    everywhere = {"host": "0.0.0.0", "insecure_no_auth": True}
    assert admits("10.0.0.6", **everywhere)
    assert not admits("evil.com", **everywhere)
    assert not admits("010.0.0.6", **everywhere)


def test_a_foreign_host_gets_no_answer_but_421() -> None:
    runtime = FakeRuntime()
    with TestClient(create_app(Settings(), runtime.make), base_url="http://evil.com") as http:
        response = http.post("/v1/chat/completions", json={"messages": []})
        page = http.get("/health/live")

    assert (response.status_code, page.status_code) == (421, 421)
    assert response.json()["error"]["message"] == "The Host header names another server"
    assert runtime.requests == []
