from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.errors import EngineFailed, InvalidRequest, Overloaded, ServiceError
from service.events import (
    FinishReason,
    Logprob,
    PromptLogprobs,
    ReasoningDelta,
    TextDelta,
    TokenLogprobs,
    ToolCallDelta,
)
from service.generation import Chat
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime, Script, end, says

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL: Script = [
    [ToolCallDelta(0, 0, '{"a":7}', id="call_abc", name="add")],
    [end(reason=FinishReason.TOOL_CALLS)],
]


def said(token: int, text: str, index: int = 0) -> TextDelta:
    logprobs = (TokenLogprobs(Logprob(token, text.encode(), -0.5)),)
    return TextDelta(index, text, logprobs, 1, (token,))


HELLO: Script = [
    [TextDelta(0, "Hel", tokens=1, ids=(5,))],
    [TextDelta(0, "lo", tokens=1, ids=(6,)), TextDelta(0, "", tokens=1, ids=(2,))],
    [end()],
]


def client(runtime: FakeRuntime | None = None, **settings: Any) -> TestClient:
    app = create_app(Settings(**settings), (runtime or FakeRuntime()).make)
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def frames(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_a_chat_has_what_vllms_always_have() -> None:
    script: Script = [[ReasoningDelta(0, "hm"), TextDelta(0, "a"), end()]]
    runtime = FakeRuntime(script=script)
    with client(runtime) as http:
        body = http.post("/vllm/v1/chat/completions", json=CHAT).json()

    (choice,) = body["choices"]
    assert choice["message"]["reasoning"] == "hm"
    assert "reasoning_content" not in choice["message"]
    assert choice["stop_reason"] is None
    assert choice["token_ids"] is None
    for key in ("prompt_logprobs", "prompt_token_ids", "kv_transfer_params"):
        assert body[key] is None
    assert body["metrics"] == {
        "time_to_first_token_ms": 500.0,
        "generation_time_ms": 500.0,
        "queue_time_ms": 250.0,
        "mean_itl_ms": 250.0,
        "tokens_per_second": 4.0,
    }
    assert runtime.requests[0].dialect == "vllm"


def test_a_completion_has_them_too() -> None:
    with client(FakeRuntime(script=says("a", stop="END"))) as http:
        body = http.post("/vllm/v1/completions", json={"prompt": "hi"}).json()

    assert body["choices"][0]["stop_reason"] == "END"
    assert body["choices"][0]["token_ids"] is None


def test_calls_have_vllms_ids_whole_and_streamed() -> None:
    body = {**CHAT, "tools": [TOOL]}
    with client(FakeRuntime(script=CALL)) as http:
        whole = http.post("/vllm/v1/chat/completions", json=body).json()
        chunks = frames(http.post("/vllm/v1/chat/completions", json={**body, "stream": True}).text)

    assert whole["choices"][0]["message"]["tool_calls"][0]["id"] == "chatcmpl-tool-abc"
    (call,) = [c for x in chunks[:-1] for c in x["choices"][0]["delta"].get("tool_calls", [])]
    assert call["id"] == "chatcmpl-tool-abc"


def test_a_streams_end_says_that_no_stop_string_ended_it() -> None:
    with client() as http:
        *_, last, done = frames(
            http.post("/vllm/v1/chat/completions", json={**CHAT, "stream": True}).text
        )

    assert done == "[DONE]"
    assert last["choices"][0]["stop_reason"] is None


@pytest.mark.parametrize("prefix", ["", "/vllm"])
def test_ids_of_prompt_and_answer_come_where_they_are_asked_for(prefix: str) -> None:
    with client(FakeRuntime(script=HELLO)) as http:
        body = {**CHAT, "return_token_ids": True}
        whole = http.post(f"{prefix}/v1/chat/completions", json=body).json()
        text = http.post(f"{prefix}/v1/chat/completions", json={**body, "stream": True}).text

    assert whole["prompt_token_ids"] == [0, 1, 2, 3, 4, 5, 6]
    assert whole["choices"][0]["token_ids"] == [5, 6, 2]
    assert whole["choices"][0]["logprobs"] is None
    *chunks, _ = frames(text)
    assert chunks[0]["prompt_token_ids"] == [0, 1, 2, 3, 4, 5, 6]
    assert all("prompt_token_ids" not in chunk for chunk in chunks[1:])
    assert [id for chunk in chunks for id in chunk["choices"][0]["token_ids"]] == [5, 6, 2]
    assert all(chunk["choices"][0]["logprobs"] is None for chunk in chunks)


@pytest.mark.parametrize("prefix", ["", "/vllm"])
def test_ids_of_several_prompts_come_with_their_choices(prefix: str) -> None:
    with client(FakeRuntime(script=HELLO)) as http:
        body = {"prompt": ["hi", "ho"], "return_token_ids": True}
        whole = http.post(f"{prefix}/v1/completions", json=body).json()
        text = http.post(
            f"{prefix}/v1/completions", json={**body, "prompt": "hi", "stream": True}
        ).text

    for choice in whole["choices"]:
        assert choice["prompt_token_ids"] == [0, 1, 2, 3, 4, 5, 6]
        assert choice["token_ids"] == [5, 6, 2]
    *chunks, _ = frames(text)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice.get("prompt_token_ids") for choice in choices] == [
        [0, 1, 2, 3, 4, 5, 6], None, None, None,
    ]  # fmt: skip
    assert [id for choice in choices for id in choice["token_ids"]] == [5, 6, 2]


def test_likelihoods_and_ids_may_both_be_wanted() -> None:
    script: Script = [[said(5, "Hel")], [said(6, "lo")], [TextDelta(0, "", ids=(2,)), end()]]
    with client(FakeRuntime(script=script)) as http:
        body = {**CHAT, "return_token_ids": True, "logprobs": True}
        (choice,) = http.post("/v1/chat/completions", json=body).json()["choices"]

    assert len(choice["logprobs"]["content"]) == 2
    assert choice["token_ids"] == [5, 6, 2]


def test_a_request_may_bring_its_id_in_its_body() -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        response = http.post("/vllm/v1/chat/completions", json={**CHAT, "request_id": "mine"})
        wrong = http.post("/vllm/v1/chat/completions", json={**CHAT, "request_id": "no id"})

    assert response.json()["id"] == "chatcmpl-mine"
    assert response.headers["x-request-id"] == "mine"
    assert runtime.requests[0].id == "mine"
    assert wrong.json()["error"]["param"] == "request_id"


def test_the_headers_priority_comes_before_the_bodys() -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        response = http.post(
            "/vllm/v1/chat/completions",
            json={**CHAT, "priority": 3, "cache_salt": "x"},
            headers={"X-Vllm-Priority": "-1"},
        )
        wrong = http.post(
            "/vllm/v1/chat/completions", json=CHAT, headers={"X-Vllm-Priority": "high"}
        )

    assert "x-ignored-params" not in response.headers
    assert (runtime.requests[0].priority, runtime.requests[0].cache_salt) == (-1, "x")
    assert wrong.status_code == 400


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidRequest("no", param="x"), 400, "BadRequestError"),
        (Overloaded("full"), 503, "ServiceUnavailableError"),
        (EngineFailed("it died"), 500, "InternalServerError"),
    ],
)
def test_a_failures_code_is_its_status(error: ServiceError, status: int, kind: str) -> None:
    with client(FakeRuntime(script=error)) as http:
        response = http.post("/vllm/v1/chat/completions", json=CHAT)

    assert response.status_code == status
    assert response.json()["error"] == {
        "message": error.message,
        "type": kind,
        "param": error.param,
        "code": status,
    }


def test_a_model_that_nobody_has_is_not_found() -> None:
    with client() as http:
        response = http.post("/vllm/v1/chat/completions", json={**CHAT, "model": "nope"})

    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("NotFoundError", "model", 404)


def test_a_stream_that_breaks_says_so_in_vllms_shape() -> None:
    script: Script = [
        [TextDelta(0, "a")],
        [end(reason=FinishReason.ERROR, error="it died", code="engine_failed")],
    ]
    with client(FakeRuntime(script=script)) as http:
        for path, body in (("chat/completions", CHAT), ("completions", {"prompt": "x"})):
            response = http.post(f"/vllm/v1/{path}", json={**body, "stream": True})
            *_, error, done = frames(response.text)
            assert done == "[DONE]"
            assert error["error"]["code"] == 500


def test_a_body_that_is_not_called_json_is_refused() -> None:
    with client() as http:
        content = json.dumps(CHAT)
        strict = http.post("/vllm/v1/chat/completions", content=content)
        plain = http.post("/v1/chat/completions", content=content)

    assert strict.status_code == 400
    assert strict.json()["error"]["code"] == 400
    assert plain.status_code == 200


def test_models_are_listed_as_vllm_lists_them() -> None:
    with client() as http:
        (model,) = http.get("/vllm/v1/models").json()["data"]

    assert model["owned_by"] == "vllm"
    assert model["max_model_len"] == 2048
    (permission,) = model["permission"]
    assert permission["id"].startswith("modelperm-")
    assert permission["allow_sampling"] is True


def test_a_prompts_likelihoods_are_by_id_with_rank_and_text() -> None:
    top = (Logprob(9, b"x", -0.1), Logprob(8, b"y", -2.0))
    scores = (None, TokenLogprobs(Logprob(8, b"y", -2.0), top))
    script: Script = [[PromptLogprobs(0, scores)], *says("a")]
    with client(FakeRuntime(script=script)) as http:
        body = {**CHAT, "prompt_logprobs": 2}
        found = http.post("/vllm/v1/chat/completions", json=body).json()["prompt_logprobs"]

    assert found == [
        None,
        {
            "8": {"logprob": -2.0, "rank": 2, "decoded_token": "y"},
            "9": {"logprob": -0.1, "rank": 1, "decoded_token": "x"},
        },
    ]


def test_several_conversations_have_a_choice_each() -> None:
    runtime = FakeRuntime(script=says("a", "b"))
    body = {"messages": [CHAT["messages"], CHAT["messages"]], "frob": 1}
    with client(runtime) as http:
        response = http.post("/v1/chat/completions/batch", json=body)

    answer = response.json()
    assert [(c["index"], c["message"]["content"]) for c in answer["choices"]] == [
        (0, "ab"),
        (1, "ab"),
    ]
    assert answer["usage"]["prompt_tokens"] == 14
    assert response.headers["x-ignored-params"] == "frob"
    assert len(runtime.requests) == 2


def test_a_batchs_thoughts_are_inline_where_they_are_asked_for_raw() -> None:
    runtime = FakeRuntime(script=[[ReasoningDelta(0, "hm"), TextDelta(0, "a")], [end()]])
    body = {"messages": [CHAT["messages"]] * 2, "reasoning_format": "none"}
    with client(runtime) as http:
        choices = http.post("/v1/chat/completions/batch", json=body).json()["choices"]

    assert [choice["message"]["content"] for choice in choices] == ["<think>hm</think>a"] * 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": CHAT["messages"]}, "messages.0"),
        ({"messages": [[]]}, "messages"),
        ({"messages": [CHAT["messages"]], "stream": True}, "stream"),
        ({"messages": [CHAT["messages"]], "tools": [TOOL]}, "tools"),
        ({"messages": [CHAT["messages"]], "n": 2}, "n"),
    ],
)
def test_what_a_batch_cannot_be_is_refused(body: dict[str, Any], param: str) -> None:
    with client() as http:
        response = http.post("/vllm/v1/chat/completions/batch", json=body)

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("body", "object"),
    [
        (CHAT, "chat.completion"),
        ({"prompt": "x"}, "text_completion"),
        ({"input": "x"}, "list"),
        ({"text_1": "a b", "text_2": "a b"}, "list"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/vllm"])
def test_sagemakers_path_takes_whatever_is_in_the_body(
    prefix: str, body: dict[str, Any], object: str
) -> None:
    with client() as http:
        assert http.post(f"{prefix}/invocations", json=body).json()["object"] == object
        assert http.post(f"{prefix}/invocations", json={"x": 1}).status_code == 400


def test_sagemakers_path_takes_tgis_requests_at_the_root() -> None:
    with client(FakeRuntime(script=HELLO)) as http:
        assert http.post("/invocations", json={"inputs": "x"}).json() == [
            {"generated_text": "Hello"}
        ]
        wrong = http.post("/invocations", json={"inputs": ""})

    assert wrong.status_code == 422
    assert wrong.json()["error_type"] == "validation"


def test_what_the_file_says_of_the_tokenizer() -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        loaded = http.get("/vllm/tokenizer_info").json()
        runtime.facts = None
        unloaded = http.get("/tokenizer_info").json()
        wrong = http.get("/tokenizer_info?model=none")

    assert loaded["vocab_size"] > 0
    assert {"bos_token", "eos_token", "tokenizer_class"} <= loaded.keys()
    assert "bos_token" not in unloaded
    assert wrong.status_code == 404


def test_a_response_is_made_kept_and_continued() -> None:
    runtime = FakeRuntime(script=HELLO)
    with client(runtime) as http:
        first = http.post("/vllm/v1/responses", json={"input": "hi"}).json()
        kept = http.get(f"/vllm/v1/responses/{first['id']}").json()
        asked = {"input": "and?", "previous_response_id": first["id"], "stream": True}
        streamed = http.post("/vllm/v1/responses", json=asked).text
        scrape = http.get("/metrics").text

    assert first["status"] == "completed"
    assert first["output"][0]["content"][0]["text"] == "Hello"
    assert kept == first
    assert "event: response.completed" in streamed
    assert runtime.requests[-1].dialect == "vllm"
    chat = runtime.requests[-1].input
    assert isinstance(chat, Chat)
    assert [message.role for message in chat.messages] == ["user", "assistant", "user"]
    assert 'llm_requests_total{api="vllm",code="200",endpoint="/v1/responses"' in scrape


def test_anthropics_messages_are_answered_as_anthropic_words_them() -> None:
    with client(FakeRuntime(script=HELLO)) as http:
        message = http.post("/vllm/v1/messages", json={**CHAT, "max_tokens": 5}).json()
        refused = http.post("/vllm/v1/messages", json=CHAT)

    assert message["content"][0]["text"] == "Hello"
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert refused.json()["type"] == "error"


def test_a_response_without_input_is_refused_in_vllms_words() -> None:
    with client() as http:
        refused = http.post("/vllm/v1/responses", json={"input": 5})

    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == 400


@pytest.mark.parametrize("prefix", ["", "/vllm"])
def test_the_prompts_text_comes_where_it_is_asked_for(prefix: str) -> None:
    path, asked = f"{prefix}/v1/chat/completions", {**CHAT, "return_prompt_text": True}
    with client() as http:
        whole = http.post(path, json=asked).json()
        plain = http.post(path, json=CHAT).json()
        stream = http.post(path, json={**asked, "stream": True}).text
        batch = http.post(f"{path}/batch", json={**asked, "messages": [CHAT["messages"]]})

    first, *rest = [line.removeprefix("data: ") for line in stream.split("\n\n")[:-2]]
    assert whole["prompt_text"] == json.loads(first)["prompt_text"] == "<user>hi"
    assert not any("prompt_text" in chunk for chunk in rest)
    assert plain.get("prompt_text") is None
    assert batch.headers["x-ignored-params"] == "return_prompt_text"
