from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from msgspec.structs import replace
from starlette.testclient import TestClient

from service.app import create_app
from service.errors import ContextOverflow, InvalidRequest, Overloaded
from service.generation import Text, Tokens
from service.serving.runtime import Progress
from service.settings import Settings
from tests.dialects.fakes import FACTS, FakeRuntime, says


def client(runtime: FakeRuntime | None = None, **settings: Any) -> TestClient:
    app = create_app(Settings(**settings), (runtime or FakeRuntime()).make)
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


@pytest.mark.parametrize(
    "path", ["/completion", "/llama-server/completion", "/llama-server/completions"]
)
def test_a_completion(path: str) -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        body = http.post(path, json={"prompt": "hi", "n_predict": 4}).json()

    assert (body["content"], body["stop"], body["prompt"]) == ("Hello there", True, "hi")
    assert (body["model"], body["tokens_evaluated"]) == ("demo:latest", 7)
    assert runtime.requests[0].input == Text("hi")


@pytest.mark.parametrize("version", ["", "/v1"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("/chat/completions/input_tokens", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("/responses", {"input": "Hi"}),
        ("/responses/input_tokens", {"input": "Hi"}),
    ],
)
def test_under_its_prefix_paths_are_there_with_and_without_their_version(
    version: str, path: str, body: dict[str, Any]
) -> None:
    with client() as http:
        response = http.post(f"/llama-server{version}{path}", json=body)

    assert response.status_code == 200


def test_under_its_prefix_anthropics_messages_are_there_too() -> None:
    with client() as http:
        messages = [{"role": "user", "content": "Hi"}]
        response = http.post("/llama-server/v1/messages/count_tokens", json={"messages": messages})

    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/llama-server/health", "/llama-server/v1/health"])
def test_its_health_is_one_word(path: str) -> None:
    with client() as http:
        assert http.get(path).json() == {"status": "ok"}


def test_a_stream_has_no_word_for_its_end_but_its_last_chunk() -> None:
    with client() as http:
        response = http.post("/completion", json={"prompt": "hi", "stream": True})

    lines = response.text.split("\n\n")[:-1]
    parsed = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert [chunk["content"] for chunk in parsed] == ["Hello", " there", ""]
    assert [chunk["stop"] for chunk in parsed] == [False, False, True]


def test_several_prompts_are_answered_in_their_order() -> None:
    runtime = FakeRuntime(script=lambda request: says(str(request.input)))
    with client(runtime) as http:
        bodies = http.post("/completion", json={"prompt": ["a", [66, "b"]]}).json()

    assert [body["index"] for body in bodies] == [0, 1]
    assert [body["prompt"] for body in bodies] == ["a", "Bb"]
    assert [request.input for request in runtime.requests] == [Text("a"), Tokens((66, 98))]


def test_the_bias_of_a_word_is_that_of_its_tokens() -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        http.post("/completion", json={"prompt": "hi", "logit_bias": [["ab", -2], [97, 1]]})

    assert runtime.requests[0].sampling.logit_bias == {97: 1.0, 98: -2.0}


def test_an_infilling_is_put_together_by_the_model() -> None:
    runtime = FakeRuntime()
    extra = [{"filename": "a", "text": "c"}]
    body = {"input_prefix": "a", "input_suffix": "b", "input_extra": extra, "prompt": "d"}
    with client(runtime) as http:
        assert http.post("/infill", json=body).json()["content"] == "Hello there"

    assert runtime.requests[0].input == Text("\n\n--- snippet ---\n\nc<PRE>a<SUF>b<MID>d")


def test_a_model_that_cannot_fill_in_says_so() -> None:
    runtime = FakeRuntime(refuses=InvalidRequest("This model cannot fill in text.", param="suffix"))
    with client(runtime) as http:
        response = http.post("/infill", json={"input_prefix": "a", "input_suffix": "b"})

    assert response.status_code == 400
    assert response.json()["error"]["message"] == "This model cannot fill in text."


def test_a_template_is_applied_without_an_answer() -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        body = {"messages": [{"role": "user", "content": "hi"}]}
        assert http.post("/apply-template", json=body).json() == {"prompt": "<user>hi"}

    assert runtime.requests == []


@pytest.mark.parametrize("path", ["/embedding", "/embeddings", "/llama-server/embedding"])
@pytest.mark.parametrize("key", ["content", "input"])
def test_vectors_are_lists_in_lists(path: str, key: str) -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        body = http.post(path, json={key: ["hi there", "x"], "embd_normalize": -1}).json()

    assert body == [
        {"index": 0, "embedding": [[8.0, 2.0]]},
        {"index": 1, "embedding": [[1.0, 1.0]]},
    ]
    assert runtime.embedded[0].normalize is False


@pytest.mark.parametrize(
    ("wire", "tokens"),
    [
        ({"content": "ab"}, [97, 98]),
        ({"content": ["a", 5]}, [97, 5]),
        ({"content": "ab", "with_pieces": True}, [{"id": 97, "piece": "a"},
                                                  {"id": 98, "piece": "b"}]),
        ({"content": [99], "with_pieces": True}, [{"id": 99, "piece": "c"}]),
    ],
)  # fmt: skip
def test_tokens(wire: dict[str, Any], tokens: list[Any]) -> None:
    with client() as http:
        response = http.post("/llama-server/tokenize", json=wire)
        back = http.post("/llama-server/detokenize", json={"tokens": [97, 98]})

    assert response.json() == {"tokens": tokens}
    assert back.json() == {"content": "ab"}


def test_a_loaded_model_shows_its_properties() -> None:
    with client() as http:
        body = http.get("/props").json()

    assert body["total_slots"] == FACTS.n_seq
    assert body["default_generation_settings"]["n_ctx"] == FACTS.n_ctx_seq
    assert body["default_generation_settings"]["params"]["temperature"] == 0.8
    assert (body["bos_token"], body["model_path"]) == ("<s>", "demo.gguf")
    assert body["modalities"] == {"vision": False, "audio": False}


def test_an_unloaded_model_has_no_slots() -> None:
    with client(FakeRuntime(facts=None, state="unloaded")) as http:
        props = http.get("/props").json()
        assert http.get("/slots").json() == []

    assert "total_slots" not in props
    assert props["is_sleeping"] is True


def busy(id: str) -> Progress:
    return Progress(id, "demo:latest", "openai", "/", "generating", 0.0, 0.0, generated_tokens=5)


def test_slots_show_how_many_are_busy() -> None:
    runtime = FakeRuntime(
        known={"a": busy("a"), "b": dataclasses.replace(busy("b"), state="queued")}
    )
    with client(runtime) as http:
        slots = http.get("/slots").json()
        assert http.get("/slots?fail_on_no_slot=1").status_code == 200

    assert [slot["is_processing"] for slot in slots] == [True, False, False, False]
    assert (slots[0]["id_task"], slots[0]["next_token"]) == ("a", [{"n_decoded": 5}])
    assert slots[1] == {"id": 1, "n_ctx": 2048, "is_processing": False}


def test_no_free_slot_is_a_status_where_that_is_asked_for() -> None:
    runtime = FakeRuntime(known={"a": busy("a")}, facts=replace(FACTS, n_seq=1))
    with client(runtime) as http:
        response = http.get("/slots?fail_on_no_slot=1")

    assert response.status_code == 503
    assert response.json()["error"]["type"] == "unavailable_error"


def test_models_and_what_they_do() -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        (model,) = http.get("/models").json()["data"]
        assert http.post("/models/load", json={"model": "demo"}).json() == {"success": True}
        assert http.post("/models/unload", json={"model": "demo"}).json() == {"success": True}
        assert http.get("/running").json()["running"][0]["model"] == "demo:latest"
        assert http.post("/api/models/unload/org/demo:latest").text == "OK"
        assert http.post("/api/models/unload").text == "OK"

    assert (model["id"], model["status"]) == ("demo:latest", {"value": "loaded"})
    assert runtime.loads == [("demo", None)]
    assert runtime.unloads == ["demo", "org/demo:latest", "demo:latest"]


def test_a_model_that_is_not_loaded_does_not_run() -> None:
    with client(FakeRuntime(facts=None, state="unloaded")) as http:
        assert http.get("/running").json() == {"running": []}
        (model,) = http.get("/models").json()["data"]

    assert model["status"] == {"value": "unloaded"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/props", 501),
        ("POST", "/slots/0?action=save", 501),
        ("POST", "/lora-adapters", 400),
        ("GET", "/completion", 405),
        ("GET", "/llama-server/nothing", 404),
    ],
)
def test_what_there_is_not_is_said_in_llama_servers_shape(
    method: str, path: str, status: int
) -> None:
    with client() as http:
        assert http.get("/lora-adapters").json() == []
        response = http.request(method, path)

    assert response.status_code == status
    assert response.json()["error"].keys() == {"code", "message", "type"}
    assert response.json()["error"]["code"] == status


@pytest.mark.parametrize(
    ("runtime", "body", "status", "kind"),
    [
        (FakeRuntime(), {"prompt": "x", "model": "nope"}, 404, "not_found_error"),
        (FakeRuntime(), {"prompt": 1}, 400, "invalid_request_error"),
        (FakeRuntime(script=ContextOverflow(9, 8, 0)), {"prompt": "x"}, 400,
         "exceed_context_size_error"),
        (FakeRuntime(script=Overloaded("full")), {"prompt": "x"}, 429, "unavailable_error"),
    ],
)  # fmt: skip
def test_failures_have_a_status(
    runtime: FakeRuntime, body: dict[str, Any], status: int, kind: str
) -> None:
    with client(runtime) as http:
        response = http.post("/completion", json=body)

    assert (response.status_code, response.json()["error"]["type"]) == (status, kind)


def test_parameters_without_effect_are_named() -> None:
    body = {"prompt": "x", "samplers": ["top_k"], "cache_prompt": False, "n_keep": 0, "zz": 1}
    with client() as http:
        response = http.post("/completion", json=body)

    assert response.headers["x-ignored-params"] == "samplers, zz"


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [
        ("POST", "/v1/chat/completions/control", "reasoning_budget_tokens"),
        ("POST", "/llama-server/chat/completions/control", "reasoning_budget_tokens"),
        ("GET", "/logs", "standard error"),
        ("GET", "/logs/stream", "standard error"),
    ],
)
def test_what_there_is_not_is_told_with_the_reason(method: str, path: str, reason: str) -> None:
    with client() as http:
        response = http.request(method, path, json={} if method == "POST" else None)

    assert response.status_code == 501
    assert response.json()["error"]["type"] == "not_supported_error"
    assert reason in response.json()["error"]["message"]
