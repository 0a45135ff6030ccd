"""What a page of another origin may have done by the browser it is shown in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dialects.fakes import FakeRuntime
from tests.edge.gated import CHAT, client

# What a browser says of where a page is from: may it, without and with `cors_origins`?
ORIGINS = {
    "http://localhost": (True, True),
    "http://LOCALHOST": (True, True),
    "https://chat.example": (False, True),
    "https://chat.example:8443": (False, False),
    "http://chat.example": (False, False),
    "https://chat.example.evil": (False, False),
    "http://localhost:3000": (False, False),
    "http://evil.example": (False, False),
    "null": (False, False),
    "chrome-extension://abcdefgh": (False, False),
    "http://[::1": (False, False),
    "app://obsidian.md": (True, True),
    "vscode-webview://0a1b": (True, True),
}
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]


@pytest.mark.parametrize("path", ["/v1/responses/x", "/v1/moderations", "/api/delete"])
@pytest.mark.parametrize("trusted", [(), ("https://chat.example",)])
def test_a_page_of_another_origin_has_nothing_done(
    tmp_path: Path, path: str, trusted: tuple[str, ...]
) -> None:
    preflight = {"Access-Control-Request-Method": "POST"}
    with client(tmp_path, cors_origins=trusted) as http:
        for origin, may in ORIGINS.items():
            for method in METHODS:
                more = preflight if method == "OPTIONS" else {}
                answer = http.request(method, path, headers={"Origin": origin, **more})
                refused = method in ("POST", "DELETE") and not may[bool(trusted)]
                assert (answer.status_code == 403) <= refused, (origin, method)
                if answer.status_code not in (404, 405, 501):
                    assert (answer.status_code == 403) == refused or method == "OPTIONS", (
                        origin,
                        method,
                    )
                readable = answer.headers.get("access-control-allow-origin")
                assert readable == (origin if origin in trusted else None)
                assert "access-control-allow-credentials" not in answer.headers


PATHS = [
    "/v1/chat/completions", "/api/chat", "/generate", "/v1/messages", "/completion",
    "/models/load", "/models/unload", "/api/models/unload", "/api/models/unload/demo",
    "/lora-adapters", "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/api/pull",
    "/api/cancel/x", "/api/dismiss/x", "/api/dismiss/completed", "/ollama/api/chat",
]  # fmt: skip


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null"])
def test_whatever_changes_or_computes_asks_where_the_page_is_from(
    tmp_path: Path, origin: str
) -> None:
    runtime = FakeRuntime()
    with client(tmp_path, runtime=runtime) as http:
        answers = {
            path: http.post(path, json=CHAT, headers={"Origin": origin}).status_code
            for path in PATHS
        }

    assert set(answers.values()) == {403}, answers
    assert (runtime.requests, runtime.loads, runtime.unloads) == ([], [], [])
