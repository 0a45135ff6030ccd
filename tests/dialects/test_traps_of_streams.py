"""What clients of OpenAI's, Anthropic's and llama-server's streams are known to trip over: the
tokens of a script go through the engine's and the text's own code, and out on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from service.text.reasoning import THINK
from tests.dialects.fakes import FakeRuntime, Script
from tests.dialects.ollama.test_traps import HERMES, sampled

MESSAGES = [{"role": "user", "content": "hi"}]
TOOL = {"name": "add", "input_schema": {"type": "object"}}
FUNCTION = {"name": "add", "parameters": {"type": "object"}}
EMOJI = "\N{GRINNING FACE}".encode()

# path → a request
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "messages": MESSAGES,
        "tools": [{"type": "function", "function": FUNCTION}],
    },
    "/v1/responses": {"input": "hi", "tools": [{"type": "function", **FUNCTION}]},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 99, "tools": [TOOL]},
    "/completion": {"prompt": "hi"},
}
CHATS = [path for path in ASKED if path != "/completion"]


def wire(path: str, script: Script, **given: Any) -> str:
    app = create_app(Settings(), FakeRuntime(script=script).make)
    with TestClient(app, base_url="http://localhost") as http:
        response = http.post(path, json={**ASKED[path], **given})
    assert response.status_code == 200
    return response.text


def frames(text: str) -> list[dict[str, Any]]:
    """Exactly one space after `data:`, and one empty line between two."""
    found = []
    for frame in text.split("\n\n")[:-1]:
        data = frame.split("\n")[-1]
        assert data.startswith("data: ")
        assert not data.startswith("data:  ")
        if data != "data: [DONE]":
            found.append(json.loads(data.removeprefix("data: ")))
    return found


def texts_of(path: str, text: str) -> list[str]:
    """The parts of the answer that are content, in order."""
    parts: list[Any] = []
    for frame in frames(text):
        match path:
            case "/v1/chat/completions":
                parts += [choice["delta"].get("content") for choice in frame["choices"]]
            case "/v1/responses":
                said = frame["type"] == "response.output_text.delta"
                parts.append(frame["delta"] if said else None)
            case "/v1/messages":
                parts.append(frame.get("delta", {}).get("text"))
            case _:
                parts.append(frame["content"])
    return [part for part in parts if part]


def whole_text(path: str, text: str) -> str:
    body = json.loads(text)
    match path:
        case "/v1/chat/completions":
            return str(body["choices"][0]["message"]["content"])
        case "/v1/responses":
            items = [item for item in body["output"] if item["type"] == "message"]
            return "".join(part["text"] for item in items for part in item["content"])
        case "/v1/messages":
            return "".join(block.get("text", "") for block in body["content"])
        case _:
            return str(body["content"])


@pytest.mark.parametrize("path", ASKED)
def test_a_stop_string_between_tokens_is_never_let_out(path: str) -> None:
    script = sampled([b"one ST", b"O", b"P two"], stop=("STOP",))

    assert "".join(texts_of(path, wire(path, script, stream=True))) == "one "
    assert whole_text(path, wire(path, script)) == "one "


@pytest.mark.parametrize("path", ASKED)
def test_a_character_between_tokens_is_in_one_frame(path: str) -> None:
    script = sampled([b"a", EMOJI[:1], EMOJI[1:3], EMOJI[3:], b"b"])

    assert texts_of(path, wire(path, script, stream=True)) == ["a", EMOJI.decode(), "b"]


@pytest.mark.parametrize("path", CHATS)
def test_a_tag_between_tokens_is_in_no_text(path: str) -> None:
    script = sampled([b"<th", b"ink>h", b"m</thi", b"nk>so"], form=THINK)
    streamed, whole = wire(path, script, stream=True), wire(path, script)

    assert "".join(texts_of(path, streamed)) == whole_text(path, whole) == "so"
    assert "think>" not in streamed + whole


def test_thoughts_have_both_names_in_a_chat() -> None:
    script = sampled([b"<think>hm</think>so"], form=THINK)
    path = "/v1/chat/completions"
    message = json.loads(wire(path, script))["choices"][0]["message"]

    assert message["reasoning"] == message["reasoning_content"] == "hm"


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_cannot_be_read_is_text_and_no_error(path: str, stream: bool) -> None:
    script = sampled([b"<tool_call>", b'{"name": oops', b"</tool_call>"], tools=HERMES)
    text = wire(path, script, stream=stream)

    shown = "".join(texts_of(path, text)) if stream else whole_text(path, text)
    assert "oops" in shown
    assert not any(f'"{word}"' in text for word in ("tool_calls", "function_call", "tool_use"))


def test_a_chats_stream_has_one_role_an_empty_last_delta_and_no_empty_calls() -> None:
    text = wire(
        "/v1/chat/completions",
        sampled([b"a", b"b"]),
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, usage = frames(text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]

    assert [delta.get("role") for delta in deltas] == ["assistant", None, None, None]
    assert deltas[-1] == {}
    assert '"tool_calls":[]' not in text
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] > 0
    assert text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/completion"])
def test_the_other_streams_end_without_a_word_that_is_openais(path: str) -> None:
    assert "[DONE]" not in wire(path, sampled([b"a"]), stream=True)
