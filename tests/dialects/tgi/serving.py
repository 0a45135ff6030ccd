"""The application on a scripted answer, asked as TGI is."""

from __future__ import annotations

import json
from typing import Any

from starlette.testclient import TestClient

from service.app import create_app
from service.events import (
    Logprob,
    TextDelta,
    TokenLogprobs,
)
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime, Script, end

EOS = TokenLogprobs(Logprob(2, b"</s>", -0.25))
HELLO: Script = [
    [TextDelta(0, "Hello", (TokenLogprobs(Logprob(5, b"Hello", -0.5)),), 1)],
    [end(tokens=2, end_token=EOS)],
]
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


def client(runtime: FakeRuntime | None = None, **settings: Any) -> TestClient:
    app = create_app(Settings(**settings), (runtime or FakeRuntime(script=HELLO)).make)
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def frames(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]
