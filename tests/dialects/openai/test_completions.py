from __future__ import annotations

import json
from typing import Any

import pytest

from service.dialects.answers import collect
from service.dialects.fields import Fields
from service.dialects.openai.completions_encode import CompletionChunks, encode_completions
from service.dialects.openai.completions_request import CompletionOptions, parse_completions
from service.dialects.openai.shapes import Envelope
from service.errors import InvalidRequest
from service.events import Event, FinishReason, Logprob, PromptLogprobs, TextDelta, TokenLogprobs
from service.generation import GenerationRequest, Text, Tokens
from tests.dialects.fakes import end

ENVELOPE = Envelope("cmpl-1", 1760000000, "demo", "fp_1")
HEAD = (
    '{"id":"cmpl-1","object":"text_completion","created":1760000000,"model":"demo",'
    '"system_fingerprint":"fp_1"'
)


def parse(**body: Any) -> tuple[list[GenerationRequest], CompletionOptions]:
    return parse_completions(
        Fields({"prompt": "hi", **body}),
        id="r",
        arrived=0.0,
        endpoint="/v1/completions",
        default_max_tokens=16,
    )


def lp(token: int, piece: bytes, logprob: float, *top: Logprob) -> TokenLogprobs:
    return TokenLogprobs(Logprob(token, piece, logprob), top)


def encoded(options: CompletionOptions, *events: Event) -> list[Any]:
    choices: list[Any] = encode_completions(ENVELOPE, collect(events), options)["choices"]
    return choices


@pytest.mark.parametrize(
    ("prompt", "inputs"),
    [
        ("a", [Text("a")]),
        ("", [Text("")]),
        (["a", "b"], [Text("a"), Text("b")]),
        ([1, 2], [Tokens((1, 2))]),
        ([[1], [2, 3]], [Tokens((1,)), Tokens((2, 3))]),
        (["a", [1]], [Text("a"), Tokens((1,))]),
    ],
)
def test_each_form_of_prompt_is_read(prompt: Any, inputs: list[Text | Tokens]) -> None:
    requests, _ = parse(prompt=prompt)

    assert [request.input for request in requests] == inputs
    assert len({request.id for request in requests}) == len(inputs)


@pytest.mark.parametrize(
    ("wire", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": [1.5]}, "prompt.0"),
        ({"prompt": [1, "a"]}, "prompt.1"),
        ({"prompt": [[1], [-1]]}, "prompt.1.0"),
        ({"prompt": ["a", 1]}, "prompt.1"),
        ({"prompt": [True]}, "prompt.0"),
        ({"prompt": ["a"] * 1025}, "prompt"),
        ({"suffix": "x", "prompt": [1, 2]}, "suffix"),
        ({"suffix": 1}, "suffix"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"prompt_logprobs": -1}, "prompt_logprobs"),
        ({"n": 2, "best_of": 1}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(wire: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**wire)

    assert caught.value.param == param


def test_an_answer_is_sixteen_tokens_long_unless_asked() -> None:
    assert parse()[0][0].sampling.max_tokens == 16
    assert parse(max_tokens=5)[0][0].sampling.max_tokens == 5


def test_scoring_a_prompt_asks_for_its_logprobs() -> None:
    (request,), options = parse(echo=True, logprobs=1, max_tokens=0)

    assert options.scoring
    assert request.sampling.prompt_logprobs == 1
    assert request.sampling.max_tokens == 1


def test_a_stream_byte_for_byte() -> None:
    _, options = parse(stream=True, stream_options={"include_usage": True})
    chunks = CompletionChunks(ENVELOPE, options)
    sent = chunks.encode([TextDelta(0, "a\n")]) + chunks.encode([end()]) + chunks.close()

    assert sent.decode() == (
        f'data: {HEAD},"choices":[{{"text":"a\\n","index":0,"logprobs":null,'
        '"finish_reason":null}],"usage":null}\n\n'
        f'data: {HEAD},"choices":[{{"text":"","index":0,"logprobs":null,'
        '"finish_reason":"stop"}],"usage":null}\n\n'
        f'data: {HEAD},"choices":[],"usage":{{"prompt_tokens":7,"completion_tokens":3,'
        '"total_tokens":10,"prompt_tokens_details":{"cached_tokens":2,"audio_tokens":0},'
        '"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,'
        '"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}\n\n'
        "data: [DONE]\n\n"
    )


def test_usage_that_is_asked_for_all_along_is_in_every_chunk() -> None:
    _, options = parse(
        prompt=["a", "b"], stream=True, stream_options={"continuous_usage_stats": True}
    )
    admitted = {0: 5}
    chunks = CompletionChunks(ENVELOPE, options, {}, admitted)
    sent = chunks.encode([TextDelta(0, "x", tokens=2), TextDelta(0, "", tokens=1)])
    admitted[1] = 6
    sent += chunks.encode([TextDelta(1, "y", tokens=1), end(0), end(1)]) + chunks.close()
    found = [json.loads(line[6:])["usage"] for line in sent.decode().split("\n\n")[:-2]]

    counted = [(each["prompt_tokens"], each["completion_tokens"]) for each in found]
    # Each answer of this end has three tokens, and each prompt seven.
    assert counted == [(5, 2), (11, 4), (11, 4), (11, 6), (14, 6)]
    assert all(each["total_tokens"] == sum(pair) for each, pair in zip(found, counted, strict=True))


def test_an_echoed_prompt_comes_first_and_once() -> None:
    _, options = parse(echo=True)
    chunks = CompletionChunks(ENVELOPE, options)
    events: list[Event] = [TextDelta(0, " you"), TextDelta(0, "!"), end()]
    lines = chunks.encode(events).decode().split("\n\n")[:-1]
    texts = [json.loads(line.removeprefix("data: "))["choices"][0]["text"] for line in lines]

    assert texts == ["hi", " you", "!", ""]
    assert encoded(options, *events)[0]["text"] == "hi you!"


def test_logprobs_are_four_columns() -> None:
    _, options = parse(logprobs=1)
    top = Logprob(9, b" me", -0.25)
    events: list[Event] = [
        TextDelta(0, " you", (lp(4, b" you", -1.5, top),)),
        TextDelta(0, "!", (lp(5, b"!", 0.0),)),
    ]

    (choice,) = encoded(options, *events, end())

    assert choice["logprobs"] == {
        "tokens": [" you", "!"],
        "token_logprobs": [-1.5, 0.0],
        "top_logprobs": [{" me": -0.25, " you": -1.5}, {"!": 0.0}],
        "text_offset": [0, 4],
    }


def test_scores_of_a_prompt_begin_with_a_token_that_has_none() -> None:
    _, options = parse(prompt="the cat", echo=True, logprobs=0, max_tokens=0)
    prompt = PromptLogprobs(0, (None, lp(3, b" cat", -2.0)))
    body = encode_completions(
        ENVELOPE, collect([prompt, TextDelta(0, "!", (lp(5, b"!", -1.0),)), end()]), options
    )

    assert body["choices"] == [
        {
            "text": "the cat",
            "index": 0,
            "logprobs": {
                "tokens": ["the", " cat"],
                "token_logprobs": [None, -2.0],
                "top_logprobs": [None, {" cat": -2.0}],
                "text_offset": [0, 3],
            },
            "finish_reason": "length",
        }
    ]
    assert body["usage"]["completion_tokens"] == 0


def test_the_answers_of_prompt_i_are_numbered_from_i_times_n() -> None:
    _, options = parse(prompt=["a", "b"], n=2, echo=True)
    events: list[Event] = [
        event for index in range(4) for event in (TextDelta(index, f"-{index}"), end(index))
    ]

    choices = encoded(options, *events)

    assert [(c["index"], c["text"]) for c in choices] == [
        (0, "a-0"),
        (1, "a-1"),
        (2, "b-2"),
        (3, "b-3"),
    ]


def test_the_best_of_several_are_those_the_model_found_likeliest() -> None:
    (request,), options = parse(best_of=3, n=1)
    scores = {0: -2.0, 1: -0.5, 2: -1.0}
    events: list[Event] = []
    for index, score in scores.items():
        events += [TextDelta(index, f"t{index}", (lp(1, b"t", score),)), end(index)]

    body = encode_completions(ENVELOPE, collect(events), options)

    assert (request.n, request.sampling.logprobs) == (3, 0)
    assert [(c["index"], c["text"], c["logprobs"]) for c in body["choices"]] == [(0, "t1", None)]
    # What was thrown away was computed all the same.
    assert body["usage"]["completion_tokens"] == 9


def test_a_stop_string_is_named() -> None:
    _, options = parse()

    (choice,) = encoded(options, end(reason=FinishReason.STOP, stop="\n"))

    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "\n")
