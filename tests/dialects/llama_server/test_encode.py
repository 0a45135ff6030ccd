from __future__ import annotations

import json
from typing import Any

import pytest

from service.dialects.answers import collect
from service.dialects.failures import Failure
from service.dialects.llama_server.encode import (
    CompletionChunks,
    Envelope,
    chosen,
    encode_completion,
)
from service.dialects.llama_server.request import Options
from service.dialects.llama_server.shapes import encode_piece, worded
from service.events import Event, FinishReason, Logprob, TextDelta, TokenLogprobs
from service.generation import SamplingParams
from tests.dialects.fakes import end

ENVELOPE = Envelope("demo", "hi", 7, SamplingParams(max_tokens=5))
PLAIN = Options((("hi",),))


def whole(*events: Event, options: Options = PLAIN, envelope: Envelope = ENVELOPE) -> Any:
    (answer,) = collect(events)
    return encode_completion(envelope, answer, options)


def chunks(*events: Event, options: Options = PLAIN) -> list[dict[str, Any]]:
    encoder = CompletionChunks(ENVELOPE, options)
    wire = (encoder.encode(events) + encoder.close()).decode()
    assert "[DONE]" not in wire
    return [json.loads(line.removeprefix("data: ")) for line in wire.split("\n\n")[:-1]]


def test_a_whole_completion() -> None:
    body = whole(TextDelta(0, "a\n"), TextDelta(0, "b"), end(seed=42))
    settings = body.pop("generation_settings")

    assert body == {
        "index": 0,
        "content": "a\nb",
        "tokens": [],
        "stop": True,
        "model": "demo",
        "tokens_predicted": 3,
        "tokens_evaluated": 7,
        "tokens_cached": 2,
        "prompt": "hi",
        "has_new_line": True,
        "truncated": False,
        "stop_type": "eos",
        "stopping_word": "",
        "timings": {
            "cache_n": 2,
            "prompt_n": 5,
            "prompt_ms": 250.0,
            "prompt_per_second": 20.0,
            "prompt_per_token_ms": 50.0,
            "predicted_n": 3,
            "predicted_ms": 500.0,
            "predicted_per_second": 4.0,
            "predicted_per_token_ms": 250.0,
        },
    }
    assert (settings["seed"], settings["n_predict"], settings["temperature"]) == (42, 5, 1.0)


@pytest.mark.parametrize(
    ("reason", "stop", "wire"),
    [
        (FinishReason.STOP, None, ("eos", "")),
        (FinishReason.STOP, 2, ("eos", "")),
        (FinishReason.STOP, "END", ("word", "END")),
        (FinishReason.LENGTH, None, ("limit", "")),
        (FinishReason.TIMEOUT, None, ("limit", "")),
    ],
)
def test_why_it_stopped(
    reason: FinishReason, stop: str | int | None, wire: tuple[str, str]
) -> None:
    body = whole(end(reason=reason, stop=stop))

    assert (body["stop_type"], body["stopping_word"]) == wire
    assert body.get("timed_out", False) is (reason is FinishReason.TIMEOUT)


def test_a_stream_ends_with_everything_that_is_known() -> None:
    events: list[Event] = [TextDelta(0, "a", tokens=1), TextDelta(0, "\n", tokens=1), end()]
    first, second, last = chunks(*events)

    assert first == {
        "index": 0,
        "content": "a",
        "tokens": [],
        "stop": False,
        "tokens_predicted": 1,
        "tokens_evaluated": 7,
    }
    assert (second["content"], second["tokens_predicted"]) == ("\n", 2)
    expected = whole(*events) | {"content": ""}
    assert last == json.loads(json.dumps(expected))


def test_token_ids_come_where_they_are_asked_for() -> None:
    options = Options((("hi",),), return_tokens=True)
    events: list[Event] = [TextDelta(0, "ab", ids=(5, 6)), end()]

    assert whole(*events, options=options)["tokens"] == [5, 6]
    assert whole(*events)["tokens"] == []
    assert [chunk["tokens"] for chunk in chunks(*events, options=options)] == [[5, 6], []]


def test_probabilities_name_the_likeliest_tokens() -> None:
    token = TokenLogprobs(Logprob(1, b"a", -0.5), (Logprob(2, b"\xff", float("-inf")),))
    envelope = Envelope("demo", "hi", 7, SamplingParams(logprobs=1))

    assert whole(TextDelta(0, "a", (token,)), end(), envelope=envelope)[
        "completion_probabilities"
    ] == [
        {
            "id": 1,
            "token": "a",
            "bytes": [97],
            "logprob": -0.5,
            "top_logprobs": [
                {"id": 2, "token": "\N{REPLACEMENT CHARACTER}", "bytes": [255], "logprob": -9999.0}
            ],
        }
    ]


def test_a_prompt_that_is_only_computed_has_no_answer() -> None:
    options = Options((("hi",),), prompt_only=True)
    events: list[Event] = [TextDelta(0, "a"), end(tokens=1)]

    body = whole(*events, options=options)
    assert (body["content"], body["tokens_predicted"], body["stop_type"]) == ("", 0, "limit")
    assert [chunk["stop"] for chunk in chunks(*events, options=options)] == [True]


def test_an_answer_that_the_context_ended_is_truncated() -> None:
    full = Envelope("demo", "hi", 7, SamplingParams(), n_ctx=9)
    long = end(reason=FinishReason.LENGTH, tokens=2)

    assert whole(TextDelta(0, "a"), long, envelope=full)["truncated"]
    assert not whole(TextDelta(0, "a"), long)["truncated"]
    assert not whole(TextDelta(0, "a"), end(tokens=2), envelope=full)["truncated"]


def test_only_the_fields_that_are_asked_for_are_sent() -> None:
    body = {"content": "a", "generation_settings": {"n_predict": 5}, "stop": True}

    assert chosen(body, ()) == body
    assert chosen(body, ("content", "generation_settings/n_predict", "nothing/at/all")) == {
        "content": "a",
        "generation_settings/n_predict": 5,
    }


def test_an_error_in_mid_stream_is_the_last_chunk() -> None:
    encoder = CompletionChunks(ENVELOPE, PLAIN)
    dies = end(reason=FinishReason.ERROR, error="It stopped.", code="engine_failed")
    sent = encoder.encode([TextDelta(0, "a"), dies])
    sent += encoder.fail(Failure(500, "It stopped.", "engine_failed")) + encoder.close()

    last = json.loads(sent.decode().split("\n\n")[-2].removeprefix("data: "))
    assert last == {"error": {"code": 500, "message": "It stopped.", "type": "server_error"}}


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure(400, "x"), "invalid_request_error"),
        (Failure(404, "x", "model_not_found"), "not_found_error"),
        (Failure(429, "x", "queue_full"), "unavailable_error"),
        (Failure(500, "x"), "server_error"),
        (Failure(501, "x"), "not_supported_error"),
        (Failure(503, "x", "draining"), "unavailable_error"),
    ],
)
def test_failures_have_llama_servers_words(failure: Failure, kind: str) -> None:
    error = {"code": failure.status, "message": "x", "type": kind}

    assert worded(failure) == (failure.status, {"error": error})


def test_a_prompt_too_long_says_by_how_much() -> None:
    numbers = {"n_prompt_tokens": 9, "n_ctx": 8}
    _, body = worded(Failure(400, "x", "context_length_exceeded", numbers=numbers))

    assert body["error"] == {
        "code": 400,
        "message": "x",
        "type": "exceed_context_size_error",
        **numbers,
    }


def test_half_a_code_point_is_its_bytes() -> None:
    assert encode_piece(1, b"a") == {"id": 1, "piece": "a"}
    assert encode_piece(2, b"\xf0\x9f") == {"id": 2, "piece": [240, 159]}
