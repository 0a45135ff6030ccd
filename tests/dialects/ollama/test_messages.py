from __future__ import annotations

from typing import Any

import pytest

from service.dialects.fields import Fields
from service.dialects.ollama.messages import parse_messages, parse_tools
from service.errors import InvalidRequest
from service.generation import Message, Tool, ToolCall

CALL = {"function": {"name": "add", "arguments": {"a": 1}}}


def parse(*messages: Any) -> tuple[Message, ...]:
    return parse_messages(Fields({"messages": list(messages)}))


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ({"role": "user", "content": "x"}, Message("user", "x")),
        ({"role": "USER", "content": "x"}, Message("user", "x")),
        ({"role": "system"}, Message("system", "")),
        ({"role": "user", "content": None, "images": []}, Message("user", "")),
        ({"role": "assistant", "content": "x", "thinking": "y"}, Message("assistant", "x", "y")),
        ({"role": "user", "content": "x", "thinking": "y"}, Message("user", "x")),
        ({"role": "assistant", "tool_calls": [{"id": "c", **CALL}]},
         Message("assistant", "", tool_calls=(ToolCall("c", "add", '{"a":1}'),))),
        ({"role": "assistant", "tool_calls": [{"function": {"index": 0, "name": "f"}}]},
         Message("assistant", "", tool_calls=(ToolCall("call_1", "f", "{}"),))),
        ({"role": "tool", "content": "3", "tool_name": "add", "tool_call_id": "c"},
         Message("tool", "3", tool_call_id="c", name="add")),
        ({"role": "tool", "content": "3", "tool_name": "add"}, Message("tool", "3", name="add")),
    ],
)  # fmt: skip
def test_each_kind_of_message_is_read(wire: dict[str, Any], message: Message) -> None:
    assert parse(wire) == (message,)


def test_answers_of_tools_get_the_ids_of_the_calls_that_they_are_for() -> None:
    other = {"function": {"name": "mul", "arguments": {}}}
    messages = parse(
        {"role": "assistant", "tool_calls": [CALL, other, CALL]},
        {"role": "tool", "content": "m", "tool_name": "mul"},
        {"role": "tool", "content": "a"},
        {"role": "tool", "content": "b", "tool_name": "add"},
        {"role": "tool", "content": "?"},
    )

    assert [call.id for call in messages[0].tool_calls] == ["call_1", "call_2", "call_3"]
    assert [m.tool_call_id for m in messages[1:]] == ["call_2", "call_1", "call_3", None]
    assert [m.name for m in messages[1:]] == ["mul", "add", "add", None]


@pytest.mark.parametrize(
    ("wire", "param"),
    [
        ({}, "role"),
        ({"role": "robot"}, "role"),
        ({"role": 1}, "role"),
        ({"role": "user", "content": ["x"]}, "content"),
        ({"role": "assistant", "thinking": 1}, "thinking"),
        ({"role": "user", "images": ["aGk="]}, "images"),
        ({"role": "user", "images": [1]}, "images.0"),
        ({"role": "user", "images": "x"}, "images"),
        ({"role": "assistant", "tool_calls": [{}]}, "tool_calls.0.function"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "tool_calls.0.function.name"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
         "tool_calls.0.function.arguments"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "index": "0"}}]},
         "tool_calls.0.function.index"),
        ({"role": "tool", "tool_name": 1}, "tool_name"),
        ({"role": "tool", "tool_call_id": {}}, "tool_call_id"),
    ],
)  # fmt: skip
def test_a_wrong_message_is_refused_by_the_name_of_its_field(
    wire: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse({"role": "user", "content": "fine"}, wire)

    assert caught.value.param == f"messages.1.{param}"


def test_tools_are_openais_and_may_say_more() -> None:
    function = {"name": "add", "description": "adds", "parameters": {"type": ["object", "null"]}}
    tools = [{"type": "function", "items": 1, "function": {**function, "extra": True}}]

    assert parse_tools(Fields({"tools": tools})) == (
        Tool("add", "adds", {"type": ["object", "null"]}),
    )
    assert parse_tools(Fields({"tools": []})) == ()
