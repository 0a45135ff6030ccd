from __future__ import annotations

from typing import Any

import pytest
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime

ORIGIN = "https://chat.example"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type, authorization",
}


def client(**settings: Any) -> TestClient:
    app = create_app(Settings(**settings), FakeRuntime().make)
    return TestClient(app, base_url="http://localhost")


def paths(routes: list[BaseRoute]) -> list[tuple[str, str]]:
    found = []
    for route in routes:
        if isinstance(route, Mount):
            found += [(route.path + path, method) for path, method in paths(list(route.routes))]
        elif isinstance(route, Route):
            found += [(route.path, method) for method in route.methods or ()]
    return found


def test_no_two_routes_claim_the_same_path_and_method() -> None:
    claimed = paths(list(create_app(Settings(), FakeRuntime().make).routes))

    assert len(claimed) == len(set(claimed))
    assert ("/openai/v1/chat/completions", "POST") in claimed


@pytest.mark.parametrize("origin", [ORIGIN, "null", "http://localhost", "https://evil.example"])
def test_by_default_no_page_of_another_origin_may_read_an_answer(origin: str) -> None:
    with client() as http:
        answer = http.post("/v1/chat/completions", json=CHAT, headers={"Origin": origin})
        preflight = http.options("/v1/chat/completions", headers={"Origin": origin, **PREFLIGHT})

    assert "access-control-allow-origin" not in answer.headers
    assert "access-control-allow-origin" not in preflight.headers


def test_an_origin_that_is_listed_may() -> None:
    with client(cors_origins=(ORIGIN,)) as http:
        answer = http.post("/v1/chat/completions", json=CHAT, headers={"Origin": ORIGIN})
        preflight = http.options("/v1/chat/completions", headers={"Origin": ORIGIN, **PREFLIGHT})

    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in answer.headers


def test_the_official_clients_may_send_their_headers_from_a_browser() -> None:
    asked = "anthropic-version, x-stainless-lang, x-stainless-timeout, x-api-key"
    wanted = {**PREFLIGHT, "Access-Control-Request-Headers": asked}
    with client(cors_origins=(ORIGIN,)) as http:
        preflight = http.options("/v1/messages", headers={"Origin": ORIGIN, **wanted})
        forgetting = {**wanted, "Access-Control-Request-Method": "DELETE"}
        deleting = http.options("/v1/responses/resp_1", headers={"Origin": ORIGIN, **forgetting})

    assert (preflight.status_code, deleting.status_code) == (200, 200)


@pytest.mark.parametrize("origin", ["https://chat.example.evil", "http://chat.example", "null"])
def test_an_origin_that_only_looks_like_it_may_not(origin: str) -> None:
    with client(cors_origins=(ORIGIN,)) as http:
        answer = http.post("/v1/chat/completions", json=CHAT, headers={"Origin": origin})

    assert "access-control-allow-origin" not in answer.headers


def test_an_error_can_be_read_by_a_listed_origin_too() -> None:
    with client(cors_origins=(ORIGIN,)) as http:
        answer = http.post("/v1/chat/completions", content="{", headers={"Origin": ORIGIN})

    assert answer.status_code == 400
    assert answer.headers["access-control-allow-origin"] == ORIGIN
