"""Ollama's own client, and what clients of Ollama are known to trip over, against a scripted runtime."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import ollama
import pytest

from service.engine.sequence import Answer
from service.events import Event, TextDelta
from service.generation import SamplingParams, Tool
from service.text.interpreter import Interpreter
from service.text.reasoning import NONE, THINK, ReasoningFormat
from service.text.tool_calls import tool_format
from tests.dialects.fakes import FakeRuntime, Script, end, says
from tests.dialects.serving import serving, wait_until

ASK = [{"role": "user", "content": "hi"}]


@contextmanager
def client(runtime: FakeRuntime, path: str = "", **settings: Any) -> Iterator[ollama.Client]:
    with serving(runtime, **settings) as url, ollama.Client(host=url + path) as speaking:
        yield speaking


def sampled(
    pieces: Sequence[bytes],
    *,
    stop: tuple[str, ...] = (),
    form: ReasoningFormat = NONE,
    tools: str = "",
) -> Script:
    """What becomes of these tokens' bytes in an engine and above it: a batch for each token."""
    answer = Answer(SamplingParams(stop=stop))
    interpreter = Interpreter(0, form, False, tool_format(tools), (Tool("add"),))
    batches: list[list[Event]] = []
    for number, piece in enumerate(pieces):
        event, reason = answer.feed(
            0, number, piece, None, is_eog=False, is_last=number == len(pieces) - 1
        )
        if event is not None:
            batches.append([*interpreter.feed(event)])
        if reason is not None:
            break
    batches.append([*interpreter.flush(), end()])
    return [batch for batch in batches if batch]


@pytest.mark.parametrize("path", ["", "/ollama"])
def test_the_official_client_finds_all_that_it_looks_for(path: str) -> None:
    with client(FakeRuntime(script=says("Hel", "lo")), path) as speaking:
        (listed,) = speaking.list().models
        (loaded,) = speaking.ps().models
        streamed = list(speaking.chat("demo", ASK, stream=True))
        whole = speaking.generate("demo", "hi", options={"num_predict": 8, "seed": 1})
        vectors = speaking.embed("demo", ["a", "b c"])
        older = speaking.embeddings("demo", "a b")

    assert listed.model == "demo:latest"
    assert listed.digest
    assert loaded.context_length == 2048
    assert "".join(part.message.content or "" for part in streamed) == "Hello"
    assert all(part.message.role == "assistant" for part in streamed)
    assert [part.done for part in streamed] == [False, False, True]
    assert streamed[-1].eval_count == 2
    assert (whole.response, whole.done_reason) == ("Hello", "stop")
    assert whole.context
    assert len(vectors.embeddings) == 2
    assert list(older.embedding) == [3.0, 2.0]


def test_durations_are_nanoseconds_and_none_is_nothing() -> None:
    with client(FakeRuntime()) as speaking:
        answer = speaking.generate("demo", "hi")

    assert (answer.prompt_eval_duration, answer.eval_duration) == (250_000_000, 500_000_000)
    assert answer.total_duration is not None
    assert 1_000_000 > (answer.load_duration or 0) >= 1
    assert answer.total_duration > 1000


def test_the_official_client_is_told_what_is_wrong_with_its_status() -> None:
    with client(FakeRuntime()) as speaking:
        for call in (
            lambda: speaking.chat("nope", ASK),
            lambda: list(speaking.chat("nope", ASK, stream=True)),
            lambda: speaking.show("nope"),
            lambda: speaking.embed("nope", "x"),
        ):
            with pytest.raises(ollama.ResponseError, match="not found") as caught:
                call()
            assert caught.value.status_code == 404


def test_no_line_is_blank_and_the_last_is_done() -> None:
    runtime = FakeRuntime(script=says("a", "\n\n", "b\u2028c", ""))
    with serving(runtime) as url:
        body = httpx.post(f"{url}/api/chat", json={"model": "demo", "messages": ASK}).content

    written = body.removesuffix(b"\n").split(b"\n")
    assert all(written)
    assert [json.loads(line)["done"] for line in written] == [False, False, False, True]


def test_hanging_up_frees_the_place_at_each_stage() -> None:
    for runtime in (
        FakeRuntime(script=[[TextDelta(0, "a")], 60.0]),
        FakeRuntime(script=[60.0]),
        FakeRuntime(admitting=60.0),
    ):
        with serving(runtime) as url:
            for stream in (True, False):
                body = {"model": "demo", "messages": ASK, "stream": stream}
                with pytest.raises(httpx.ReadTimeout):
                    httpx.post(f"{url}/api/chat", json=body, timeout=0.3)
                wait_until(lambda runtime=runtime: not runtime.open)
            assert len(runtime.cancelled) == 2


def test_a_stop_string_that_is_split_over_tokens_is_not_shown() -> None:
    runtime = FakeRuntime(script=sampled([b"one ST", b"O", b"P two"], stop=("STOP",)))
    with client(runtime) as speaking:
        assert speaking.generate("demo", "hi").response == "one "


def test_an_emoji_that_is_split_over_tokens_comes_whole() -> None:
    emoji = "\N{GRINNING FACE}".encode()
    runtime = FakeRuntime(script=sampled([b"a", emoji[:1], emoji[1:3], emoji[3:], b"b"]))
    with client(runtime) as speaking:
        parts = [part.response for part in speaking.generate("demo", "hi", stream=True)]

    assert parts == ["a", "\N{GRINNING FACE}", "b", ""]


@pytest.mark.parametrize("think", [True, None])
def test_a_tag_that_is_split_over_tokens_is_a_tag(think: bool | None) -> None:
    pieces = [b"<th", b"ink>", b"h", b"m</", b"think", b">ok"]
    with client(FakeRuntime(script=sampled(pieces, form=THINK))) as speaking:
        message = speaking.chat("demo", ASK, think=think).message

    if think:
        assert (message.thinking, message.content) == ("hm", "ok")
    else:
        assert (message.thinking, message.content) == (None, "<think>hm</think>ok")


HERMES = '<tool_call>{"name": ..., "arguments": ...}</tool_call> {{ tools }}'
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def test_a_call_comes_whole_with_an_object() -> None:
    pieces = [
        b"<tool_call>\n",
        b'{"name": "add", "argu',
        b'ments": {"a": ',
        b"1}}\n",
        b"</tool_call>",
    ]
    with client(FakeRuntime(script=sampled(pieces, tools=HERMES))) as speaking:
        streamed = list(speaking.chat("demo", ASK, tools=[ADD], stream=True))

    calls = [call for part in streamed for call in part.message.tool_calls or ()]
    assert [(call.function.name, call.function.arguments) for call in calls] == [("add", {"a": 1})]
    assert streamed[-1].done_reason == "stop"


def test_a_call_that_nobody_can_read_is_text() -> None:
    pieces = [b"<tool_call>", b'{"name": "add", oops', b"</tool_call>"]
    with client(FakeRuntime(script=sampled(pieces, tools=HERMES))) as speaking:
        message = speaking.chat("demo", ASK, tools=[ADD]).message

    assert not message.tool_calls
    assert "oops" in (message.content or "")


def test_delete_with_a_body_and_head_are_understood() -> None:
    with serving(FakeRuntime()) as url:
        for path in ("/", "/api/tags", "/api/version"):
            assert httpx.head(url + path).status_code == 200
        with ollama.Client(host=url) as speaking, pytest.raises(ollama.ResponseError) as caught:
            speaking.delete("demo")

    # Understood, and refused: the bundled model is not of this server's own store.
    assert caught.value.status_code == 403
