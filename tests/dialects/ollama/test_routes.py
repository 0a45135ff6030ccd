from __future__ import annotations

import json
from typing import Any

import pytest

from service.events import ReasoningDelta, TextDelta
from service.generation import Chat
from tests.dialects.fakes import FakeRuntime, Script, end
from tests.dialects.ollama.http import CHAT, GENERATE, client, lines, post, whole

THOUGHTS: Script = [[ReasoningDelta(0, "hm"), TextDelta(0, "ok"), end()]]


# ---- answers


@pytest.mark.parametrize("prefix", ["", "/ollama"])
@pytest.mark.parametrize(("path", "body"), [("/api/chat", CHAT), ("/api/generate", GENERATE)])
def test_answers_are_streamed_a_line_each_unless_they_are_wanted_whole(
    prefix: str, path: str, body: dict[str, Any]
) -> None:
    streamed = post(prefix + path, body)
    at_once = post(prefix + path, {**body, "stream": False})

    assert streamed.headers["content-type"] == "application/x-ndjson"
    assert at_once.headers["content-type"] == "application/json; charset=utf-8"
    assert [line["done"] for line in lines(streamed)] == [False, False, True]
    assert at_once.json()["done"] is True
    assert at_once.headers["server-timing"]


def test_the_dialect_can_be_named_in_a_header() -> None:
    with client() as http:
        response = http.get("/", headers={"X-LLM-Dialect": "ollama", "Accept": "application/json"})

    assert response.text == "Ollama is running"


def test_a_body_is_json_whatever_its_type_says() -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    with client() as http:
        response = http.post("/api/generate", content=json.dumps(GENERATE), headers=form)

    assert response.status_code == 200


def test_the_clients_own_name_for_a_model_comes_back() -> None:
    for name in ("demo", "org/demo:latest"):
        assert {line["model"] for line in lines(post("/api/chat", {**CHAT, "model": name}))} == {
            name
        }


def test_a_request_reaches_the_runtime_as_it_was_meant() -> None:
    runtime = FakeRuntime()
    body = {**CHAT, "options": {"num_predict": 5, "seed": 3}, "keep_alive": "10m", "format": "json"}
    post("/api/chat", body, runtime)
    (request,) = runtime.requests

    assert (request.dialect, request.endpoint) == ("ollama", "/api/chat")
    assert (request.sampling.max_tokens, request.sampling.seed) == (5, 3)
    assert (request.sampling.temperature, request.sampling.top_k) == (0.8, 40)
    assert request.keep_alive == 600.0
    assert request.response_format.kind == "json"
    assert request.drop_messages
    assert not request.sampling.token_ids


def test_what_has_no_effect_is_named() -> None:
    options = {"num_ctx": 10**6, "num_gpu": -1, "frobnicate": 1, "tfs_z": 0.5, "top_k": 3}
    response = post("/api/chat", {**CHAT, "options": options, "new_field": 1, "shift": True})

    assert response.status_code == 200
    assert set(response.headers["x-ignored-params"].split(", ")) == {
        "new_field", "shift", "options.num_ctx", "options.frobnicate", "options.tfs_z",
    }  # fmt: skip


# ---- what a model can do


@pytest.mark.parametrize(
    ("path", "body", "able", "error"),
    [
        ("/api/chat", CHAT, {"embedding"}, '"demo" does not support chat'),
        ("/api/generate", GENERATE, {"embedding"}, '"demo" does not support generate'),
        ("/api/chat", {**CHAT, "think": True}, {"completion"}, '"demo" does not support thinking'),
        ("/api/generate", {**GENERATE, "think": "low"}, {"completion"},
         '"demo" does not support thinking'),
        ("/api/chat", {**CHAT, "tools": [{"function": {"name": "f"}}]}, {"completion"},
         '"demo" does not support tools'),
        ("/api/generate", {**GENERATE, "suffix": "x"}, {"completion"},
         '"demo" does not support insert'),
    ],
)  # fmt: skip
def test_what_a_model_cannot_do_is_refused_in_ollamas_words(
    path: str, body: dict[str, Any], able: set[str], error: str
) -> None:
    response = post(path, body, FakeRuntime(able_to=frozenset(able)))

    assert (response.status_code, response.json()) == (400, {"error": error})


def test_an_empty_list_of_tools_is_no_tools() -> None:
    runtime = FakeRuntime(able_to=frozenset({"completion"}))

    assert post("/api/chat", {**CHAT, "tools": []}, runtime).status_code == 200


# ---- think


@pytest.mark.parametrize(
    ("prefix", "preserve", "think", "content", "thinking"),
    [
        ("", True, None, "<think>hm</think>ok", None),
        ("", False, None, "ok", "hm"),
        ("/ollama", True, None, "ok", "hm"),
        ("", True, True, "ok", "hm"),
        ("", True, "high", "ok", "hm"),
        ("", False, False, "<think>hm</think>ok", None),
        ("/ollama", True, False, "<think>hm</think>ok", None),
    ],
)
def test_thoughts_are_where_the_client_looks_for_them(
    prefix: str, preserve: bool, think: Any, content: str, thinking: str | None
) -> None:
    runtime = FakeRuntime(script=THOUGHTS)
    body = {**CHAT, "think": think}
    message = whole(f"{prefix}/api/chat", body, runtime, preserve_think_tags=preserve)["message"]

    assert (message["content"], message.get("thinking")) == (content, thinking)
    (request,) = runtime.requests
    assert isinstance(request.input, Chat)
    assert request.input.enable_thinking is (think is not False)
    assert request.input.reasoning_effort == (think if isinstance(think, str) else None)


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_an_answer_that_has_a_format_is_no_place_for_thoughts(path: str) -> None:
    runtime = FakeRuntime(script=THOUGHTS)
    body = {**(CHAT if path == "/api/chat" else GENERATE), "format": "json"}
    answer = whole(path, body, runtime, preserve_think_tags=True)
    written = answer.get("message", answer)

    assert written.get("content", written.get("response")) == "ok"
    assert written["thinking"] == "hm"


def test_openais_paths_are_below_its_prefix_too_and_speak_as_openai() -> None:
    """As below Ollama itself: a client that is told `…/ollama/v1` is one of OpenAI."""
    body = {"model": "nope", "messages": [{"role": "user", "content": "hi"}]}
    with client() as http:
        listed = http.get("/ollama/v1/models")
        answered = http.post("/ollama/v1/chat/completions", json=body | {"model": "demo"})
        unknown = http.post("/ollama/v1/chat/completions", json=body)

    assert listed.json()["object"] == "list"
    assert answered.json()["object"] == "chat.completion"
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


def test_an_empty_body_is_missed() -> None:
    with client() as http:
        response = http.post("/api/generate")

    assert (response.status_code, response.json()) == (400, {"error": "missing request body"})
