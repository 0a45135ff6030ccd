from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.dialects.failures import Failure
from service.dialects.responses.encode import Envelope, ResponseEvents, encode_response
from service.dialects.responses.request import Asked
from service.events import (
    Event,
    FinishReason,
    Logprob,
    ReasoningDelta,
    TextDelta,
    TokenLogprobs,
    ToolCallDelta,
)
from service.generation import Message, ToolCall
from tests.dialects.fakes import end

ASKED = Asked({"temperature": 1.0}, ())
EVERYTHING: list[Event] = [
    ReasoningDelta(0, "h"),
    ReasoningDelta(0, "m"),
    TextDelta(0, "I "),
    TextDelta(0, "add."),
    ToolCallDelta(0, 0, id="call_a", name="add"),
    ToolCallDelta(0, 0, '{"a":'),
    ToolCallDelta(0, 0, " 1}"),
    ToolCallDelta(0, 1, "{}", id="call_b", name="sub"),
    end(reason=FinishReason.TOOL_CALLS),
]
ITEMS: list[dict[str, Any]] = [
    {
        "type": "reasoning",
        "id": "rs_1_0",
        "status": "completed",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "hm"}],
    },
    {
        "type": "message",
        "id": "msg_1_1",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "I add.", "annotations": [], "logprobs": []}],
    },
    {
        "type": "function_call",
        "id": "fc_1_2",
        "status": "completed",
        "call_id": "call_a",
        "name": "add",
        "arguments": '{"a": 1}',
    },
    {
        "type": "function_call",
        "id": "fc_1_3",
        "status": "completed",
        "call_id": "call_b",
        "name": "sub",
        "arguments": "{}",
    },
]


def envelope(asked: Asked = ASKED) -> Envelope:
    return Envelope("resp_1", 1760000000, "demo", asked)


class Settled:
    def __init__(self) -> None:
        self.response: dict[str, Any] = {}
        self.said: Message | None = None

    def __call__(self, response: dict[str, Any], said: Message | None) -> None:
        self.response, self.said = response, said


def frames(wire: bytes) -> list[dict[str, Any]]:
    found = []
    for frame in wire.decode().split("\n\n")[:-1]:
        name, data = frame.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert value["type"] == name.removeprefix("event: ")
        found.append(value)
    return found


def streamed(*events: Event, asked: Asked = ASKED) -> list[dict[str, Any]]:
    encoder = ResponseEvents(envelope(asked), Settled())
    return frames(encoder.encode([]) + encoder.encode(events) + encoder.close())


def test_a_whole_response() -> None:
    response, said = encode_response(envelope(), EVERYTHING)

    assert response["completed_at"] >= response["created_at"]
    assert response | {"completed_at": 0} == {
        "id": "resp_1",
        "object": "response",
        "created_at": 1760000000,
        "completed_at": 0,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "demo",
        "output": ITEMS,
        "usage": {
            "input_tokens": 7,
            "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
            "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 10,
        },
        "temperature": 1.0,
    }
    assert said == Message(
        "assistant",
        "I add.",
        "hm",
        (ToolCall("call_a", "add", '{"a": 1}'), ToolCall("call_b", "sub", "{}")),
    )


def test_a_stream_tells_how_each_item_comes_about() -> None:
    told = streamed(*EVERYTHING)

    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert [
        (event["type"].removeprefix("response."), event.get("output_index")) for event in told
    ] == [
        ("created", None),
        ("in_progress", None),
        ("output_item.added", 0),
        ("content_part.added", 0),
        ("reasoning_text.delta", 0),
        ("reasoning_text.delta", 0),
        ("reasoning_text.done", 0),
        ("content_part.done", 0),
        ("output_item.done", 0),
        ("output_item.added", 1),
        ("content_part.added", 1),
        ("output_text.delta", 1),
        ("output_text.delta", 1),
        ("output_text.done", 1),
        ("content_part.done", 1),
        ("output_item.done", 1),
        ("output_item.added", 2),
        ("function_call_arguments.delta", 2),
        ("function_call_arguments.delta", 2),
        ("function_call_arguments.done", 2),
        ("output_item.done", 2),
        ("output_item.added", 3),
        ("function_call_arguments.delta", 3),
        ("function_call_arguments.done", 3),
        ("output_item.done", 3),
        ("completed", None),
    ]
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert done == ITEMS
    assert told[-1]["response"]["output"] == ITEMS


def test_thoughts_are_a_summary_where_one_was_asked_for() -> None:
    asked = Asked({}, (), summary=True)
    told = streamed(ReasoningDelta(0, "hm"), end(), asked=asked)

    assert [event["type"].removeprefix("response.") for event in told[2:-1]] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    assert told[-1]["response"]["output"] == [
        {
            "type": "reasoning",
            "id": "rs_1_0",
            "status": "completed",
            "summary": [{"type": "summary_text", "text": "hm"}],
        }
    ]
    assert told[4]["summary_index"] == 0


@pytest.mark.parametrize(
    ("reason", "extra"),
    [(FinishReason.LENGTH, {}), (FinishReason.TIMEOUT, {"timed_out": True})],
)
def test_a_limit_leaves_a_response_incomplete(reason: FinishReason, extra: dict[str, bool]) -> None:
    told = streamed(TextDelta(0, "a"), end(reason=reason))
    whole, _ = encode_response(envelope(), [TextDelta(0, "a"), end(reason=reason)])

    assert told[-1]["type"] == "response.incomplete"
    for response in (told[-1]["response"], whole):
        assert response["status"] == "incomplete"
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}
        assert response["output"][0]["status"] == "incomplete"
        assert extra.items() <= response.items()


@pytest.mark.parametrize(
    ("code", "status"), [("engine_failed", "failed"), ("cancelled", "cancelled")]
)
def test_a_failure_is_the_last_event_and_settles_the_response(code: str, status: str) -> None:
    settled = Settled()
    encoder = ResponseEvents(envelope(), settled)
    dies = end(reason=FinishReason.ERROR, error="It stopped.", code=code)
    sent = encoder.encode([TextDelta(0, "a"), dies])
    sent += encoder.fail(Failure(500, "It stopped.", code)) + encoder.close()

    last = frames(sent)[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == status
    assert last["response"]["error"] == {"code": code, "message": "It stopped."}
    assert settled.response == last["response"]
    assert settled.said is None


def test_a_response_is_settled_before_its_last_event_is_out() -> None:
    settled = Settled()
    encoder = ResponseEvents(envelope(), settled)
    encoder.encode([TextDelta(0, "a"), end()])
    assert settled.response == {}

    encoder.close()

    assert settled.response["status"] == "completed"
    assert settled.said == Message("assistant", "a")


def test_logprobs_come_with_the_text() -> None:
    token = TokenLogprobs(Logprob(1, b"a", -0.5), (Logprob(1, b"a", -0.5),))
    told = streamed(TextDelta(0, "a", (token,)), end())
    entry = {"token": "a", "logprob": -0.5, "bytes": [97]}
    wire = [{**entry, "top_logprobs": [entry]}]

    assert told[4]["logprobs"] == wire
    assert told[-1]["response"]["output"][0]["content"][0]["logprobs"] == wire


deltas = st.lists(
    st.builds(TextDelta, st.just(0), st.text(max_size=3))
    | st.builds(ReasoningDelta, st.just(0), st.text(max_size=3))
    | st.builds(
        lambda call, part: ToolCallDelta(0, call, part, f"call_{call}", "f"),
        st.integers(0, 2),
        st.text(max_size=3),
    ),
    max_size=8,
)


@settings(max_examples=50)
@given(events=deltas)
def test_in_whatever_order_a_stream_and_a_whole_response_agree(events: list[Event]) -> None:
    told = streamed(*events, end())
    whole, _ = encode_response(envelope(), [*events, end()])
    added = [event["output_index"] for event in told if event["type"].endswith("item.added")]
    done = [event["output_index"] for event in told if event["type"].endswith("item.done")]

    assert told[-1]["response"]["output"] == whole["output"]
    assert added == done == list(range(len(whole["output"])))
