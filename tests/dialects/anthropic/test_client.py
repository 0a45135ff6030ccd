"""Anthropic's own client against the app on a socket, its engine a script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam, ToolParam

from service.errors import (
    ContextOverflow,
    Draining,
    ModelLoadFailed,
    Overloaded,
)
from service.events import FinishReason, ReasoningDelta, TextDelta, ToolCallDelta
from service.generation import Chat, ToolCall
from tests.dialects.fakes import FakeRuntime, Script, end, says
from tests.dialects.serving import serving

HI: list[MessageParam] = [{"role": "user", "content": "hi"}]
ADD: ToolParam = {
    "name": "add",
    "input_schema": {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
    },
}
CALL: Script = [
    [ReasoningDelta(0, "hm"), TextDelta(0, "I add.")],
    [ToolCallDelta(0, 0, id="call_1", name="add")],
    [ToolCallDelta(0, 0, '{"a":')],
    [ToolCallDelta(0, 0, " 7}")],
    [end(reason=FinishReason.TOOL_CALLS)],
]


@contextmanager
def official(runtime: FakeRuntime, prefix: str = "") -> Iterator[anthropic.Anthropic]:
    with (
        serving(runtime) as url,
        anthropic.Anthropic(base_url=url + prefix, api_key="x", max_retries=0) as client,
    ):
        yield client


@pytest.mark.parametrize("prefix", ["", "/anthropic"])
def test_a_message(prefix: str) -> None:
    with official(FakeRuntime(), prefix) as client:
        answer = client.messages.create(model="demo", max_tokens=8, messages=HI)

    (block,) = answer.content
    assert block.type == "text"
    assert block.text == "Hello there"
    assert (answer.stop_reason, answer.model) == ("end_turn", "demo")
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens) == (5, 2)
    assert answer._request_id is not None
    assert answer.id == f"msg_{answer._request_id}"


def test_a_stream_through_the_helper_that_adds_events_up() -> None:
    texts: list[str] = []
    with official(FakeRuntime(script=says("Hel", "lo"))) as client:
        with client.messages.stream(model="demo", max_tokens=8, messages=HI) as stream:
            texts += stream.text_stream
            final = stream.get_final_message()

    assert texts == ["Hel", "lo"]
    assert [block.type for block in final.content] == ["text"]
    assert final.stop_reason == "end_turn"
    assert (final.usage.input_tokens, final.usage.output_tokens) == (5, 2)


def test_thoughts_and_a_tool_call_whole_and_streamed() -> None:
    asked: dict[str, Any] = {"model": "demo", "max_tokens": 8, "messages": HI, "tools": [ADD]}
    with official(FakeRuntime(script=CALL)) as client:
        whole = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            final = stream.get_final_message()

    for message in (whole, final):
        assert [block.model_dump(exclude_none=True) for block in message.content] == [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": "I add."},
            {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 7}},
        ]
        assert message.stop_reason == "tool_use"


def test_a_turn_that_the_client_sends_back_arrives() -> None:
    runtime = FakeRuntime(script=CALL)
    with official(runtime) as client:
        first = client.messages.create(model="demo", max_tokens=8, messages=HI, tools=[ADD])
        result: MessageParam = {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "8"}],
        }
        client.messages.create(
            model="demo", max_tokens=8, tools=[ADD], messages=[*HI, first.to_param(), result]
        )

    chat = runtime.requests[1].input
    assert isinstance(chat, Chat)
    user, assistant, tool = chat.messages
    assert user.content == "hi"
    assert (assistant.content, assistant.reasoning) == ("I add.", "hm")
    assert assistant.tool_calls == (ToolCall("toolu_1", "add", '{"a":7}'),)
    assert (tool.role, tool.content, tool.tool_call_id) == ("tool", "8", "toolu_1")


def test_models_under_the_prefix_are_in_anthropics_shape() -> None:
    with official(FakeRuntime(), "/anthropic") as client:
        assert [model.id for model in client.models.list()] == ["demo:latest"]
        assert client.models.retrieve("org/demo:latest").display_name == "demo:latest"


@pytest.mark.parametrize(
    ("runtime", "asked", "kind", "status", "type_"),
    [
        (FakeRuntime(), {"model": "nope"}, anthropic.NotFoundError, 404, "not_found_error"),
        (FakeRuntime(), {"max_tokens": 0}, anthropic.BadRequestError, 400, "invalid_request_error"),
        (FakeRuntime(script=ContextOverflow(9, 8, 0)), {}, anthropic.BadRequestError, 400,
         "invalid_request_error"),
        (FakeRuntime(script=Overloaded("full")), {}, anthropic.APIStatusError, 529,
         "overloaded_error"),
        (FakeRuntime(script=Draining("bye")), {}, anthropic.APIStatusError, 529,
         "overloaded_error"),
        (FakeRuntime(script=ModelLoadFailed("no")), {}, anthropic.InternalServerError, 500,
         "api_error"),
    ],
    ids=["model", "value", "overflow", "queue", "draining", "load"],
)  # fmt: skip
def test_errors_are_of_the_class_that_programs_catch(
    runtime: FakeRuntime,
    asked: dict[str, Any],
    kind: type[anthropic.APIStatusError],
    status: int,
    type_: str,
) -> None:
    with official(runtime) as client:
        with pytest.raises(kind) as caught:
            client.messages.create(**{"model": "demo", "max_tokens": 8, "messages": HI, **asked})

    error = caught.value
    assert isinstance(error.body, dict)
    assert (error.status_code, error.body["type"]) == (status, "error")
    assert error.body["error"]["type"] == type_
    assert error.request_id == error.body["request_id"] is not None


def test_a_full_queue_is_tried_again_when_it_says() -> None:
    answers: Iterator[Any] = iter([Overloaded("full", retry_after=0.1), says("now")])
    runtime = FakeRuntime(script=lambda request: next(answers))
    with official(runtime) as client:
        client.with_options(max_retries=2).messages.create(model="demo", max_tokens=8, messages=HI)

    assert len(runtime.requests) == 2


def test_an_error_in_mid_stream_is_raised_and_not_taken_for_an_end() -> None:
    dies = end(reason=FinishReason.ERROR, error="It stopped.", code="engine_crashed")
    with official(FakeRuntime(script=[[TextDelta(0, "a")], [dies]])) as client:
        with client.messages.stream(model="demo", max_tokens=8, messages=HI) as stream:
            with pytest.raises(anthropic.APIStatusError, match="It stopped"):
                stream.until_done()


async def test_leaving_in_the_middle_frees_the_slot() -> None:
    runtime = FakeRuntime(script=[[TextDelta(0, "a")], 30.0, [end()]])
    with serving(runtime) as url:
        async with anthropic.AsyncAnthropic(base_url=url, api_key="x") as client:
            async with client.messages.stream(model="demo", max_tokens=8, messages=HI) as stream:
                async for _ in stream.text_stream:
                    break

    assert runtime.cancelled


def test_the_message_starts_before_its_first_token() -> None:
    runtime = FakeRuntime(script=[30.0, [end()]])
    with official(runtime) as client:
        with client.messages.create(model="demo", max_tokens=8, messages=HI, stream=True) as stream:
            first = next(iter(stream))

    assert first.type == "message_start"
    assert first.message.usage.input_tokens == 7


def test_parameters_without_effect_are_named() -> None:
    with official(FakeRuntime()) as client:
        raw = client.messages.with_raw_response.create(
            model="demo",
            max_tokens=2048,
            messages=HI,
            thinking={"type": "enabled", "budget_tokens": 1024},
            metadata={"user_id": "me"},
            extra_body={"frobnicate": 1},
        )

    assert raw.headers["x-ignored-params"] == "frobnicate"


def test_the_tokens_of_a_prompt_are_counted_without_answering_it() -> None:
    runtime = FakeRuntime()
    with official(runtime) as client:
        counted = client.messages.count_tokens(model="demo", messages=HI, system="be brief")
        with pytest.raises(anthropic.NotFoundError):
            client.messages.count_tokens(model="nope", messages=HI)

    assert counted.input_tokens == len("<system>be brief<user>hi")
    assert runtime.requests == []


def test_a_model_that_cannot_think_is_not_said_to() -> None:
    with official(FakeRuntime(able_to=frozenset({"completion"}))) as client:
        raw = client.messages.with_raw_response.create(
            model="demo", max_tokens=8, messages=HI, thinking={"type": "adaptive"}
        )

    assert raw.headers["x-ignored-params"] == "thinking"
