"""Requests of Ollama's clients to an application whose runtime plays a script."""

from __future__ import annotations

import json
from typing import Any

import httpx2
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime

CHAT: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
GENERATE: dict[str, Any] = {"model": "demo", "prompt": "hi"}


def client(runtime: FakeRuntime | None = None, **settings: Any) -> TestClient:
    app = create_app(Settings(**settings), (runtime or FakeRuntime()).make)
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def post(
    path: str, body: dict[str, Any], runtime: FakeRuntime | None = None, **settings: Any
) -> httpx2.Response:
    with client(runtime, **settings) as http:
        return http.post(path, json=body)


def whole(path: str, body: dict[str, Any], *given: Any, **settings: Any) -> Any:
    return post(path, {**body, "stream": False}, *given, **settings).json()


def lines(response: httpx2.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.removesuffix("\n").split("\n")]
