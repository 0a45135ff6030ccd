"""What a model's files want sampled with: after the request, before the dialect."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from starlette.testclient import TestClient

from service.app import create_app
from service.dialects.model_defaults import model_defaults
from service.settings import Settings
from tests.dialects.fakes import CARD, FakeRuntime

GGUF = {"temperature": 0.6, "top_k": 20, "min_p": 0.01}
MODELFILE = {"temperature": 0.3, "num_ctx": 4096, "stop": ["END"], "num_predict": 7}


def test_the_modelfile_comes_before_the_file() -> None:
    card = replace(CARD, sampling=GGUF, parameters=MODELFILE)

    assert model_defaults(card) == {
        "temperature": 0.3,
        "top_k": 20,
        "min_p": 0.01,
        "stop": ("END",),
        "max_tokens": 7,
    }


@pytest.mark.parametrize(
    "odd",
    [
        {"temperature": float("nan")},
        {"top_p": 7},
        {"top_k": -5},
        {"mirostat": 9},
        {"repeat_penalty": 0},
    ],
)
def test_what_makes_no_sense_is_passed_over(odd: dict[str, Any]) -> None:
    assert model_defaults(replace(CARD, sampling={**odd, "min_p": 0.1})) == {"min_p": 0.1}


CHAT = {"messages": [{"role": "user", "content": "hi"}]}
PATHS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/vllm/v1/chat/completions", CHAT),
    ("/vllm/v1/chat/completions/batch", {"messages": [CHAT["messages"]]}),
    ("/v1/completions", {"prompt": "hi"}),
    ("/v1/responses", {"input": "hi"}),
    ("/v1/messages", {**CHAT, "max_tokens": 8}),
    ("/completion", {"prompt": "hi"}),
    ("/api/chat", {**CHAT, "model": "demo", "stream": False}),
    ("/api/generate", {"prompt": "hi", "model": "demo", "stream": False}),
]


@pytest.mark.parametrize(("path", "body"), PATHS)
def test_every_dialect_asks_the_model_before_itself(
    path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.dialects.fakes.CARD", replace(CARD, sampling=GGUF))
    runtime = FakeRuntime()
    stated: dict[str, Any] = {"temperature": 0.9}
    if path.startswith("/api/"):
        stated = {"options": stated}
    with TestClient(create_app(Settings(), runtime.make), base_url="http://localhost") as http:
        assert http.post(path, json=body).status_code == 200
        assert http.post(path, json={**body, **stated}).status_code == 200
        props = http.get("/props").json()

    unsaid, said = (request.sampling for request in runtime.requests)
    assert (unsaid.temperature, unsaid.top_k, unsaid.min_p) == (0.6, 20, 0.01)
    assert (said.temperature, said.top_k) == (0.9, 20)
    assert props["default_generation_settings"]["params"]["temperature"] == 0.6
