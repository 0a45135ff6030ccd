from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from service.app import VERSION
from service.catalog.demo import PATH
from service.errors import EngineFailed, ModelLoadFailed, Overloaded, ServiceError
from service.events import FinishReason, ReasoningDelta, TextDelta
from service.fleet.residency import AS_IT_IS
from service.generation import Chat, Infill, LoadWishes, Text, Tokens
from service.settings import Settings
from tests.dialects.fakes import CARD, FACTS, FakeRuntime, Script, end, says
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


# ---- models


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/api/chat", {"messages": []}, 400, "model is required"),
        ("/api/generate", {"prompt": "x"}, 404, "model '' not found"),
        ("/api/generate", {"model": "gpt-4o"}, 404, "model 'gpt-4o' not found"),
        ("/api/chat", {"model": "gpt-4o"}, 404, "model 'gpt-4o' not found"),
        ("/api/chat", {"model": "a b:"}, 400, "invalid model name"),
        ("/api/show", {}, 400, "model is required"),
        ("/api/show", {"name": "nope"}, 404, "model 'nope' not found"),
        ("/api/embed", {"input": "x"}, 404, "model '' not found"),
        ("/api/embed", {"model": "no", "input": "x"}, 404,
         'model "no" not found, try pulling it first'),
        ("/api/embeddings", {"prompt": "x"}, 400, "model is required"),
        ("/api/embeddings", {"model": "no"}, 404, 'model "no" not found, try pulling it first'),
    ],
)  # fmt: skip
def test_a_model_that_nobody_has_is_missed_in_ollamas_words(
    path: str, body: dict[str, Any], status: int, error: str
) -> None:
    response = post(path, body)

    assert (response.status_code, response.json()) == (status, {"error": error})


def test_models_are_listed_and_head_is_enough() -> None:
    with client() as http:
        (model,) = http.get("/api/tags").json()["models"]
        (loaded,) = http.get("/api/ps").json()["models"]
        assert http.head("/api/tags").status_code == http.head("/api/version").status_code == 200

    assert model["name"] == loaded["name"] == "demo:latest"
    assert set(model["capabilities"]) == {"completion", "tools", "thinking"}


def test_a_model_is_shown_under_either_name_of_the_field() -> None:
    runtime = FakeRuntime()
    card = replace(CARD, path=str(PATH))
    runtime.resolve = lambda name: card  # type: ignore[method-assign]
    with client(runtime) as http:
        shown = http.post("/api/show", json={"model": "demo"}).json()
        assert http.post("/api/show", json={"name": "demo"}).json() == shown
        verbose = http.post("/api/show", json={"model": "demo", "verbose": True}).json()
        copilot = {"User-Agent": "GitHubCopilotChat/0.30"}
        named = http.post("/api/show", json={"model": "my-demo"}, headers=copilot).json()

    assert shown["model_info"]["general.architecture"] == "llama"
    assert "general.basename" not in shown["model_info"]
    assert len(verbose["model_info"]["tokenizer.ggml.tokens"]) > 100
    assert named["model_info"]["general.basename"] == "my-demo"


def test_a_file_that_is_gone_is_an_error_without_its_path() -> None:
    response = post("/api/show", {"model": "demo"})

    assert response.status_code == 500
    assert "/models" not in response.text


def test_the_version_is_one_that_clients_can_compare() -> None:
    with client(ollama_compat_version="0.40.1") as http:
        response = http.get("/api/version")
        assert http.get("/api/status").json()["cloud"]["disabled"] is True

    assert response.json() == {"version": "0.40.1"}
    assert response.headers["x-server-version"] == VERSION
    default = Settings().ollama_compat_version
    assert all(part.isdigit() for part in default.split("."))


@pytest.mark.parametrize("version", ["latest", "0.33.2-rc1", "1", "v1.2"])
def test_a_version_that_clients_cannot_compare_stops_the_start(version: str) -> None:
    with pytest.raises(ValueError, match="ollama_compat_version"):
        Settings(ollama_compat_version=version)


# ---- loading and unloading


@pytest.mark.parametrize(
    ("path", "empty"),
    [("/api/chat", {"message": {"role": "assistant", "content": ""}}), ("/api/generate", {"response": ""})],
)  # fmt: skip
def test_an_empty_prompt_loads_the_model_or_unloads_it(path: str, empty: dict[str, Any]) -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        loaded = http.post(path, json={"model": "demo", "keep_alive": "1h"})
        unloaded = http.post(path, json={"model": "demo", "keep_alive": 0})

    assert runtime.loads == [("demo", 3600.0)]
    assert runtime.unloads == ["demo"]
    assert runtime.requests == []
    for response, word in ((loaded, "load"), (unloaded, "unload")):
        assert response.headers["content-type"].startswith("application/json")
        body = response.json()
        assert body.pop("created_at").endswith("Z")
        assert body == {"model": "demo", **empty, "done": True, "done_reason": word}


@pytest.mark.parametrize(
    ("value", "seconds"), [(0, 0.0), (-1, -1.0), ("5m", 300.0), ("-1", -1.0), (None, None)]
)
def test_a_request_says_how_long_its_model_stays(value: Any, seconds: float | None) -> None:
    runtime = FakeRuntime()
    post("/api/generate", {**GENERATE, "keep_alive": value}, runtime)

    assert runtime.requests[0].keep_alive == seconds


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


# ---- prompts of /api/generate


def test_raw_text_is_taken_as_it_is_and_leaves_no_context() -> None:
    runtime = FakeRuntime()
    body = whole("/api/generate", {**GENERATE, "raw": True}, runtime)

    assert runtime.requests[0].input == Text("hi")
    assert "context" not in body


def test_a_gap_is_filled_by_a_model_that_can() -> None:
    runtime = FakeRuntime(able_to=frozenset({"completion", "insert"}))
    body = {**GENERATE, "suffix": "!", "system": "s", "context": [1], "stream": False}
    response = post("/api/generate", body, runtime)

    assert runtime.requests[0].input == Infill("hi", "!")
    assert response.headers["x-ignored-params"] == "system, context"


def test_only_a_loaded_model_says_whether_it_fills_gaps() -> None:
    class Late(FakeRuntime):
        async def load(
            self, model: str, keep_alive: float | None = None, wishes: LoadWishes = AS_IT_IS
        ) -> Any:
            self.able_to |= {"insert"}
            return await super().load(model, keep_alive, wishes)

    runtime = Late()

    assert post("/api/generate", {**GENERATE, "suffix": "!"}, runtime).status_code == 200
    assert runtime.loads == [("demo", None)]


def test_a_context_goes_before_the_prompt_and_comes_back_longer() -> None:
    runtime = FakeRuntime(script=[[TextDelta(0, "a", ids=(65,)), end()]])
    first = whole("/api/generate", GENERATE, runtime)
    whole("/api/generate", {**GENERATE, "context": first["context"]}, runtime)
    again = runtime.requests[1].input

    assert first["context"] == [*range(7), 65]
    assert again == Tokens((*first["context"], *b"<user>hi"))


def test_a_context_is_not_begun_twice() -> None:
    runtime = FakeRuntime()
    body = {"model": "demo", "template": "</s>{{ .Prompt }}", "prompt": "x", "context": [7]}
    runtime.facts = replace(FACTS, bos="<")
    post("/api/generate", {**body, "template": "<{{ .Prompt }}"}, runtime)

    assert runtime.requests[0].input == Tokens((7, *b"x"))


def test_thoughts_after_a_context_are_found_all_the_same() -> None:
    template = "<think>{{ messages }}</think>"
    pieces = ["<th", "ink>hm</thi", "nk>o", "k"]
    runtime = FakeRuntime(script=says(*pieces), facts=replace(FACTS, chat_template=template))
    body = whole("/api/generate", {**GENERATE, "context": [1], "think": True}, runtime)

    assert (body["thinking"], body["response"]) == ("hm", "ok")


@pytest.mark.parametrize(
    ("path", "body", "prompt"),
    [
        ("/api/chat", CHAT, "<user>hi"),
        ("/api/generate", GENERATE, "<user>hi"),
        ("/api/generate", {**GENERATE, "system": "s"}, "<system>s<user>hi"),
        ("/api/generate", {**GENERATE, "raw": True}, "hi"),
        ("/api/generate", {**GENERATE, "template": "[{{ .Prompt }}]"}, "[hi]"),
        ("/api/generate", {**GENERATE, "context": [72, 111]}, "Ho<user>hi"),
    ],
)
def test_a_prompt_can_be_seen_without_an_answer(
    path: str, body: dict[str, Any], prompt: str
) -> None:
    runtime = FakeRuntime()
    response = post(path, {**body, "_debug_render_only": True}, runtime)

    assert response.json()["_debug_info"] == {"rendered_template": prompt, "image_count": 0}
    assert runtime.requests == []


# ---- failures


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (Overloaded("full", retry_after=2.0), 503,
         "server busy, please try again.  maximum pending requests exceeded"),
        (ModelLoadFailed("It needs 9 GiB."), 500, "It needs 9 GiB."),
        (EngineFailed("It broke."), 500, "It broke."),
    ],
)  # fmt: skip
def test_what_fails_before_an_answer_has_a_status_of_ollamas(
    error: ServiceError, status: int, words: str
) -> None:
    response = post("/api/chat", CHAT, FakeRuntime(script=error))

    assert (response.status_code, response.json()) == (status, {"error": words})
    assert response.headers["content-type"].startswith("application/json")


def failing(*before: Any) -> FakeRuntime:
    broken = end(reason=FinishReason.ERROR, error="It broke.", code="engine_failed")
    return FakeRuntime(script=[*before, [broken]])


@pytest.mark.parametrize("stream", [True, False])
def test_what_fails_before_the_first_word_has_a_status_too(stream: bool) -> None:
    response = post("/api/chat", {**CHAT, "stream": stream}, failing())

    assert (response.status_code, response.json()) == (500, {"error": "It broke."})
    assert response.headers["content-type"].startswith("application/json")


def test_what_fails_later_is_the_last_line() -> None:
    response = post("/api/chat", CHAT, failing([TextDelta(0, "a")]))

    assert response.status_code == 200
    assert lines(response)[-1] == {"error": "It broke."}
    assert "done_reason" not in response.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/pull", 400),
        ("POST", "/api/push", 400),
        ("POST", "/api/create", 400),
        ("POST", "/api/copy", 400),
        ("DELETE", "/api/delete", 403),
        ("HEAD", "/api/blobs/sha256:00", 400),
        ("POST", "/api/blobs/sha256:00", 400),
        ("POST", "/api/me", 401),
        ("POST", "/api/signout", 401),
        ("POST", "/api/experimental/web_search", 404),
        ("GET", "/api/chat", 405),
        ("GET", "/ollama/api/nothing", 404),
    ],
)
def test_what_there_is_not_is_said_in_ollamas_shape(method: str, path: str, status: int) -> None:
    with client() as http:
        response = http.request(
            method, path, json={"model": "demo"} if method == "DELETE" else None
        )

    assert response.status_code == status
    if method != "HEAD":
        assert list(response.json()) == ["error"]
    if status == 405:
        assert response.headers["allow"] == "POST"


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
