from __future__ import annotations

import json
from typing import Any

from service.dialects.answers import collect
from service.dialects.failures import Failure
from service.dialects.tgi.encode import TokenEvents, encode_generation, encode_prefill
from service.dialects.tgi.request import GenerateOptions
from service.events import Event, FinishReason, Logprob, TextDelta, TokenLogprobs
from tests.dialects.fakes import FACTS, end

EOS = TokenLogprobs(Logprob(2, b"</s>", -0.25))


def lp(token: int, piece: bytes, logprob: float = -0.5, *top: Logprob) -> TokenLogprobs:
    return TokenLogprobs(Logprob(token, piece, logprob), top)


def said(token: int, text: str, index: int = 0, logprob: float = -0.5) -> TextDelta:
    return TextDelta(index, text, (lp(token, text.encode(), logprob),), 1)


def whole(options: GenerateOptions, *events: Event) -> dict[str, Any]:
    return encode_generation(collect(events), options, FACTS, [])


def events(options: GenerateOptions, *batches: list[Event]) -> list[dict[str, Any]]:
    encoder = TokenEvents(options, FACTS, 7)
    sent = b"".join(map(encoder.encode, batches)) + encoder.close()
    frames = sent.decode().split("\n\n")
    assert frames.pop() == ""
    assert all(frame.startswith("data: ") for frame in frames)
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def test_an_answer_without_details_is_its_text() -> None:
    assert whole(GenerateOptions("hi", None), said(5, "Hello"), end()) == {
        "generated_text": "Hello"
    }


def test_the_prompt_is_put_in_front_where_it_is_wanted() -> None:
    options = GenerateOptions("hi", None, full_text="hi")

    assert whole(options, said(5, " you"), end())["generated_text"] == "hi you"


def test_details_have_each_token_and_the_end_token_that_is_no_text() -> None:
    options = GenerateOptions("hi", None, details=True)
    body = whole(options, said(5, "Hel"), said(6, "lo"), end(end_token=EOS, seed=9))

    assert body == {
        "generated_text": "Hello",
        "details": {
            "finish_reason": "eos_token",
            "generated_tokens": 3,
            "seed": None,
            "prefill": [],
            "tokens": [
                {"id": 5, "text": "Hel", "logprob": -0.5, "special": False},
                {"id": 6, "text": "lo", "logprob": -0.5, "special": False},
                {"id": 2, "text": "</s>", "logprob": -0.25, "special": True},
            ],
        },
    }


def test_the_seed_that_was_used_comes_back_where_one_was() -> None:
    options = GenerateOptions("hi", None, details=True, sampling=True)

    assert whole(options, said(5, "x"), end(seed=9))["details"]["seed"] == 9


def test_the_likeliest_tokens_come_beside_each_token() -> None:
    options = GenerateOptions("hi", None, details=True, top_n_tokens=2)
    top = (Logprob(5, b"x", -0.5), Logprob(2, b"</s>", -float("inf")))
    delta = TextDelta(0, "x", (lp(5, b"x", -0.5, *top),), 1)
    body = whole(options, delta, end())

    assert body["details"]["top_tokens"] == [
        [
            {"id": 5, "text": "x", "logprob": -0.5, "special": False},
            {"id": 2, "text": "</s>", "logprob": -9999.0, "special": True},
        ]
    ]


def test_of_two_answers_the_likelier_is_the_answer() -> None:
    options = GenerateOptions("hi", None, details=True, sampling=True)
    body = whole(options, said(5, "no", 0, -2.0), said(6, "yes", 1, -0.1), end(0), end(1, seed=4))

    assert body["generated_text"] == "yes"
    (other,) = body["details"]["best_of_sequences"]
    assert other["generated_text"] == "no"
    assert other["tokens"][0]["id"] == 5


def test_a_prompts_first_token_was_predicted_by_nothing() -> None:
    assert encode_prefill([1, 5], {1: b"<s>", 5: b"hi"}, [None, lp(5, b"hi", -3.0)]) == [
        {"id": 1, "text": "<s>", "logprob": None},
        {"id": 5, "text": "hi", "logprob": -3.0},
    ]


def test_a_stream_has_one_event_for_each_token_and_ends_with_the_text() -> None:
    options = GenerateOptions("hi", None, details=True)
    first, second, last = events(options, [said(5, "Hel")], [said(6, "lo")], [end(end_token=EOS)])

    assert first == {
        "index": 1,
        "token": {"id": 5, "text": "Hel", "logprob": -0.5, "special": False},
        "generated_text": None,
        "details": None,
    }
    assert second["index"] == 2
    assert last == {
        "index": 3,
        "token": {"id": 2, "text": "</s>", "logprob": -0.25, "special": True},
        "generated_text": "Hello",
        "details": {
            "finish_reason": "eos_token",
            "generated_tokens": 3,
            "seed": None,
            "input_length": 7,
        },
    }


def test_details_of_a_stream_are_null_unless_asked_for() -> None:
    (last,) = events(GenerateOptions("hi", 1), [said(5, "x"), end(reason=FinishReason.LENGTH)])

    assert last["generated_text"] == "x"
    assert last["details"] is None


def test_an_answer_that_its_length_ended_ends_with_its_last_token() -> None:
    first, last = events(
        GenerateOptions("hi", 2, full_text="hi"),
        [said(5, " a")],
        [said(6, " b"), end(reason=FinishReason.LENGTH, tokens=2)],
    )

    assert first["generated_text"] is None
    assert last["token"]["text"] == " b"
    assert last["generated_text"] == "hi a b"


def test_a_token_within_a_code_point_has_an_event_of_its_own() -> None:
    data = "😀".encode()
    delta = TextDelta(0, "😀", (lp(5, data[:2]), lp(6, data[2:])), 2)
    texts = [
        event["token"]["text"]
        for event in events(GenerateOptions("hi", None), [delta, end(end_token=EOS)])
    ]

    assert texts == ["", "😀", "</s>"]


def test_an_answer_without_time_for_its_end_says_that_it_is_incomplete() -> None:
    *_, last = events(
        GenerateOptions("hi", None), [said(5, "x")], [end(reason=FinishReason.TIMEOUT)]
    )

    assert last["error_type"] == "incomplete_generation_stream"


def test_a_stream_that_breaks_says_why_in_tgis_shape() -> None:
    encoder = TokenEvents(GenerateOptions("hi", None), FACTS, 7)

    assert json.loads(encoder.fail(Failure(500, "it died", "engine_failed"))[6:]) == {
        "error": "Request failed during generation: it died",
        "error_type": "generation",
    }
