"""OpenAI's own client against the app on a socket, its engine a script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from service.errors import ContextOverflow, ModelLoadFailed, Overloaded
from service.events import (
    FinishReason,
    Logprob,
    ReasoningDelta,
    TextDelta,
    TokenLogprobs,
    ToolCallDelta,
)
from service.generation import Infill, ResponseFormat
from tests.dialects.fakes import FakeRuntime, Script, end, says
from tests.dialects.serving import serving

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
ADD: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "add",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
}
CALL: Script = [
    [ToolCallDelta(0, 0, id="call_1", name="add")],
    [ToolCallDelta(0, 0, '{"a":')],
    [ToolCallDelta(0, 0, " 7}")],
    [end(reason=FinishReason.TOOL_CALLS)],
]
LOGPROB = TokenLogprobs(Logprob(1, b"a", -0.1), (Logprob(1, b"a", -0.1), Logprob(2, b"b", -3.0)))


@contextmanager
def official(runtime: FakeRuntime, prefix: str = "") -> Iterator[openai.OpenAI]:
    with (
        serving(runtime) as url,
        openai.OpenAI(base_url=f"{url}{prefix}/v1", api_key="x", max_retries=0) as client,
    ):
        yield client


@pytest.mark.parametrize("prefix", ["", "/openai"])
def test_a_chat(prefix: str) -> None:
    with official(FakeRuntime(), prefix) as client:
        answer = client.chat.completions.create(model="demo", messages=HI, max_tokens=8, seed=1)

    assert answer.choices[0].message.content == "Hello there"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 9
    assert answer._request_id is not None
    assert answer.id == f"chatcmpl-{answer._request_id}"


def test_a_stream_through_the_helper_that_adds_deltas_up() -> None:
    events = []
    with official(FakeRuntime(script=says("Hel", "lo"))) as client:
        with client.chat.completions.stream(
            model="demo", messages=HI, stream_options={"include_usage": True}
        ) as stream:
            events += [event.type for event in stream]
            final = stream.get_final_completion()

    assert "content.delta" in events
    assert final.choices[0].message.role == "assistant"
    assert final.choices[0].message.content == "Hello"
    assert final.choices[0].finish_reason == "stop"
    assert final.usage is not None
    assert final.usage.completion_tokens == 2


def test_thoughts_reach_a_client_that_looks_for_them() -> None:
    script: Script = [[ReasoningDelta(0, "hm")], [TextDelta(0, "a"), end()]]
    with official(FakeRuntime(script=script)) as client:
        whole = client.chat.completions.create(model="demo", messages=HI)
        parts = list(client.chat.completions.create(model="demo", messages=HI, stream=True))

    extra = whole.choices[0].message.model_extra
    assert extra == {"reasoning": "hm", "reasoning_content": "hm"}
    thoughts = [getattr(c.choices[0].delta, "reasoning", None) for c in parts]
    assert "hm" in thoughts


def test_a_tool_call_whole_and_streamed() -> None:
    with official(FakeRuntime(script=CALL)) as client:
        whole = client.chat.completions.create(model="demo", messages=HI, tools=[ADD])
        with client.chat.completions.stream(model="demo", messages=HI, tools=[ADD]) as stream:
            final = stream.get_final_completion()

    for choice in (whole.choices[0], final.choices[0]):
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None or choice.message.content == ""
        assert choice.message.tool_calls is not None
        (call,) = choice.message.tool_calls
        assert call.type == "function"
        assert (call.id, call.function.name, call.function.arguments) == (
            "call_1",
            "add",
            '{"a": 7}',
        )


def test_a_parsed_answer() -> None:
    class Sum(pydantic.BaseModel):
        n: int

    runtime = FakeRuntime(script=says('{"n":', " 5}"))
    with official(runtime) as client:
        parsed = client.chat.completions.parse(model="demo", messages=HI, response_format=Sum)

    assert parsed.choices[0].message.parsed == Sum(n=5)
    assert runtime.requests[0].response_format.kind == "schema"


def test_logprobs() -> None:
    script: Script = [[TextDelta(0, "a", (LOGPROB,)), end()]]
    with official(FakeRuntime(script=script)) as client:
        answer = client.chat.completions.create(
            model="demo", messages=HI, logprobs=True, top_logprobs=2
        )

    assert answer.choices[0].logprobs is not None
    (token,) = answer.choices[0].logprobs.content or []
    assert (token.token, token.logprob, token.bytes) == ("a", -0.1, [97])
    assert [top.token for top in token.top_logprobs] == ["a", "b"]


def test_several_answers_streamed_at_once() -> None:
    script: Script = [[TextDelta(0, "a"), TextDelta(1, "x")], [TextDelta(0, "b"), end(0), end(1)]]
    with official(FakeRuntime(script=script)) as client:
        whole = client.chat.completions.create(model="demo", messages=HI, n=2)
        with client.chat.completions.stream(model="demo", messages=HI, n=2) as stream:
            final = stream.get_final_completion()

    assert [c.message.content for c in whole.choices] == ["ab", "x"]
    assert [c.message.content for c in final.choices] == ["ab", "x"]


def test_completions_of_several_prompts() -> None:
    with official(FakeRuntime(script=says("x", index=0) + says("y", index=1))) as client:
        answer = client.completions.create(model="demo", prompt=["a", "b"], n=2, max_tokens=4)
        chunks = list(client.completions.create(model="demo", prompt=["a", "b"], n=2, stream=True))

    assert [(c.index, c.text) for c in answer.choices] == [(0, "x"), (1, "y"), (2, "x"), (3, "y")]
    assert {c.choices[0].index for c in chunks} == {0, 1, 2, 3}


def test_models() -> None:
    with official(FakeRuntime()) as client:
        assert [model.id for model in client.models.list()] == ["demo:latest"]
        assert client.models.retrieve("org/demo:latest").id == "org/demo:latest"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nope")


@pytest.mark.parametrize(
    ("runtime", "request_", "kind", "code"),
    [
        (FakeRuntime(), {"model": "nope"}, openai.NotFoundError, "model_not_found"),
        (FakeRuntime(), {"temperature": 3}, openai.BadRequestError, "invalid_request"),
        (
            FakeRuntime(script=ContextOverflow(9, 8, 0)),
            {},
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        (FakeRuntime(script=Overloaded("full")), {}, openai.RateLimitError, "queue_full"),
        (
            FakeRuntime(script=ModelLoadFailed("no")),
            {},
            openai.InternalServerError,
            "model_load_failed",
        ),
    ],
    ids=["model", "value", "overflow", "queue", "load"],
)
def test_errors_are_of_the_class_that_programs_catch(
    runtime: FakeRuntime, request_: dict[str, Any], kind: type[openai.APIStatusError], code: str
) -> None:
    with official(runtime) as client:
        with pytest.raises(kind) as caught:
            client.chat.completions.create(**{"model": "demo", "messages": HI, **request_})

    assert caught.value.code == code


def test_what_will_not_get_better_is_not_tried_again() -> None:
    runtime = FakeRuntime(script=ModelLoadFailed("never"))
    with official(runtime) as client:
        with pytest.raises(openai.InternalServerError):
            client.with_options(max_retries=2).chat.completions.create(model="demo", messages=HI)

    assert len(runtime.requests) == 1


def test_a_full_queue_is_tried_again_when_it_says() -> None:
    answers: Iterator[Any] = iter([Overloaded("full", retry_after=0.1), says("now")])
    runtime = FakeRuntime(script=lambda request: next(answers))
    with official(runtime) as client:
        answer = client.with_options(max_retries=2).chat.completions.create(
            model="demo", messages=HI
        )

    assert answer.choices[0].message.content == "now"
    assert len(runtime.requests) == 2


def test_an_error_in_mid_stream_is_raised_and_not_taken_for_an_end() -> None:
    dies = end(reason=FinishReason.ERROR, error="It stopped.", code="engine_crashed")
    with official(FakeRuntime(script=[[TextDelta(0, "a")], [dies]])) as client:
        stream = client.chat.completions.create(model="demo", messages=HI, stream=True)
        with pytest.raises(openai.APIError, match="It stopped"):
            list(stream)


async def test_the_asynchronous_client_can_leave_in_the_middle() -> None:
    runtime = FakeRuntime(script=[[TextDelta(0, "a")], 30.0, [end()]])
    with serving(runtime) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x") as client:
            stream = await client.chat.completions.create(model="demo", messages=HI, stream=True)
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
            await stream.close()

    assert runtime.cancelled


def test_what_the_client_sends_arrives() -> None:
    runtime = FakeRuntime()
    with official(runtime) as client:
        client.chat.completions.create(
            model="demo",
            messages=HI,
            temperature=0.5,
            top_p=0.9,
            presence_penalty=0.1,
            frequency_penalty=0.2,
            stop=["x"],
            logit_bias={"5": -100},
            response_format={"type": "json_object"},
            extra_body={"top_k": 4, "min_p": 0.1},
        )

    (request,) = runtime.requests
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 4)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.1, 0.2)
    assert sampling.stop == ("x",)
    assert sampling.logit_bias == {5: float("-inf")}
    assert request.response_format == ResponseFormat("json")


def test_embeddings_are_numbers_again_after_their_way_as_base64() -> None:
    runtime = FakeRuntime()
    with official(runtime) as client:
        answer = client.embeddings.create(model="demo", input=["hi there", "x"], dimensions=2)

    assert [entry.embedding for entry in answer.data] == [[8.0, 2.0], [1.0, 1.0]]
    assert (answer.model, answer.usage.prompt_tokens) == ("demo", 3)
    assert runtime.embedded[0].dimensions == 2


def test_the_tokens_of_a_chat_are_counted_without_answering_it() -> None:
    runtime = FakeRuntime()
    with official(runtime) as client:
        counted = client.post(
            "/chat/completions/input_tokens",
            body={"model": "demo", "messages": HI},
            cast_to=dict[str, Any],
        )

    assert counted == {"object": "response.input_tokens", "input_tokens": len("<user>hi")}
    assert runtime.requests == []


def test_a_suffix_makes_an_infilling() -> None:
    runtime = FakeRuntime()
    with official(runtime) as client:
        client.completions.create(model="demo", prompt="def f(", suffix="return 1", max_tokens=4)
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(model="demo", prompt=[1, 2], suffix="x")

    assert runtime.requests[0].input == Infill("def f(", "return 1")
    assert caught.value.param == "suffix"
