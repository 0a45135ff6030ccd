"""HuggingFace's own client against the app on a socket, its engine a script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import OverloadedError, ValidationError

from service.errors import Overloaded
from service.events import FinishReason, Logprob, TextDelta, TokenLogprobs, ToolCallDelta
from tests.dialects.fakes import FakeRuntime, Script, end, says
from tests.dialects.serving import serving

HI: Any = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
EOS = TokenLogprobs(Logprob(2, b"</s>", -0.25))


def said(token: int, text: str) -> TextDelta:
    return TextDelta(0, text, (TokenLogprobs(Logprob(token, text.encode(), -0.5)),), 1)


HELLO: Script = [[said(5, "Hello")], [said(6, " there")], [end(end_token=EOS, seed=7)]]


@contextmanager
def hub(runtime: FakeRuntime, prefix: str = "/tgi") -> Iterator[InferenceClient]:
    with serving(runtime) as url:
        yield InferenceClient(url + prefix, provider="hf-inference")


@pytest.mark.parametrize("prefix", ["", "/tgi"])
def test_a_text(prefix: str) -> None:
    with hub(FakeRuntime(script=HELLO), prefix) as client:
        assert client.text_generation("hi", max_new_tokens=5) == "Hello there"


@pytest.mark.parametrize("prefix", ["", "/tgi"])
def test_a_stream_of_text_in_which_this_client_shows_the_end_token_too(prefix: str) -> None:
    with hub(FakeRuntime(script=HELLO), prefix) as client:
        parts = list(client.text_generation("hi", max_new_tokens=5, stream=True))

    assert parts == ["Hello", " there", "</s>"]


def test_a_text_with_its_details() -> None:
    runtime = FakeRuntime(script=HELLO)
    with hub(runtime) as client:
        answer = client.text_generation("hi", details=True, do_sample=True, seed=7, top_p=0.9)

    assert answer.generated_text == "Hello there"
    assert answer.details is not None
    assert answer.details.finish_reason == "eos_token"
    assert answer.details.seed == 7
    assert [(t.id, t.text, t.special) for t in answer.details.tokens] == [
        (5, "Hello", False),
        (6, " there", False),
        (2, "</s>", True),
    ]


def test_a_stream_with_its_details() -> None:
    with hub(FakeRuntime(script=HELLO)) as client:
        *_, last = client.text_generation("hi", details=True, stream=True)

    assert last.generated_text == "Hello there"
    assert last.details is not None
    assert last.details.generated_tokens == 3
    assert last.details.input_length == 7


def test_the_best_of_two_texts() -> None:
    script: Script = [[said(5, "a"), TextDelta(1, "b"), end(0), end(1)]]
    with hub(FakeRuntime(script=script)) as client:
        answer = client.text_generation("hi", best_of=2, do_sample=True, details=True)

    assert answer.details is not None
    assert len(answer.details.best_of_sequences or []) == 1


def test_the_stop_string_stays_in_the_text() -> None:
    runtime = FakeRuntime(script=says("Hello", stop="lo"))
    with hub(runtime) as client:
        client.text_generation("hi", stop=["lo"])

    assert runtime.requests[0].sampling.stop == ("lo",)
    assert runtime.requests[0].sampling.include_stop


@pytest.mark.parametrize("prefix", ["", "/tgi"])
def test_a_chat_whole_and_streamed(prefix: str) -> None:
    with hub(FakeRuntime(), prefix) as client:
        whole = client.chat_completion(HI, max_tokens=8)
        parts = list(client.chat_completion(HI, max_tokens=8, stream=True))

    assert whole.choices[0].message.content == "Hello there"
    text = "".join(c.delta.content or "" for part in parts for c in part.choices)
    assert text == "Hello there"


def test_a_chat_that_calls_a_tool() -> None:
    script: Script = [
        [ToolCallDelta(0, 0, '{"a": 7}', id="call_1", name="add")],
        [end(reason=FinishReason.TOOL_CALLS)],
    ]
    tools: Any = [{"type": "function", "function": {"name": "add", "parameters": SCHEMA}}]
    with hub(FakeRuntime(script=script)) as client:
        (call,) = client.chat_completion(HI, tools=tools).choices[0].message.tool_calls or []

    assert (call.function.name, call.function.arguments) == ("add", '{"a": 7}')


@pytest.mark.parametrize("prefix", ["", "/tgi"])
def test_a_chat_held_to_a_schema(prefix: str) -> None:
    runtime = FakeRuntime()
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    with hub(runtime, prefix) as client:
        client.chat_completion(HI, response_format=wanted)

    assert runtime.requests[0].response_format.schema == SCHEMA


def test_what_the_server_is() -> None:
    with hub(FakeRuntime()) as client:
        assert client.get_endpoint_info()["max_total_tokens"] == 2048
        assert client.health_check()


def test_a_refusal_reaches_the_caller_as_what_it_is() -> None:
    with hub(FakeRuntime()) as client:
        with pytest.raises(ValidationError, match="strictly positive"):
            client.text_generation("hi", temperature=0.0)
    with hub(FakeRuntime(script=Overloaded("full"))) as client:
        with pytest.raises(OverloadedError):
            client.text_generation("hi")
