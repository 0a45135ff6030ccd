"""Golden bytes: what clients were seen to depend on, they depend on to the letter."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from service.dialects.answers import collect
from service.dialects.failures import Failure
from service.dialects.openai.chat_encode import ChatChunks, encode_chat
from service.dialects.openai.chat_request import Options
from service.dialects.openai.shapes import Envelope
from service.events import (
    Event,
    FinishReason,
    Logprob,
    PromptLogprobs,
    ReasoningDelta,
    TextDelta,
    TokenLogprobs,
    ToolCallDelta,
)
from tests.dialects.fakes import end

ENVELOPE = Envelope("chatcmpl-1", 1760000000, "demo", "fp_1")
HEAD = (
    '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"demo",'
    '"system_fingerprint":"fp_1"'
)
LOGPROBS = TokenLogprobs(
    Logprob(5, b"\xe2\x82", -0.5), (Logprob(5, b"\xe2\x82", -0.5), Logprob(6, b"x", float("-inf")))
)


def stream(events: Sequence[Event], options: Options = Options(), n: int = 1) -> str:  # noqa: B008
    chunks = ChatChunks(ENVELOPE, options, 7, n)
    return (b"".join(chunks.encode([event]) for event in events) + chunks.close()).decode()


def frames(text: str) -> list[Any]:
    assert text.endswith("data: [DONE]\n\n")
    lines = text.removesuffix("data: [DONE]\n\n").split("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line]


def deltas(events: Sequence[Event], options: Options = Options()) -> list[Any]:  # noqa: B008
    return [frame["choices"][0]["delta"] for frame in frames(stream(events, options))]


def test_a_text_stream_byte_for_byte() -> None:
    events: list[Event] = [TextDelta(0, 'He said "hi"'), TextDelta(0, "\n\u2028é"), end()]

    assert stream(events) == (
        f'data: {HEAD},"choices":[{{"index":0,"delta":{{"role":"assistant","content":""}},'
        '"logprobs":null,"finish_reason":null}]}\n\n'
        f'data: {HEAD},"choices":[{{"index":0,"delta":{{"content":"He said \\"hi\\""}},'
        '"logprobs":null,"finish_reason":null}]}\n\n'
        f'data: {HEAD},"choices":[{{"index":0,"delta":{{"content":"\\n\u2028é"}},'
        '"logprobs":null,"finish_reason":null}]}\n\n'
        f'data: {HEAD},"choices":[{{"index":0,"delta":{{}},"logprobs":null,'
        '"finish_reason":"stop"}]}\n\n'
        "data: [DONE]\n\n"
    )


def test_usage_is_null_until_its_own_last_chunk() -> None:
    found = frames(stream([TextDelta(0, "a"), end()], Options(include_usage=True)))

    assert [frame["usage"] for frame in found[:-1]] == [None, None, None]
    assert found[-1]["choices"] == []
    assert found[-1]["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def test_continuous_usage_counts_the_tokens_so_far() -> None:
    options = Options(include_usage=True, continuous_usage=True)
    found = frames(
        stream([TextDelta(0, "a", tokens=2), TextDelta(0, "b", tokens=1), end()], options)
    )

    counts = [frame["usage"] and frame["usage"]["completion_tokens"] for frame in found]
    assert counts == [0, 2, 3, 3, 3]


def test_each_answer_gets_one_role_and_its_own_end() -> None:
    events: list[Event] = [TextDelta(0, "a"), TextDelta(1, "b"), end(0), TextDelta(1, "c"), end(1)]
    found = [frame["choices"][0] for frame in frames(stream(events, n=2))]

    assert [(c["index"], c["delta"].get("role"), c["finish_reason"]) for c in found] == [
        (0, "assistant", None),
        (0, None, None),
        (1, "assistant", None),
        (1, None, None),
        (0, None, "stop"),
        (1, None, None),
        (1, None, "stop"),
    ]


def test_an_empty_answer_still_has_a_role_and_an_end() -> None:
    assert deltas([end()]) == [{"role": "assistant", "content": ""}, {}]


def test_an_empty_piece_of_text_is_not_sent() -> None:
    assert deltas([TextDelta(0, ""), end()]) == [{"role": "assistant", "content": ""}, {}]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Options(), {"reasoning": "hm", "reasoning_content": "hm"}),
        (Options(reasoning_fields=("reasoning",)), {"reasoning": "hm"}),
    ],
)
def test_thoughts_come_in_fields_of_their_own(options: Options, expected: dict[str, str]) -> None:
    events: list[Event] = [ReasoningDelta(0, "hm"), TextDelta(0, "a"), end()]

    assert deltas(events, options) == [
        {"role": "assistant", "content": ""},
        expected,
        {"content": "a"},
        {},
    ]


def test_thoughts_that_nobody_wants_are_left_out() -> None:
    events: list[Event] = [ReasoningDelta(0, "hm"), TextDelta(0, "a"), end()]

    assert {"content": "a"} in deltas(events, Options(reasoning_fields=()))
    assert "hm" not in stream(events, Options(reasoning_fields=()))


def test_raw_thoughts_are_text_between_tags() -> None:
    events: list[Event] = [ReasoningDelta(0, "h"), ReasoningDelta(0, "m"), TextDelta(0, "a"), end()]
    texts = [delta.get("content", "") for delta in deltas(events, Options(raw_reasoning=True))]

    assert "".join(texts) == "<think>hm</think>a"


def test_a_calls_first_part_alone_has_id_type_and_name() -> None:
    events: list[Event] = [
        ToolCallDelta(0, 0, id="call_1", name="add"),
        ToolCallDelta(0, 0, '{"a"'),
        ToolCallDelta(0, 0, ":1}"),
        ToolCallDelta(0, 1, "{}", id="call_2", name="sub"),
        end(reason=FinishReason.TOOL_CALLS),
    ]

    assert deltas(events)[1:] == [
        {"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                         "function": {"name": "add", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
        {"tool_calls": [{"index": 1, "id": "call_2", "type": "function",
                         "function": {"name": "sub", "arguments": "{}"}}]},
        {},
    ]  # fmt: skip
    assert '"finish_reason":"tool_calls"' in stream(events)


def test_an_older_client_gets_function_call() -> None:
    events: list[Event] = [
        ToolCallDelta(0, 0, "{}", id="call_1", name="add"),
        end(reason=FinishReason.TOOL_CALLS),
    ]
    options = Options(legacy_functions=True)

    assert deltas(events, options)[1] == {"function_call": {"name": "add", "arguments": "{}"}}
    assert '"finish_reason":"function_call"' in stream(events, options)
    message = encode_chat(ENVELOPE, collect(events), options)["choices"][0]["message"]
    assert message["function_call"] == {"name": "add", "arguments": "{}"}


def test_logprobs_ride_with_their_chunk() -> None:
    (_, chunk, _) = frames(stream([TextDelta(0, "€", (LOGPROBS,)), end()]))

    assert chunk["choices"][0]["logprobs"] == {
        "content": [
            {
                "token": "\ufffd",
                "logprob": -0.5,
                "bytes": [0xE2, 0x82],
                "top_logprobs": [
                    {"token": "\ufffd", "logprob": -0.5, "bytes": [0xE2, 0x82]},
                    {"token": "x", "logprob": -9999.0, "bytes": [120]},
                ],
            }
        ],
        "refusal": None,
    }


def test_tokens_can_be_named_by_their_ids() -> None:
    options = Options(token_ids_for_pieces=True)
    (_, chunk, _) = frames(stream([TextDelta(0, "€", (LOGPROBS,)), end()], options))

    assert chunk["choices"][0]["logprobs"]["content"][0]["token"] == "token_id:5"


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (end(reason=FinishReason.LENGTH), {"finish_reason": "length"}),
        (end(stop="\n"), {"finish_reason": "stop", "stop_reason": "\n"}),
        (end(stop=42), {"finish_reason": "stop", "stop_reason": 42}),
        (end(reason=FinishReason.TIMEOUT), {"finish_reason": "length", "timed_out": True}),
    ],
)
def test_how_an_answer_ended_is_said_in_words_that_clients_know(
    ending: Any, expected: dict[str, Any]
) -> None:
    choice = frames(stream([ending]))[-1]["choices"][0]

    assert choice == {"index": 0, "delta": {}, "logprobs": None, **expected}


def test_a_failure_has_its_own_frame_and_no_finish_reason() -> None:
    chunks = ChatChunks(ENVELOPE, Options(include_usage=True), 7, 1)
    sent = chunks.encode([TextDelta(0, "a"), end(reason=FinishReason.ERROR, code="engine_crashed")])
    sent += chunks.fail(Failure(500, "It broke", "engine_crashed")) + chunks.close()

    assert b'"finish_reason":"' not in sent
    assert sent.endswith(
        b'data: {"error":{"message":"It broke","type":"server_error","param":null,'
        b'"code":"engine_crashed"}}\n\ndata: [DONE]\n\n'
    )


def test_timings_are_sent_to_those_who_ask() -> None:
    found = frames(stream([TextDelta(0, "a"), end()], Options(timings=True)))

    assert found[-1]["timings"] == {
        "cache_n": 2,
        "prompt_n": 5,
        "prompt_ms": 250.0,
        "prompt_per_second": 20.0,
        "predicted_n": 3,
        "predicted_ms": 500.0,
        "predicted_per_second": 4.0,
    }


def test_a_whole_answer() -> None:
    events: list[Event] = [ReasoningDelta(0, "hm"), TextDelta(0, "Hel"), TextDelta(0, "lo"), end()]

    assert encode_chat(ENVELOPE, collect(events), Options()) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1760000000,
        "model": "demo",
        "system_fingerprint": "fp_1",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello",
                    "refusal": None,
                    "annotations": [],
                    "reasoning": "hm",
                    "reasoning_content": "hm",
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
    }


def test_content_is_null_only_beside_calls_without_text() -> None:
    call = ToolCallDelta(0, 0, "{}", id="call_1", name="add")

    def message(events: list[Event]) -> Any:
        return encode_chat(ENVELOPE, collect(events), Options())["choices"][0]["message"]

    assert message([end()])["content"] == ""
    assert "tool_calls" not in message([end()])
    assert message([call, end()])["content"] is None
    assert message([TextDelta(0, "so"), call, end()])["content"] == "so"
    assert message([call, end()])["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    ]


def test_the_prompt_counts_once_for_all_answers() -> None:
    usage = encode_chat(ENVELOPE, collect([end(0), end(1)]), Options())["usage"]

    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (7, 6)


def test_prompt_logprobs_have_vllms_shape() -> None:
    body = encode_chat(ENVELOPE, collect([PromptLogprobs(0, (None, LOGPROBS)), end()]), Options())

    assert body["prompt_logprobs"] == [
        None,
        {
            "5": {"logprob": -0.5, "rank": 1, "decoded_token": "\ufffd"},
            "6": {"logprob": -9999.0, "rank": 2, "decoded_token": "x"},
        },
    ]


def test_a_chunk_of_text_takes_less_than_five_microseconds() -> None:
    encode = ChatChunks(ENVELOPE, Options(include_usage=True), 7, 1).encode
    batch = [TextDelta(0, " hello", tokens=1)]
    encode(batch)

    def seconds() -> float:
        started = time.perf_counter()
        for _ in range(2000):
            encode(batch)
        return (time.perf_counter() - started) / 2000

    assert min(seconds() for _ in range(10)) < 5e-6


def test_what_is_echoed_comes_before_each_answer_whole_or_streamed() -> None:
    events: list[Event] = [TextDelta(0, "12."), TextDelta(1, "13."), end(), end(1)]
    options = Options(echo="It is ")
    body = encode_chat(ENVELOPE, collect(events), options)
    told = ["", ""]
    for frame in frames(stream(events, options, n=2)):
        told[frame["choices"][0]["index"]] += frame["choices"][0]["delta"].get("content", "")

    assert told == ["It is 12.", "It is 13."]
    assert [choice["message"]["content"] for choice in body["choices"]] == told
