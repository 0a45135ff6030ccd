from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.failures import Failure
from service.dialects.ollama.encode import CHAT, GENERATE, Lines, Shape, Voice, encode_whole
from service.dialects.ollama.shapes import Journey, nanoseconds, rfc3339
from service.events import (
    Event,
    FinishReason,
    Logprob,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenLogprobs,
    ToolCallDelta,
    Usage,
)
from tests.dialects.fakes import end

WALL = 1_760_000_000_000_000_001
STAMP = "2025-10-09T08:53:20.000000001Z"


def voice(shape: Shape = CHAT, **given: Any) -> Voice:
    journey = given.pop("journey", Journey(0.5, 0.25))
    inline = given.pop("inline", False)
    return Voice("m", shape, inline, journey, wall=lambda: WALL, clock=lambda: 3.0, **given)


def lines(
    events: Sequence[Event], shape: Shape = CHAT, *, at_once: bool = True, **given: Any
) -> list[dict[str, Any]]:
    encoder = Lines(voice(shape, **given))
    batches = [list(events)] if at_once else [[event] for event in events]
    data = b"".join(encoder.encode(batch) for batch in batches) + encoder.close()
    assert data.endswith(b"\n")
    assert b"\n\n" not in data
    return [json.loads(line) for line in data.decode().splitlines()]


def whole(events: list[Event], shape: Shape = CHAT, **given: Any) -> dict[str, Any]:
    return encode_whole(voice(shape, **given), events)


def token(text: str, logprob: float = -0.5, *others: str) -> TokenLogprobs:
    top = tuple(Logprob(n, other.encode(), -1.0) for n, other in enumerate(others))
    return TokenLogprobs(Logprob(9, text.encode(), logprob), top)


METRICS = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 2_500_000_000,
    "load_duration": 250_000_000,
    "prompt_eval_count": 7,
    "prompt_eval_cached_count": 2,
    "prompt_eval_duration": 250_000_000,
    "eval_count": 3,
    "eval_duration": 500_000_000,
}


def test_a_chat_is_a_message_in_every_line() -> None:
    assert lines([TextDelta(0, "Hé"), TextDelta(0, '"\n'), end()]) == [
        {"model": "m", "created_at": STAMP, "message": {"role": "assistant", "content": "Hé"},
         "done": False},
        {"model": "m", "created_at": STAMP, "message": {"role": "assistant", "content": '"\n'},
         "done": False},
        {"model": "m", "created_at": STAMP, "message": {"role": "assistant", "content": ""},
         **METRICS},
    ]  # fmt: skip


def test_a_generation_is_a_response_in_every_line() -> None:
    assert lines([TextDelta(0, "a"), end()], GENERATE) == [
        {"model": "m", "created_at": STAMP, "response": "a", "done": False},
        {"model": "m", "created_at": STAMP, "response": "", **METRICS},
    ]


def test_a_whole_answer_is_its_last_line_with_all_the_text() -> None:
    events: list[Event] = [TextDelta(0, "a"), TextDelta(0, "b"), end()]
    message = {"role": "assistant", "content": "ab"}

    assert whole(events) == {"model": "m", "created_at": STAMP, "message": message, **METRICS}
    assert whole(events, GENERATE)["response"] == "ab"


def test_counts_are_there_even_where_they_are_nothing() -> None:
    last = lines([end(usage=Usage(0, 0, 0), timings=Timings(1.0))])[-1]

    assert {key: last[key] for key in METRICS if "count" in key} == {
        "prompt_eval_count": 0, "prompt_eval_cached_count": 0, "eval_count": 0,
    }  # fmt: skip
    assert last["prompt_eval_duration"] == last["eval_duration"] == 1


@pytest.mark.parametrize(
    ("reason", "word"),
    [(FinishReason.STOP, "stop"), (FinishReason.LENGTH, "length"),
     (FinishReason.TOOL_CALLS, "stop"), (FinishReason.TIMEOUT, "length")],
)  # fmt: skip
def test_the_reason_of_an_end_is_ollamas_word(reason: FinishReason, word: str) -> None:
    last = lines([TextDelta(0, "a"), end(reason=reason)])[-1]

    assert (last["done"], last["done_reason"]) == (True, word)
    assert last.get("timed_out", False) is (reason is FinishReason.TIMEOUT)


THOUGHT: list[Event] = [ReasoningDelta(0, "hm"), ReasoningDelta(0, "m"), TextDelta(0, "ok"), end()]


def test_thoughts_are_apart_from_the_text() -> None:
    assert [line["message"] for line in lines(THOUGHT)] == [
        {"role": "assistant", "content": "", "thinking": "hm"},
        {"role": "assistant", "content": "", "thinking": "m"},
        {"role": "assistant", "content": "ok"},
        {"role": "assistant", "content": ""},
    ]
    assert whole(THOUGHT, GENERATE)["thinking"] == "hmm"
    assert whole(THOUGHT, GENERATE)["response"] == "ok"


def test_thoughts_that_stay_in_the_text_are_between_tags_and_nowhere_else() -> None:
    text = "".join(line["message"]["content"] for line in lines(THOUGHT, inline=True))

    assert text == "<think>hmm</think>ok"
    assert whole(THOUGHT, inline=True)["message"] == {"role": "assistant", "content": text}


CALLS: list[Event] = [
    TextDelta(0, "Let me see."),
    ToolCallDelta(0, 0, "", "call_a", "add"),
    ToolCallDelta(0, 0, '{"a":'),
    ToolCallDelta(0, 0, " 1}"),
    ToolCallDelta(0, 1, "{}", "call_b", "now"),
    end(reason=FinishReason.TOOL_CALLS),
]
WHOLE_CALLS = [
    {"id": "call_a", "function": {"index": 0, "name": "add", "arguments": {"a": 1}}},
    {"id": "call_b", "function": {"index": 1, "name": "now", "arguments": {}}},
]


@pytest.mark.parametrize("at_once", [True, False])
def test_calls_come_whole_and_their_arguments_are_objects(at_once: bool) -> None:
    written = lines(CALLS, at_once=at_once)

    assert [line["message"].get("tool_calls") for line in written] == [
        None, [WHOLE_CALLS[0]], [WHOLE_CALLS[1]], None,
    ]  # fmt: skip
    assert written[-1]["done_reason"] == "stop"


def test_a_whole_answer_has_all_its_calls() -> None:
    message = whole(CALLS)["message"]

    assert message["content"] == "Let me see."
    assert message["tool_calls"] == tuple(WHOLE_CALLS)


def test_a_call_that_was_cut_off_is_text() -> None:
    events: list[Event] = [
        ToolCallDelta(0, 0, '{"a": [', "c", "add"),
        end(reason=FinishReason.LENGTH),
    ]

    assert whole(events)["message"] == {
        "role": "assistant", "content": '{"name": "add", "arguments": {"a": [',
    }  # fmt: skip


def test_each_token_has_one_entry_of_log_probabilities() -> None:
    events: list[Event] = [
        TextDelta(0, "", (token("a"),)),
        TextDelta(0, "ab", (token("b", -0.25, "b", "c"),)),
        ToolCallDelta(0, 0, "{}", "c", "f", (token("{}"),)),
        end(end_token=token("</s>")),
    ]
    written = lines(events)
    entries = [entry for line in written for entry in line.get("logprobs", [])]

    assert [entry["token"] for entry in entries] == ["a", "b", "{}", "</s>"]
    assert entries[0] == {"token": "a", "logprob": -0.5, "bytes": [97]}
    assert entries[1]["top_logprobs"] == [
        {"token": "b", "logprob": -1.0, "bytes": [98]},
        {"token": "c", "logprob": -1.0, "bytes": [99]},
    ]
    assert whole(events)["logprobs"] == entries


def test_a_context_is_the_prompts_tokens_and_the_answers() -> None:
    events: list[Event] = [TextDelta(0, "a", ids=(5, 6)), TextDelta(0, "b", ids=(7,)), end()]

    assert lines(events, GENERATE, prompt=(1, 2))[-1]["context"] == [1, 2, 5, 6, 7]
    assert whole(events, GENERATE, prompt=(1, 2))["context"] == [1, 2, 5, 6, 7]
    assert "context" not in whole(events, GENERATE)


def test_a_prompt_that_was_cut_is_reported_with_its_whole_length() -> None:
    last = lines([end()], journey=Journey(0.0, 0.0, 100))[-1]

    assert (last["prompt_truncated"], last["prompt_original_count"]) == (True, 107)
    assert "prompt_truncated" not in lines([end()])[-1]


def test_a_failure_is_a_line_and_nothing_follows_it() -> None:
    encoder = Lines(voice())
    broken = end(reason=FinishReason.ERROR, error="it broke", code="engine_failed")

    assert encoder.encode([TextDelta(0, "a"), broken]).count(b"\n") == 1
    assert encoder.fail(Failure(500, "it broke")) == b'{"error":"it broke"}\n'
    assert encoder.close() == b""


TEXTS = st.lists(st.text(min_size=1, max_size=5), max_size=6)


@given(TEXTS, TEXTS, st.booleans(), st.booleans())
def test_a_stream_says_what_a_whole_answer_says(
    thoughts: list[str], texts: list[str], inline: bool, at_once: bool
) -> None:
    events: list[Event] = [ReasoningDelta(0, text) for text in thoughts]
    events += [TextDelta(0, text) for text in texts]
    events.append(end())
    encoder = Lines(voice(inline=inline))
    batches = [events] if at_once else [[event] for event in events]
    written = b"".join(map(encoder.encode, batches)).split(b"\n")
    messages = [json.loads(line)["message"] for line in written if line]
    message = whole(events, inline=inline)["message"]

    assert "".join(part["content"] for part in messages) == message["content"]
    assert "".join(part.get("thinking", "") for part in messages) == message.get("thinking", "")


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "1970-01-01T00:00:00.000000000Z"), (WALL, STAMP),
     (1_760_000_000_000_000_000 + 2**63 - 1, "2318-01-19T08:40:36.854775807Z")],
)  # fmt: skip
def test_times_have_nanoseconds(nanoseconds: int, text: str) -> None:
    assert rfc3339(nanoseconds) == text


def test_a_duration_is_never_nothing() -> None:
    assert nanoseconds(1.0, 1.5) == 500_000_000
    assert nanoseconds(1.0, 1.0) == nanoseconds(2.0, 1.0) == nanoseconds(None, 1.0) == 1
