from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.errors import ModelNotFound
from service.events import ReasoningDelta, TextDelta
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime, end

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


def client(runtime: FakeRuntime | None = None, **settings: Any) -> TestClient:
    app = create_app(Settings(**settings), (runtime or FakeRuntime()).make)
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/openai/v1/chat/completions", "/api/chat/completions"]
)
def test_chats_are_answered_under_each_path(path: str) -> None:
    with client() as http:
        assert http.post(path, json=CHAT).json()["object"] == "chat.completion"


def test_the_clients_own_name_for_a_model_comes_back() -> None:
    with client() as http:
        assert http.post("/v1/chat/completions", json={**CHAT, "model": "demo"}).json()[
            "model"
        ] == ("demo")
        assert http.post("/v1/chat/completions", json=CHAT).json()["model"] == "demo:latest"


def test_a_model_that_nobody_has_is_not_found() -> None:
    with client() as http:
        response = http.post("/v1/chat/completions", json={**CHAT, "model": "gpt-4o"})

    assert response.status_code == 404
    assert response.json()["error"] == {
        "message": "The model `gpt-4o` does not exist",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


def test_parameters_without_effect_are_named() -> None:
    body = {
        **CHAT,
        "user": "me",
        "frobnicate": 1,
        "session_id": "s",
        "bad\r\nname": 1,
        "seed": None,
    }
    with client() as http:
        response = http.post("/v1/chat/completions", json=body)

    assert response.status_code == 200
    assert response.headers["x-ignored-params"] == "frobnicate, session_id"


MODIFIED: dict[str, Any] = {
    "options": {"top_k": 4, "frob": 1},
    "chat_template_kwargs": {"anything": 1},
    "metadata": {"mine": 1},
    "logit_bias": {"3": 1},
    "response_format": {"type": "json_object", "frob": 1},
}
CLAUDE: dict[str, Any] = {**CHAT, "model": "demo", "max_tokens": 8}
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
ALLOWED = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}


@pytest.mark.parametrize(
    ("path", "body", "names"),
    [
        ("/v1/chat/completions", CHAT | MODIFIED, "options.frob, response_format.frob"),
        ("/v1/completions", {"prompt": "a"} | MODIFIED, "chat_template_kwargs, options.frob, response_format.frob"),
        ("/v1/chat/completions", {**CHAT, "stream_options": {"frob": 1}}, "stream_options.frob"),
        ("/v1/chat/completions", {**CHAT, "stream_options": {"include_obfuscation": False}}, ""),
        ("/v1/completions", {"prompt": "a", "stream_options": {"include_obfuscation": True}},
         "stream_options.include_obfuscation"),
        ("/v1/responses", {"input": "a", "text": {"verbosity": "low", "frob": 1}}, "text.frob"),
        ("/v1/responses", {"input": "a", "metadata": {"mine": "1"}, "reasoning": {"frob": 1}},
         "reasoning.frob"),
        ("/v1/responses", {"input": "a", "tools": [FUNCTION], "tool_choice": ALLOWED}, ""),
        ("/v1/messages", {**CLAUDE, "thinking": {"type": "adaptive", "budget_tokens": 2048}},
         "thinking.budget_tokens"),
        ("/v1/messages", {**CLAUDE, "output_config": {"effort": "low", "frob": 1}},
         "output_config.frob"),
        ("/completion", {"prompt": "a", "logit_bias": {"3": 1},
                         "response_format": {"type": "text", "frob": 1}}, "response_format.frob"),
        ("/v1/chat/completions/batch", {"messages": [CHAT["messages"]], "options": {"frob": 1}},
         "options.frob"),
        ("/api/chat", {**CHAT, "model": "demo", "stream": False, "options": {"frob": 1}},
         "options.frob"),
        ("/api/show", {"model": "nobody", "options": {"frob": 1}}, ""),
        ("/tokenize", {"inputs": "a", "parameters": {"truncate": 1}}, ""),
    ],
)  # fmt: skip
def test_parameters_without_effect_are_named_within_objects_too(
    path: str, body: dict[str, Any], names: str
) -> None:
    with client() as http:
        response = http.post(path, json=body)

    assert response.headers.get("x-ignored-params", "") == names


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/vllm/v1/chat/completions", "/llama-server/chat/completions"]
)
def test_thoughts_are_inline_where_they_are_asked_for_raw(path: str, stream: bool) -> None:
    runtime = FakeRuntime(script=[[ReasoningDelta(0, "hm"), TextDelta(0, "a"), end()]])
    with client(runtime) as http:
        asked = {**CHAT, "reasoning_format": "none", "stream": stream}
        response = http.post(path, json=asked)

    if stream:
        lines = [line.removeprefix("data: ") for line in response.text.split("\n\n")[:-2]]
        parts = [json.loads(line)["choices"][0]["delta"] for line in lines]
    else:
        parts = [response.json()["choices"][0]["message"]]
    assert "".join(part.get("content", "") for part in parts) == "<think>hm</think>a"
    assert not any("reasoning" in part for part in parts)


def test_the_request_id_is_the_answers_id() -> None:
    with client() as http:
        response = http.post("/v1/chat/completions", json=CHAT, headers={"X-Request-Id": "my-1"})

    assert response.headers["x-request-id"] == "my-1"
    assert response.json()["id"] == "chatcmpl-my-1"
    assert int(response.headers["openai-processing-ms"]) >= 0
    assert response.headers["server-timing"] == (
        "queue;dur=250.0, prefill;dur=250.0, decode;dur=500.0"
    )


def test_a_client_may_shorten_its_own_deadline() -> None:
    runtime = FakeRuntime()
    with client(runtime, request_timeout=60) as http:
        http.post("/v1/chat/completions", json=CHAT, headers={"X-Request-Timeout": "5"})
        http.post("/v1/chat/completions", json=CHAT, headers={"X-Request-Timeout": "500"})

    assert [request.timeout for request in runtime.requests] == [5.0, 60.0]


def test_models_are_listed_with_what_is_known_of_them() -> None:
    with client() as http:
        listed = http.get("/v1/models").json()
        assert http.get("/v1/models/").json() == listed

    assert listed["object"] == "list"
    (model,) = listed["data"]
    assert model["id"] == "demo:latest"
    assert model["object"] == "model"
    assert model["created"] == 1_760_000_000
    assert model["max_model_len"] == 2048
    assert model["capabilities"] == ["completion", "tools", "thinking"]
    (permission,) = model["permission"]
    assert (permission["object"], permission["allow_sampling"]) == ("model_permission", True)


def test_a_model_that_is_not_loaded_has_no_context_of_its_own() -> None:
    with client(FakeRuntime(facts=None, state="unloaded")) as http:
        (model,) = http.get("/v1/models").json()["data"]

    assert model["max_model_len"] is None
    assert model["context_length"] == 2048


@pytest.mark.parametrize(
    "id", ["demo", "org/demo:latest", "org%2Fdemo:latest", "org%2Fdemo%3Alatest"]
)
def test_a_model_is_found_by_a_name_with_slashes_and_colons(id: str) -> None:
    with client() as http:
        response = http.get(f"/v1/models/{id}")

    assert response.status_code == 200
    assert response.json()["root"] == "demo:latest"


def test_an_unknown_model_has_no_page() -> None:
    with client() as http:
        assert http.get("/v1/models/nope").json()["error"]["code"] == ModelNotFound("").code


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/v1/images/generations", 501),
        ("POST", "/v1/moderations", 501),
        ("GET", "/openai/v1/nothing", 404),
    ],
)
def test_what_there_is_not_is_said_in_json(method: str, path: str, status: int) -> None:
    with client() as http:
        response = http.request(method, path)

    assert response.status_code == status
    assert response.json()["error"].keys() == {"message", "type", "param", "code"}
    if status == 405:
        assert response.headers["allow"]


def test_the_longest_body_is_a_setting() -> None:
    with client(max_body_bytes=1024) as http:
        response = http.post("/v1/chat/completions", json={**CHAT, "x": "y" * 2000})

    assert response.status_code == 413
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_the_names_of_thoughts_are_a_setting() -> None:
    runtime = FakeRuntime(script=[[ReasoningDelta(0, "hm"), TextDelta(0, "a"), end()]])
    with client(runtime, reasoning_fields="reasoning_content") as http:
        message = http.post("/v1/chat/completions", json=CHAT).json()["choices"][0]["message"]

    assert "reasoning" not in message
    assert message["reasoning_content"] == "hm"


@pytest.mark.parametrize("path", ["/v1/completions", "/vllm/v1/completions"])
def test_a_prompt_of_ids_is_echoed_as_the_text_that_they_are(path: str) -> None:
    prompts = [list(b"I say:"), list(b"You say:")]
    with client() as http:
        one = http.post(path, json={"prompt": prompts[0], "echo": True}).json()
        two = http.post(path, json={"prompt": prompts, "echo": True}).json()
        stream = http.post(path, json={"prompt": prompts[0], "echo": True, "stream": True}).text
        silent = http.post(path, json={"prompt": prompts[0]}).json()
        none = http.post(path, json={"prompt": [999], "echo": True})

    assert [choice["text"] for choice in one["choices"]] == ["I say:Hello there"]
    assert {choice["text"] for choice in two["choices"]} == {
        "I say:Hello there",
        "You say:Hello there",
    }
    assert json.loads(stream.split("\n\n")[0].removeprefix("data: "))["choices"][0]["text"] == (
        "I say:"
    )
    assert silent["choices"][0]["text"] == "Hello there"
    assert (none.status_code, none.json()["error"]["param"]) == (400, "prompt")


def test_the_scores_of_a_prompt_of_ids_are_asked_for_as_those_of_a_text() -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        for prompt in ("hi", list(b"hi")):
            body = {"prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 0}
            assert http.post("/v1/completions", json=body).status_code == 200

    assert [request.sampling.prompt_logprobs for request in runtime.requests] == [1, 1]
