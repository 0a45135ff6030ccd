"""The Responses API through OpenAI's own client, the engine a script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import openai
import pydantic
import pytest
from openai.types.responses import FunctionToolParam

from service.errors import ContextOverflow, Overloaded
from service.events import FinishReason, ReasoningDelta, TextDelta, ToolCallDelta
from service.generation import Chat, Message, ToolCall
from tests.dialects.fakes import FakeRuntime, Script, end, says
from tests.dialects.serving import serving, wait_until

ADD: FunctionToolParam = {
    "type": "function",
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    "strict": False,
}
CALL: Script = [
    [ReasoningDelta(0, "hm"), TextDelta(0, "I add.")],
    [ToolCallDelta(0, 0, id="call_1", name="add")],
    [ToolCallDelta(0, 0, '{"a": 7}')],
    [end(reason=FinishReason.TOOL_CALLS)],
]


@contextmanager
def official(runtime: FakeRuntime, prefix: str = "") -> Iterator[openai.OpenAI]:
    with (
        serving(runtime) as url,
        openai.OpenAI(base_url=f"{url}{prefix}/v1", api_key="x", max_retries=0) as client,
    ):
        yield client


@pytest.mark.parametrize("prefix", ["", "/openai"])
def test_a_response(prefix: str) -> None:
    with official(FakeRuntime(), prefix) as client:
        answer = client.responses.create(model="demo", input="hi", max_output_tokens=8)

    assert answer.output_text == "Hello there"
    assert (answer.status, answer.model) == ("completed", "demo")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.total_tokens) == (7, 9)
    assert answer.id == f"resp_{answer._request_id}"
    assert answer.max_output_tokens == 8


def test_a_stream_through_the_helper_that_adds_events_up() -> None:
    with official(FakeRuntime(script=CALL)) as client:
        with client.responses.stream(model="demo", input="hi", tools=[ADD]) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_response()

    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert "response.reasoning_text.delta" in kinds
    assert kinds[-1] == "response.completed"
    assert final.output_text == "I add."
    call = final.output[2]
    assert call.type == "function_call"
    assert (call.call_id, call.name, call.arguments) == ("call_1", "add", '{"a": 7}')


def test_a_conversation_goes_on_by_the_id_of_its_last_response() -> None:
    runtime = FakeRuntime(script=CALL)
    with official(runtime) as client:
        first = client.responses.create(
            model="demo", input="What is 7?", instructions="be brief", tools=[ADD]
        )
        client.responses.create(
            model="demo",
            previous_response_id=first.id,
            input=[{"type": "function_call_output", "call_id": "call_1", "output": "8"}],
        )

    chat = runtime.requests[1].input
    assert isinstance(chat, Chat)
    assert chat.messages == (
        Message("user", "What is 7?"),
        Message("assistant", "I add.", "hm", (ToolCall("call_1", "add", '{"a": 7}'),)),
        Message("tool", "8", tool_call_id="call_1"),
    )


def test_a_streamed_response_can_be_gone_on_from_as_soon_as_it_has_ended() -> None:
    runtime = FakeRuntime()
    with official(runtime) as client:
        stream = client.responses.create(model="demo", input="hi", stream=True)
        id = [event for event in stream if event.type == "response.completed"][0].response.id
        client.responses.create(model="demo", previous_response_id=id, input="more")

    chat = runtime.requests[1].input
    assert isinstance(chat, Chat)
    assert [message.content for message in chat.messages] == ["hi", "Hello there", "more"]


def test_a_response_can_be_asked_for_and_deleted() -> None:
    with official(FakeRuntime()) as client:
        made = client.responses.create(model="demo", input="hi")

        assert client.responses.retrieve(made.id).output_text == "Hello there"
        client.responses.delete(made.id)
        for gone in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
            with pytest.raises(openai.NotFoundError):
                gone(made.id)


def test_a_response_that_is_not_to_be_stored_is_not() -> None:
    with official(FakeRuntime()) as client:
        made = client.responses.create(model="demo", input="hi", store=False)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(made.id)


def test_a_response_in_the_making_is_seen_and_forgotten_when_its_client_leaves() -> None:
    runtime = FakeRuntime(script=[[TextDelta(0, "a")], 30.0, [end()]])
    with official(runtime) as client:
        stream = client.responses.create(model="demo", input="hi", stream=True)
        first = next(iter(stream))
        assert first.type == "response.created"
        assert client.responses.retrieve(first.response.id).status == "in_progress"
        stream.close()
        wait_until(lambda: runtime.cancelled)

        def forgotten() -> bool:
            try:
                client.responses.retrieve(first.response.id)
            except openai.NotFoundError:
                return True
            return False

        wait_until(forgotten)


def test_a_parsed_answer() -> None:
    class Sum(pydantic.BaseModel):
        n: int

    runtime = FakeRuntime(script=says('{"n":', " 5}"))
    with official(runtime) as client:
        parsed = client.responses.parse(model="demo", input="hi", text_format=Sum)

    assert parsed.output_parsed == Sum(n=5)
    assert runtime.requests[0].response_format.kind == "schema"


def test_errors_are_of_the_class_that_programs_catch() -> None:
    with official(FakeRuntime(script=Overloaded("full"))) as client:
        with pytest.raises(openai.RateLimitError):
            client.responses.create(model="demo", input="hi")
        with pytest.raises(openai.NotFoundError):
            client.responses.create(model="demo", input="hi", previous_response_id="resp_0")
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(model="demo", input="hi", background=True)
    assert caught.value.param == "background"
    with official(FakeRuntime(script=ContextOverflow(9, 8, 0))) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(model="demo", input="hi")
    assert caught.value.code == "context_length_exceeded"


def test_a_failure_in_mid_stream_is_a_failed_response() -> None:
    dies = end(reason=FinishReason.ERROR, error="It stopped.", code="engine_crashed")
    with official(FakeRuntime(script=[[TextDelta(0, "a")], [dies]])) as client:
        events = list(client.responses.create(model="demo", input="hi", stream=True))

        last = events[-1]
        assert last.type == "response.failed"
        assert last.response.error is not None
        assert last.response.error.message == "It stopped."
        assert client.responses.retrieve(last.response.id).status == "failed"


def test_parameters_without_effect_are_named() -> None:
    with official(FakeRuntime()) as client:
        raw = client.responses.with_raw_response.create(
            model="demo",
            input="hi",
            tools=[{"type": "web_search"}],
            include=["reasoning.encrypted_content"],
            user="me",
            extra_body={"frobnicate": 1},
        )

    assert raw.headers["x-ignored-params"] == "frobnicate, tools.0.type, include"


def test_a_response_in_the_making_can_be_cancelled() -> None:
    runtime = FakeRuntime(script=[[TextDelta(0, "a")], 30.0, [end()]])
    with official(runtime) as client:
        stream = client.responses.create(model="demo", input="hi", stream=True)
        first = next(iter(stream))
        assert first.type == "response.created"

        assert client.responses.cancel(first.response.id).status == "cancelled"
        assert runtime.cancelled == [first.response.id.removeprefix("resp_")]
        stream.close()


def test_a_response_that_has_ended_cannot_be_cancelled() -> None:
    with official(FakeRuntime()) as client:
        made = client.responses.create(model="demo", input="hi")
        with pytest.raises(openai.BadRequestError):
            client.responses.cancel(made.id)


def test_the_tokens_of_a_prompt_are_counted_without_answering_it() -> None:
    runtime = FakeRuntime()
    with official(runtime) as client:
        counted = client.responses.input_tokens.count(model="demo", input="hi")

    assert counted.input_tokens == len("<user>hi")
    assert runtime.requests == []
