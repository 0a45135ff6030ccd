from __future__ import annotations

import json
from typing import Any

import pytest

from service.dialects.answers import collect
from service.dialects.anthropic.encode import Envelope, MessageEvents, encode_message, worded
from service.dialects.anthropic.request import Options
from service.dialects.failures import Failure
from service.events import (
    Event,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from tests.dialects.fakes import end

ENVELOPE = Envelope("msg_1", "demo", 7)
CALL: list[Event] = [
    ToolCallDelta(0, 0, id="call_a", name="add"),
    ToolCallDelta(0, 0, '{"a":'),
    ToolCallDelta(0, 0, " 1}"),
]


def whole(*events: Event, options: Options | None = None) -> dict[str, Any]:
    (answer,) = collect(events)
    return encode_message(ENVELOPE, answer, options or Options())


def streamed(*events: Event, options: Options | None = None) -> bytes:
    encoder = MessageEvents(ENVELOPE, options or Options())
    return encoder.encode([]) + encoder.encode(events) + encoder.close()


def frames(wire: bytes) -> list[tuple[str, Any]]:
    found = []
    for frame in wire.decode().split("\n\n")[:-1]:
        name, data = frame.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert value.pop("type") == name.removeprefix("event: ")
        found.append((name.removeprefix("event: "), value))
    return found


def test_an_answer_of_each_kind_of_block() -> None:
    message = whole(
        ReasoningDelta(0, "hm"),
        TextDelta(0, "I add."),
        *CALL,
        end(reason=FinishReason.TOOL_CALLS, usage=Usage(7, 2, 5)),
    )

    assert message == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "demo",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": "I add."},
            {"type": "tool_use", "id": "toolu_a", "name": "add", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 2,
            "output_tokens": 5,
        },
    }


@pytest.mark.parametrize(
    ("reason", "stop", "wire"),
    [
        (FinishReason.STOP, None, ("end_turn", None)),
        (FinishReason.STOP, 2, ("end_turn", None)),
        (FinishReason.STOP, "END", ("stop_sequence", "END")),
        (FinishReason.LENGTH, None, ("max_tokens", None)),
        (FinishReason.TOOL_CALLS, None, ("tool_use", None)),
    ],
)
def test_why_it_stopped(
    reason: FinishReason, stop: str | int | None, wire: tuple[str, str | None]
) -> None:
    message = whole(end(reason=reason, stop=stop), options=Options(stop_sequences=("END",)))

    assert (message["stop_reason"], message["stop_sequence"]) == wire


def test_arguments_that_are_no_object_are_text_and_no_error() -> None:
    message = whole(ToolCallDelta(0, 0, "[1", id="call_a", name="add"), end())

    assert message["content"] == [{"type": "text", "text": "add([1)"}]


def test_a_stream_byte_for_byte() -> None:
    sent = streamed(TextDelta(0, "a\n"), TextDelta(0, ""), TextDelta(0, "b"), end())

    assert sent.decode() == (
        "event: message_start\n"
        'data: {"type":"message_start","message":{"id":"msg_1","type":"message",'
        '"role":"assistant","model":"demo","content":[],"stop_reason":null,"stop_sequence":null,'
        '"usage":{"input_tokens":7,"output_tokens":0}}}\n\n'
        'event: ping\ndata: {"type":"ping"}\n\n'
        "event: content_block_start\n"
        'data: {"type":"content_block_start","index":0,'
        '"content_block":{"type":"text","text":""}}\n\n'
        "event: content_block_delta\n"
        'data: {"type":"content_block_delta","index":0,'
        '"delta":{"type":"text_delta","text":"a\\n"}}\n\n'
        "event: content_block_delta\n"
        'data: {"type":"content_block_delta","index":0,'
        '"delta":{"type":"text_delta","text":"b"}}\n\n'
        'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        "event: message_delta\n"
        'data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
        '"usage":{"input_tokens":5,"cache_creation_input_tokens":0,"cache_read_input_tokens":2,'
        '"output_tokens":3}}\n\n'
        'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )


def test_blocks_follow_each_other_and_each_is_closed() -> None:
    second = [ToolCallDelta(0, 1, "{}", id="call_b", name="sub")]
    sent = frames(
        streamed(
            ReasoningDelta(0, "hm"),
            TextDelta(0, "so"),
            *CALL,
            *second,
            TextDelta(0, "."),
            end(reason=FinishReason.TOOL_CALLS),
        )
    )
    blocks = [
        (name, value.get("index"), value.get("content_block", value.get("delta", {})).get("type"))
        for name, value in sent
        if name.startswith("content_block")
    ]

    assert blocks == [
        ("content_block_start", 0, "thinking"),
        ("content_block_delta", 0, "thinking_delta"),
        ("content_block_delta", 0, "signature_delta"),
        ("content_block_stop", 0, None),
        ("content_block_start", 1, "text"),
        ("content_block_delta", 1, "text_delta"),
        ("content_block_stop", 1, None),
        ("content_block_start", 2, "tool_use"),
        ("content_block_delta", 2, "input_json_delta"),
        ("content_block_delta", 2, "input_json_delta"),
        ("content_block_stop", 2, None),
        ("content_block_start", 3, "tool_use"),
        ("content_block_delta", 3, "input_json_delta"),
        ("content_block_stop", 3, None),
        ("content_block_start", 4, "text"),
        ("content_block_delta", 4, "text_delta"),
        ("content_block_stop", 4, None),
    ]


def test_thoughts_that_are_omitted_leave_an_empty_block() -> None:
    options = Options(omit_thoughts=True)
    events: list[Event] = [ReasoningDelta(0, "hm"), TextDelta(0, "a"), end()]

    assert "hm" not in streamed(*events, options=options).decode()
    assert whole(*events, options=options)["content"][0]["thinking"] == ""


def test_an_error_in_mid_stream_is_the_last_event() -> None:
    encoder = MessageEvents(ENVELOPE, Options())
    dies = end(reason=FinishReason.ERROR, error="It stopped.", code="engine_failed")
    sent = encoder.encode([TextDelta(0, "a"), dies])
    sent += encoder.fail(Failure(500, "It stopped.", "engine_failed")) + encoder.close()

    name, value = frames(sent)[-1]
    assert name == "error"
    assert value == {"error": {"type": "api_error", "message": "It stopped."}}
    assert b"message_stop" not in sent


@pytest.mark.parametrize(
    ("failure", "status", "kind"),
    [
        (Failure(400, "x", "invalid_request"), 400, "invalid_request_error"),
        (Failure(401, "x"), 401, "authentication_error"),
        (Failure(403, "x"), 403, "permission_error"),
        (Failure(404, "x", "model_not_found"), 404, "not_found_error"),
        (Failure(405, "x"), 405, "invalid_request_error"),
        (Failure(413, "x"), 413, "request_too_large"),
        (Failure(429, "x", "queue_full"), 529, "overloaded_error"),
        (Failure(503, "x", "draining"), 529, "overloaded_error"),
        (Failure(503, "x", "model_unavailable"), 529, "overloaded_error"),
        (Failure(500, "x", "model_load_failed"), 500, "api_error"),
        (Failure(504, "x", "timeout"), 504, "timeout_error"),
    ],
)
def test_failures_have_anthropics_words(failure: Failure, status: int, kind: str) -> None:
    assert worded(failure) == (status, {"type": "error", "error": {"type": kind, "message": "x"}})


def test_a_prompt_that_is_too_long_is_told_in_the_words_that_clients_look_for() -> None:
    """Agents shorten a conversation where they read the first four of them."""
    sizes = {"n_prompt_tokens": 30015, "n_ctx": 4096}
    failure = Failure(400, "x", "context_length_exceeded", numbers=sizes)
    words = {
        "type": "invalid_request_error",
        "message": "prompt is too long: 30015 tokens > 4096 maximum",
    }

    assert worded(failure) == (400, {"type": "error", "error": words | sizes})
