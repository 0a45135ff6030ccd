"""OpenAI's chats and completions as TGI has them."""

from __future__ import annotations

from typing import Any

import pytest

from service.events import (
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from tests.dialects.fakes import FakeRuntime, Script, end, says
from tests.dialects.tgi.serving import CHAT, client, frames

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL: Script = [
    [ToolCallDelta(0, 0, id="call_1", name="add")],
    [ToolCallDelta(0, 0, '{"a":')],
    [ToolCallDelta(0, 0, "7}")],
    [end(reason=FinishReason.TOOL_CALLS)],
]


def test_a_chat_has_tgis_shape() -> None:
    runtime = FakeRuntime(script=says("Hello", stop="END"))
    with client(runtime) as http:
        body = http.post(
            "/tgi/v1/chat/completions", json={**CHAT, "model": "dummy", "stop": ["END"]}
        ).json()

    created = body.pop("created")
    assert created > 1_700_000_000
    assert body == {
        "id": "",
        "object": "chat.completion",
        "model": "demo:latest",
        "system_fingerprint": "3.3.6-native",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "logprobs": None,
                "finish_reason": "stop_sequence",
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
    }
    assert runtime.requests[0].sampling.include_stop


def test_every_delta_of_a_chat_has_its_role() -> None:
    script: Script = [[ReasoningDelta(0, "hm")], [TextDelta(0, "a")], [end()]]
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    with client(FakeRuntime(script=script)) as http:
        *chunks, usage, done = frames(http.post("/tgi/v1/chat/completions", json=body).text)

    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 10
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [
        {"role": "assistant", "content": "", "reasoning": "hm", "reasoning_content": "hm"},
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": ""},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]
    assert all(chunk["usage"] is None for chunk in chunks)


def test_every_part_of_a_call_has_its_id_and_type() -> None:
    with client(FakeRuntime(script=CALL)) as http:
        body = {**CHAT, "tools": [TOOL], "stream": True}
        *chunks, _, _ = frames(http.post("/tgi/v1/chat/completions", json=body).text)
        message = http.post("/tgi/v1/chat/completions", json={**CHAT, "tools": [TOOL]}).json()[
            "choices"
        ][0]["message"]

    calls = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in chunks]
    assert {(call["id"], call["type"], call["index"]) for call in calls} == {
        ("call_1", "function", 0)
    }
    assert [call["function"] for call in calls] == [
        {"name": "add", "arguments": ""},
        {"name": None, "arguments": '{"a":'},
        {"name": None, "arguments": "7}"},
    ]
    assert message["tool_calls"][0]["function"] == {
        "description": None,
        "name": "add",
        "arguments": '{"a":7}',
    }


def test_a_grammar_and_tools_exclude_each_other() -> None:
    body = {**CHAT, "tools": [TOOL], "response_format": {"type": "json_object"}}
    with client() as http:
        response = http.post("/tgi/v1/chat/completions", json=body)

    assert response.status_code == 422
    assert response.json()["error_type"] == "tool_error"
    assert "Grammar and tools are mutually exclusive" in response.json()["error"]


def test_the_hubs_word_for_a_schema_is_understood() -> None:
    runtime = FakeRuntime()
    value = {"type": "object", "properties": {"a": {"type": "integer"}}}
    with client(runtime) as http:
        for prefix in ("", "/tgi"):
            body = {**CHAT, "response_format": {"type": "json_object", "value": value}}
            assert http.post(f"{prefix}/v1/chat/completions", json=body).status_code == 200

    assert [request.response_format.schema for request in runtime.requests] == [value, value]


def test_completions_say_nothing_of_their_end_until_it_comes() -> None:
    with client(FakeRuntime(script=says("a", "b"))) as http:
        body = {"prompt": "hi", "stream": True}
        *chunks, last, done = frames(http.post("/tgi/v1/completions", json=body).text)
        whole = http.post("/tgi/v1/completions", json={"prompt": ["hi", "ho"]}).json()

    assert done == "[DONE]"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == ["", ""]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["usage"]["completion_tokens"] == 2
    assert [(c["index"], c["text"]) for c in whole["choices"]] == [(0, "ab"), (1, "ab")]
    assert whole["usage"] == {"prompt_tokens": 14, "completion_tokens": 4, "total_tokens": 18}


def test_completions_run_to_the_end_of_the_context_unless_asked() -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        http.post("/tgi/v1/completions", json={"prompt": "hi"})

    assert runtime.requests[0].sampling.max_tokens is None
    assert runtime.requests[0].dialect == "tgi"


@pytest.mark.parametrize(
    "body", [{"prompt": ["x"] * 5}, {"prompt": "x", "suffix": "y"}, {"prompt": "x", "echo": True}]
)
def test_what_tgis_completions_have_not_is_refused(body: dict[str, Any]) -> None:
    with client() as http:
        response = http.post("/tgi/v1/completions", json=body)

    assert response.status_code == 422
    assert response.json()["error_type"] == "validation"


def test_a_chat_that_breaks_says_so_in_the_stream() -> None:
    script: Script = [
        [TextDelta(0, "a")],
        [end(reason=FinishReason.ERROR, error="it died", code="engine_failed")],
    ]
    with client(FakeRuntime(script=script)) as http:
        body = {**CHAT, "stream": True}
        *_, error, done = frames(http.post("/tgi/v1/chat/completions", json=body).text)

    assert done == "[DONE]"
    assert error["error"] == {
        "message": "Request failed during generation: it died",
        "http_status_code": 424,
    }
