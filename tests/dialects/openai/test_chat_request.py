from __future__ import annotations

from typing import Any

import pytest

from service.dialects.fields import Fields
from service.dialects.openai.chat_request import Options, parse_chat, parse_options
from service.errors import InvalidRequest
from service.generation import Chat, GenerationRequest, Message, Tool, ToolCall, ToolChoice

USER = {"role": "user", "content": "hi"}
ADD = {
    "type": "function",
    "function": {"name": "add", "description": "adds", "parameters": {"type": "object"}},
}
SUB = {"type": "function", "function": {"name": "sub"}}
ADD_TOOL = Tool("add", "adds", {"type": "object"})
SUB_TOOL = Tool("sub")


def parse(**body: Any) -> GenerationRequest:
    fields = Fields({"messages": [USER], **body})
    return parse_chat(fields, id="1", arrived=0.0, endpoint="/v1/chat/completions")


def chat(**body: Any) -> Chat:
    parsed = parse(**body).input
    assert isinstance(parsed, Chat)
    return parsed


def refused_param(**body: Any) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**body)
    return caught.value.param


def test_the_least_request_has_defaults_that_change_nothing() -> None:
    assert parse() == GenerationRequest(
        id="1",
        model="",
        input=Chat((Message("user", "hi"),), tool_choice=ToolChoice("none")),
        arrived=0.0,
        dialect="openai",
        endpoint="/v1/chat/completions",
    )


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ({"role": "developer", "content": "x"}, Message("system", "x")),
        ({"role": "user", "content": "x", "name": "ann"}, Message("user", "x", name="ann")),
        ({"role": "user", "content": ""}, Message("user", "")),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
         Message("user", "a\nb")),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
         Message("assistant", "no")),
        ({"role": "assistant", "content": "x", "reasoning_content": "y"},
         Message("assistant", "x", "y")),
        ({"role": "assistant", "content": "x", "reasoning": "y"}, Message("assistant", "x", "y")),
        ({"role": "assistant", "content": None}, Message("assistant")),
        ({"role": "assistant", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]},
         Message("assistant", tool_calls=(ToolCall("c1", "f", '{"a":1}'),))),
        ({"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}]},
         Message("assistant", tool_calls=(ToolCall("c1", "f", '{"a":1}'),))),
        ({"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": ""}}]},
         Message("assistant", tool_calls=(ToolCall("c1", "f", "{}"),))),
        ({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
         Message("assistant", tool_calls=(ToolCall("f", "f", "{}"),))),
        ({"role": "tool", "tool_call_id": "c1", "content": "3"},
         Message("tool", "3", tool_call_id="c1")),
        ({"role": "function", "name": "f", "content": "3"},
         Message("tool", "3", tool_call_id="f", name="f")),
    ],
)  # fmt: skip
def test_each_kind_of_message_is_read(wire: dict[str, Any], message: Message) -> None:
    assert chat(messages=[wire]).messages == (message,)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ("hi", "messages"),
        (["hi"], "messages.0"),
        ([{}], "messages.0.role"),
        ([{"role": "robot", "content": "x"}], "messages.0.role"),
        ([USER, {"role": "user"}], "messages.1.content"),
        ([{"role": "user", "content": 1}], "messages.0.content"),
        ([{"role": "user", "content": ["x"]}], "messages.0.content.0"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}],
         "messages.0.content.0.type"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages.0.content.0.text"),
        ([{"role": "assistant", "tool_calls": [{"id": "1"}]}],
         "messages.0.tool_calls.0.function"),
        ([{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": ""}}]}],
         "messages.0.tool_calls.0.function.name"),
        ([{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]}],
         "messages.0.tool_calls.0.function.arguments"),
        ([{"role": "tool", "tool_call_id": 1, "content": "x"}], "messages.0.tool_call_id"),
    ],
)  # fmt: skip
def test_a_message_that_cannot_be_read_is_refused_by_its_path(messages: Any, param: str) -> None:
    assert refused_param(messages=messages) == param


@pytest.mark.parametrize(
    ("wire", "tools", "choice"),
    [
        ({}, (), ToolChoice("none")),
        ({"tools": []}, (), ToolChoice("none")),
        ({"tools": [], "tool_choice": "auto"}, (), ToolChoice("none")),
        ({"tools": [ADD]}, (ADD_TOOL,), ToolChoice("auto")),
        ({"tools": [ADD], "tool_choice": "auto"}, (ADD_TOOL,), ToolChoice("auto")),
        ({"tools": [ADD], "tool_choice": "none"}, (ADD_TOOL,), ToolChoice("none")),
        ({"tools": [ADD], "tool_choice": "required"}, (ADD_TOOL,), ToolChoice("required")),
        ({"tools": [ADD, SUB], "tool_choice": {"type": "function", "function": {"name": "sub"}}},
         (ADD_TOOL, SUB_TOOL), ToolChoice("named", ("sub",))),
        ({"tools": [ADD, SUB], "tool_choice": {"type": "allowed_tools", "allowed_tools": {
            "mode": "auto", "tools": [{"type": "function", "function": {"name": "sub"}}]}}},
         (SUB_TOOL,), ToolChoice("auto")),
        ({"tools": [ADD, SUB], "tool_choice": {"type": "allowed_tools", "mode": "required",
          "tools": [{"type": "function", "name": "add"}]}},
         (ADD_TOOL,), ToolChoice("required")),
        ({"functions": [ADD["function"]]}, (ADD_TOOL,), ToolChoice("auto")),
        ({"functions": [ADD["function"]], "function_call": {"name": "add"}},
         (ADD_TOOL,), ToolChoice("named", ("add",))),
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
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "mul"}}},
         "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]},
         "tools.0.function.parameters"),
        ({"tools": [ADD] * 129}, "tools"),
        ({"tools": [ADD], "tool_choice": {"type": "allowed_tools", "tools": [{"name": "x"}]}},
         "tool_choice.tools.0.name"),
        ({"tools": [ADD], "tool_choice": "required", "response_format": {"type": "json_object"}},
         "tool_choice"),
    ],
)  # fmt: skip
def test_tools_that_cannot_be_offered_are_refused(wire: dict[str, Any], param: str) -> None:
    assert refused_param(**wire) == param


@pytest.mark.parametrize(
    ("wire", "thinking", "effort"),
    [
        ({}, None, None),
        ({"reasoning_effort": "none"}, False, None),
        ({"reasoning_effort": "low"}, True, "low"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False, None),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True, None),
        ({"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "high"},
         False, "high"),
    ],
)  # fmt: skip
def test_thinking_is_asked_for_under_either_name(
    wire: dict[str, Any], thinking: bool | None, effort: str | None
) -> None:
    parsed = chat(**wire)

    assert (parsed.enable_thinking, parsed.reasoning_effort) == (thinking, effort)


def test_other_template_variables_are_passed_on() -> None:
    kwargs = {"enable_thinking": True, "date": "today"}

    assert chat(chat_template_kwargs=kwargs).template_variables == {"date": "today"}


@pytest.mark.parametrize(
    "wire",
    [
        {"chat_template": "{{ x }}"},
        {"chat_template_kwargs": {"chat_template": "{{ x }}"}},
        {"chat_template_kwargs": {"a": [{"b": {"chat_template": "{{ x }}"}}]}},
    ],
)
def test_a_template_in_a_request_is_refused_wherever_it_hides(wire: dict[str, Any]) -> None:
    assert refused_param(**wire) in ("chat_template", "chat_template_kwargs")


@pytest.mark.parametrize(
    ("wire", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({}, None),
    ],
)
def test_the_newer_name_of_the_token_limit_wins(wire: dict[str, Any], limit: int | None) -> None:
    assert parse(**wire).sampling.max_tokens == limit


@pytest.mark.parametrize(
    ("wire", "logprobs"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 5}, 5),
        ({"top_logprobs": 0}, None),
    ],
)
def test_logprobs_are_as_many_as_asked_for(wire: dict[str, Any], logprobs: int | None) -> None:
    assert parse(**wire).sampling.logprobs == logprobs


@pytest.mark.parametrize(
    ("wire", "param"),
    [
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 1}, "logprobs"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"model": 5}, "model"),
        ({"model": "x" * 513}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"reasoning_effort": "immense"}, "reasoning_effort"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ({"chat_template_kwargs": {"enable_thinking": 1}}, "chat_template_kwargs.enable_thinking"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(wire: dict[str, Any], param: str) -> None:
    assert refused_param(**wire) == param


@pytest.mark.parametrize(
    ("wire", "options"),
    [
        ({}, Options()),
        ({"stream": True, "stream_options": {"include_usage": True}}, Options(include_usage=True)),
        ({"stream": True, "stream_options": {"continuous_usage_stats": True}},
         Options(include_usage=True, continuous_usage=True)),
        ({"stream_options": {"include_usage": False}}, Options()),
        ({"include_reasoning": False}, Options(reasoning_fields=())),
        ({"reasoning_format": "none"}, Options(raw_reasoning=True)),
        ({"functions": [ADD["function"]]}, Options(legacy_functions=True)),
        ({"timings_per_token": True}, Options(timings=True)),
    ],
)  # fmt: skip
def test_what_shapes_only_the_answer_is_an_option(wire: dict[str, Any], options: Options) -> None:
    assert parse_options(Fields(wire), "both") == options


@pytest.mark.parametrize(
    ("form", "unread"),
    [("none", []), ("auto", []), ("parsed", []), ("deepseek-legacy", ["reasoning_format"])],
)
def test_a_form_of_thoughts_that_is_not_made_here_is_told_of(form: str, unread: list[str]) -> None:
    fields = Fields({"reasoning_format": form})
    parse_options(fields, "both")

    assert fields.unread() == unread


@pytest.mark.parametrize(
    "wire", [{"stream_options": {"include_usage": True}}, {"modalities": ["audio"]}]
)
def test_an_option_that_cannot_be_honoured_is_refused(wire: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        parse_options(Fields(wire), "both")


BEGUN = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "It", "reasoning": "Hm"},
]


@pytest.mark.parametrize(
    ("body", "prefills", "expected"),
    [
        ({}, False, (False, True)),
        ({}, True, (True, True)),
        ({"continue_final_message": True}, False, (True, True)),
        ({"continue_final_message": True, "add_generation_prompt": False}, False, (True, False)),
        ({"continue_final_message": False}, True, (False, True)),
        ({"add_generation_prompt": False}, False, (False, False)),
        ({"messages": [*BEGUN[:-1], {**BEGUN[-1], "prefix": True}]}, False, (True, True)),
        ({"messages": [{**BEGUN[0], "prefix": True}]}, False, (False, True)),
        ({"messages": BEGUN[:-1]}, True, (False, True)),
    ],
)
def test_a_message_is_gone_on_with_where_that_is_asked_for(
    body: dict[str, Any], prefills: bool, expected: tuple[bool, bool]
) -> None:
    fields = Fields({"messages": BEGUN, **body})
    found = parse_chat(fields, id="1", arrived=0.0, endpoint="/", prefills=prefills).input

    assert isinstance(found, Chat)
    assert (found.continue_final_message, found.add_generation_prompt) == expected


def test_llama_servers_word_has_the_thoughts_gone_on_with() -> None:
    fields = Fields({"messages": BEGUN, "continue_final_message": "reasoning_content"})
    found = parse_chat(fields, id="1", arrived=0.0, endpoint="/").input

    assert isinstance(found, Chat)
    assert found.continue_final_message
    assert (found.messages[-1].content, found.messages[-1].reasoning) == (None, "Hm")


def test_echo_is_the_assistants_last_message() -> None:
    assert parse_options(Fields({"messages": BEGUN, "echo": True}), "both").echo == "It"
    assert parse_options(Fields({"messages": BEGUN[:1], "echo": True}), "both").echo == ""
    assert parse_options(Fields({"messages": BEGUN}), "both").echo == ""
