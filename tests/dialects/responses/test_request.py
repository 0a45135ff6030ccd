from __future__ import annotations

from typing import Any

import pytest

from service.dialects.fields import Fields
from service.dialects.responses.request import Asked, parse_response_request, unheeded
from service.dialects.responses.store import ResponseNotFound
from service.errors import InvalidRequest
from service.generation import (
    Chat,
    GenerationRequest,
    Message,
    SamplingParams,
    Tool,
    ToolCall,
    ToolChoice,
)

ADD = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}
ADD_TOOL = Tool("add", "", {"type": "object"}, True)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
EARLIER = (Message("user", "hi"), Message("assistant", "hello"))


def history(id: str) -> tuple[Message, ...]:
    if id != "resp_0":
        raise ResponseNotFound(id, "previous_response_id")
    return EARLIER


def parse(**body: Any) -> tuple[GenerationRequest, Asked]:
    fields = Fields({"input": "hi", **body})
    return parse_response_request(fields, history, id="1", arrived=0.0, endpoint="/v1/responses")


def chat(**body: Any) -> Chat:
    parsed = parse(**body)[0].input
    assert isinstance(parsed, Chat)
    return parsed


def test_the_least_request_has_defaults_that_change_nothing() -> None:
    assert parse()[0] == GenerationRequest(
        id="1",
        model="",
        input=Chat((Message("user", "hi"),), tool_choice=ToolChoice("none")),
        arrived=0.0,
        dialect="openai",
        endpoint="/v1/responses",
    )


CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a":1}'}
SECOND = {"type": "function_call", "call_id": "c2", "name": "sub", "arguments": ""}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [],
           "content": [{"type": "reasoning_text", "text": "hm"}]}  # fmt: skip
SAID = {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
        "content": [{"type": "output_text", "text": "so", "annotations": []}]}  # fmt: skip
ADD_CALL = ToolCall("c1", "add", '{"a":1}')


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        ([{"role": "developer", "content": "be brief"}], [Message("system", "be brief")]),
        ([{"role": "user", "content": [{"type": "input_text", "text": "a"},
                                       {"type": "input_text", "text": "b"}]}],
         [Message("user", "a\nb")]),
        ([THOUGHT, SAID, CALL, SECOND],
         [Message("assistant", "so", "hm", (ADD_CALL, ToolCall("c2", "sub", "{}")))]),
        ([CALL, {"type": "function_call_output", "call_id": "c1", "output": "2"}],
         [Message("assistant", None, None, (ADD_CALL,)), Message("tool", "2", tool_call_id="c1")]),
        ([CALL, {"type": "function_call_output", "call_id": "c1",
                 "output": [{"type": "input_text", "text": "2"}]}, SAID],
         [Message("assistant", None, None, (ADD_CALL,)), Message("tool", "2", tool_call_id="c1"),
          Message("assistant", "so")]),
        ([CALL, SAID], [Message("assistant", None, None, (ADD_CALL,)), Message("assistant", "so")]),
        ([SAID, THOUGHT, SAID], [Message("assistant", "so"), Message("assistant", "so", "hm")]),
        ([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "sum"}]}, SAID],
         [Message("assistant", "so", "sum")]),
    ],
)  # fmt: skip
def test_items_become_the_turns_of_a_conversation(items: Any, messages: list[Message]) -> None:
    assert list(chat(input=items).messages) == messages


def test_a_response_goes_on_from_another_without_its_instructions() -> None:
    request, asked = parse(previous_response_id="resp_0", instructions="be brief", input="more")

    assert isinstance(request.input, Chat)
    assert request.input.messages == (
        Message("system", "be brief"),
        *EARLIER,
        Message("user", "more"),
    )
    assert asked.conversation == (*EARLIER, Message("user", "more"))


@pytest.mark.parametrize(
    ("wire", "tools", "choice"),
    [
        ({}, (), ToolChoice("none")),
        ({"tools": [ADD]}, (ADD_TOOL,), ToolChoice("auto")),
        ({"tools": [ADD], "tool_choice": "required"}, (ADD_TOOL,), ToolChoice("required")),
        ({"tools": [ADD], "tool_choice": {"type": "function", "name": "add"}},
         (ADD_TOOL,), ToolChoice("named", ("add",))),
        ({"tools": [ADD, {**ADD, "name": "sub"}], "tool_choice": {
            "type": "allowed_tools", "mode": "required",
            "tools": [{"type": "function", "name": "add"}]}},
         (ADD_TOOL,), ToolChoice("required")),
        ({"tools": [{"type": "function", "function": {"name": "add", "strict": True,
                     "parameters": {"type": "object"}}}]}, (ADD_TOOL,), ToolChoice("auto")),
        ({"tools": [{"type": "web_search"}]}, (), ToolChoice("none")),
    ],
)  # fmt: skip
def test_every_form_of_tools_and_choice_is_read(
    wire: dict[str, Any], tools: tuple[Tool, ...], choice: ToolChoice
) -> None:
    parsed = chat(**wire)

    assert (parsed.tools, parsed.tool_choice) == (tools, choice)


@pytest.mark.parametrize(
    ("wire", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 1}, "input"),
        ({"input": ["hi"]}, "input.0"),
        ({"input": [{"type": "web_search_call"}]}, "input.0.type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0.type"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role"),
        ({"input": [{"role": "user"}]}, "input.0.content"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}]},
         "input.0.content.0.type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
         "input.0.content.0.text"),
        ({"input": [{**CALL, "arguments": "{"}]}, "input.0.arguments"),
        ({"input": [{**CALL, "call_id": None}]}, "input.0.call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input.0.output"),
        ({"instructions": 1}, "instructions"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"previous_response_id": "resp_9"}, "previous_response_id"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"truncation": "some"}, "truncation"),
        ({"tools": [{}]}, "tools.0.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": "required",
          "text": {"format": {"type": "json_object"}}}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.json_schema"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
        ({"include": [1]}, "include.0"),
        ({"chat_template": "{{ 1 }}"}, "chat_template"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(wire: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**wire)

    assert caught.value.param == param


@pytest.mark.parametrize(
    ("wire", "logprobs"),
    [
        ({}, None),
        ({"include": ["message.output_text.logprobs"]}, 0),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 3}, 3),
        ({"top_logprobs": 3}, 3),
        ({"top_logprobs": 0}, None),
    ],
)
def test_logprobs_are_asked_for_by_what_is_included(
    wire: dict[str, Any], logprobs: int | None
) -> None:
    assert parse(**wire)[0].sampling.logprobs == logprobs


def test_the_rest_of_the_parameters_arrive_and_are_repeated() -> None:
    request, asked = parse(
        model="demo",
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        stream=True,
        truncation="auto",
        parallel_tool_calls=False,
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
        metadata={"a": "b"},
        store=False,
    )

    assert isinstance(request.input, Chat)
    assert request.sampling == SamplingParams(max_tokens=9, temperature=0.5, top_p=0.9)
    assert (request.stream, request.drop_messages) == (True, True)
    assert (request.input.enable_thinking, request.input.reasoning_effort) == (True, "low")
    assert request.input.parallel_tool_calls is False
    assert (request.response_format.kind, request.response_format.schema) == ("schema", SCHEMA)
    assert (asked.store, asked.summary) == (False, True)
    assert {key: asked.echo[key] for key in ("metadata", "temperature", "max_output_tokens")} == {
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "max_output_tokens": 9,
    }


@pytest.mark.parametrize(
    "given",
    [
        {"type": "function", "name": "f"},
        {"type": "function", "function": {"name": "f"}},
        {"type": "function", "name": "f", "strict": None},
    ],
)
def test_functions_are_repeated_with_every_key_that_clients_insist_on(
    given: dict[str, Any],
) -> None:
    _, asked = parse(tools=[given, {"type": "web_search"}])

    assert asked.echo["tools"] == [
        {"type": "function", "name": "f", "description": None, "parameters": None, "strict": None},
        {"type": "web_search"},
    ]


def test_what_is_read_without_effect_is_known() -> None:
    fields = Fields(
        {
            "tools": [ADD, {"type": "web_search"}],
            "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
        }
    )

    assert unheeded(fields) == ["tools.1.type", "include"]
