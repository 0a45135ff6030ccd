from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.dialects.anthropic.request import Options, parse_request, unheeded
from service.dialects.fields import Fields
from service.errors import InvalidRequest
from service.generation import (
    Chat,
    GenerationRequest,
    Message,
    SamplingParams,
    Thoughts,
    Tool,
    ToolCall,
    ToolChoice,
)

USER = {"role": "user", "content": "hi"}
ADD = {"name": "add", "description": "adds", "input_schema": {"type": "object"}}
ADD_TOOL = Tool("add", "adds", {"type": "object"})
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


def parse(**body: Any) -> tuple[GenerationRequest, Options]:
    fields = Fields({"max_tokens": 8, "messages": [USER], **body})
    return parse_request(fields, id="1", arrived=0.0, endpoint="/v1/messages")


def chat(**body: Any) -> Chat:
    parsed = parse(**body)[0].input
    assert isinstance(parsed, Chat)
    return parsed


def test_the_least_request_does_not_think_and_samples_as_it_is() -> None:
    assert parse()[0] == GenerationRequest(
        id="1",
        model="",
        input=Chat((Message("user", "hi"),), tool_choice=ToolChoice("none"), enable_thinking=False),
        arrived=0.0,
        dialect="anthropic",
        endpoint="/v1/messages",
        sampling=SamplingParams(max_tokens=8),
    )


@pytest.mark.parametrize(
    ("wire", "messages"),
    [
        ({"role": "user", "content": "x"}, [Message("user", "x")]),
        ({"role": "user", "content": []}, [Message("user", "")]),
        ({"role": "user", "content": [{"type": "text", "text": "a"},
                                      {"type": "text", "text": "b"}]}, [Message("user", "a\nb")]),
        ({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "3"},
            {"type": "tool_result", "tool_use_id": "t2",
             "content": [{"type": "text", "text": "4"}]},
            {"type": "text", "text": "and?"}]},
         [Message("tool", "3", tool_call_id="t1"), Message("tool", "4", tool_call_id="t2"),
          Message("user", "and?")]),
        ({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "no disk", "is_error": True}]},
         [Message("tool", "Error: no disk", tool_call_id="t1")]),
        ({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "error 5", "is_error": True}]},
         [Message("tool", "error 5", tool_call_id="t1")]),
        ({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1"}]},
         [Message("tool", "", tool_call_id="t1")]),
        ({"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "AAAA"},
            {"type": "text", "text": "I add."},
            {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}]},
         [Message("assistant", "I add.", "hm", (ToolCall("t1", "add", '{"a":1}'),))]),
        ({"role": "system", "content": [{"type": "text", "text": "be brief"}]},
         [Message("system", "be brief")]),
    ],
)  # fmt: skip
def test_each_kind_of_message_is_read(wire: dict[str, Any], messages: list[Message]) -> None:
    assert chat(messages=[wire, USER]).messages == (*messages, Message("user", "hi"))


@pytest.mark.parametrize(
    ("system", "text"),
    [
        ("be brief", "be brief"),
        ([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
          {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "text", "text": "x-anthropic-billing-header: cch=1;"},
          {"type": "text", "text": "b"}], "b"),
    ],
)  # fmt: skip
def test_the_system_prompt_is_the_first_message(system: Any, text: str) -> None:
    assert chat(system=system).messages == (Message("system", text), Message("user", "hi"))


@pytest.mark.parametrize(
    ("wire", "tools", "choice", "parallel"),
    [
        ({"tools": []}, (), ToolChoice("none"), True),
        ({"tools": [ADD]}, (ADD_TOOL,), ToolChoice("auto"), True),
        ({"tools": [{**ADD, "type": "custom"}], "tool_choice": {"type": "auto"}},
         (ADD_TOOL,), ToolChoice("auto"), True),
        ({"tools": [ADD], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
         (ADD_TOOL,), ToolChoice("required"), False),
        ({"tools": [ADD], "tool_choice": {"type": "tool", "name": "add"}},
         (ADD_TOOL,), ToolChoice("named", ("add",)), True),
        ({"tools": [ADD], "tool_choice": {"type": "none"}}, (ADD_TOOL,), ToolChoice("none"), True),
        ({"tool_choice": {"type": "auto"}}, (), ToolChoice("none"), True),
    ],
)  # fmt: skip
def test_every_form_of_tools_and_choice_is_read(
    wire: dict[str, Any], tools: tuple[Tool, ...], choice: ToolChoice, parallel: bool
) -> None:
    parsed = chat(**wire)

    assert (parsed.tools, parsed.tool_choice, parsed.parallel_tool_calls) == (
        tools,
        choice,
        parallel,
    )


@pytest.mark.parametrize(
    ("wire", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
        ({"messages": []}, "messages"),
        ({"messages": ["hi"]}, "messages.0"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {
            "type": "base64", "media_type": "image/png", "data": "AAAA"}}]}]},
         "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]},
         "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]},
         "messages.0.content.0.tool_use_id"),
        ({"messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}]}]},
         "messages.0.content.0.content.0.type"),
        ({"messages": [{"role": "assistant", "content": [
            {"type": "tool_use", "id": "t", "name": "f", "input": "{}"}]}, USER]},
         "messages.0.content.0.input"),
        ({"system": 1}, "system"),
        ({"system": [{"type": "image"}]}, "system.0.type"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"name": "add"}]}, "tools.0.input_schema"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools.0.name"),
        ({"tools": [ADD], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tools": [ADD], "tool_choice": {"type": "tool", "name": "sub"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"thinking": {"type": "deeply"}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": "x"}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"tools": [ADD], "tool_choice": {"type": "any"},
          "output_format": {"type": "json_schema", "schema": SCHEMA}}, "tool_choice"),
        ({"chat_template": "{{ 1 }}"}, "chat_template"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(wire: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**wire)

    assert caught.value.param == param


@pytest.mark.parametrize(
    ("thinking", "asked", "omitted"),
    [
        (None, False, False),
        ({"type": "disabled"}, False, False),
        ({"type": "enabled", "budget_tokens": 2048}, True, False),
        ({"type": "adaptive"}, True, False),
        ({"type": "adaptive", "display": "omitted"}, True, True),
    ],
)
def test_thinking_is_off_unless_it_is_asked_for(
    thinking: dict[str, Any] | None, asked: bool, omitted: bool
) -> None:
    request, options = parse(thinking=thinking)

    assert isinstance(request.input, Chat)
    assert (request.input.enable_thinking, options.omit_thoughts) == (asked, omitted)


def test_the_rest_of_the_parameters_arrive() -> None:
    request, options = parse(
        model="demo",
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        stop_sequences=["END"],
        stream=True,
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        min_p=0.1,
    )

    assert request.sampling == SamplingParams(
        max_tokens=8, temperature=0.5, top_p=0.9, top_k=4, min_p=0.1, stop=("END",)
    )
    assert (request.response_format.kind, request.response_format.schema) == ("schema", SCHEMA)
    assert isinstance(request.input, Chat)
    assert request.input.reasoning_effort == "low"
    assert (request.model, request.stream, options.stop_sequences) == ("demo", True, ("END",))


@pytest.mark.parametrize(
    ("wire", "names"),
    [
        ({}, []),
        ({"thinking": {"type": "adaptive"}}, ["thinking"]),
        ({"thinking": {"type": "disabled"}}, []),
        ({"tools": [{**ADD, "input_examples": [{"a": 1}]}]}, ["tools.0.input_examples"]),
        ({"system": [{"type": "text", "text": "x-anthropic-billing-header: cch=1;"}]},
         ["system.0"]),
    ],
)  # fmt: skip
def test_what_is_read_without_effect_is_known(wire: dict[str, Any], names: list[str]) -> None:
    assert unheeded(Fields(wire), frozenset({"tools"})) == names


def test_a_budget_of_thoughts_counts_where_thoughts_are_asked_for() -> None:
    wanted = {"type": "enabled", "budget_tokens": 2048}
    unwanted = {"type": "adaptive", "budget_tokens": 2048}

    assert parse(thinking=wanted)[0].sampling.thoughts == Thoughts(2048)
    assert parse(thinking=unwanted)[0].sampling.thoughts is None


def test_tools_that_a_model_has_no_words_for_are_reported() -> None:
    assert unheeded(Fields({"tools": [ADD]}), frozenset()) == ["tools"]


json = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "role", "content", "name", "input", "thinking"]),
            inner | st.sampled_from(["text", "tool_use", "tool_result", "thinking", "user"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=50)
@given(key=st.sampled_from(["messages", "system", "tools", "tool_choice", "thinking"]), value=json)
def test_whatever_stands_in_a_field_is_read_or_refused(key: str, value: Any) -> None:
    refusal = None
    try:
        parse(**{key: value})
    except InvalidRequest as error:
        refusal = error

    assert refusal is None or (refusal.param or "").split(".")[0] in (key, "messages")


def test_an_assistants_last_message_is_how_the_answer_begins() -> None:
    last = {"role": "assistant", "content": "And so"}
    calls = {"type": "tool_use", "id": "t1", "name": "add", "input": {}}

    assert chat(messages=[USER, last]).continue_final_message
    assert not chat(messages=[last, USER]).continue_final_message
    assert not chat(
        messages=[USER, {"role": "assistant", "content": [calls]}]
    ).continue_final_message


def test_who_begins_the_answer_leaves_no_room_for_thoughts() -> None:
    def told(*blocks: dict[str, Any]) -> list[str]:
        last = {"role": "assistant", "content": list(blocks)}
        body = {"messages": [USER, last], "thinking": {"type": "adaptive"}}
        return unheeded(Fields(body), frozenset({"thinking"}))

    thoughts = {"type": "thinking", "thinking": "Hm", "signature": ""}
    assert told({"type": "text", "text": "And so"}) == ["thinking"]
    assert told(thoughts, {"type": "text", "text": "And so"}) == ["thinking"]
    assert told(thoughts) == []
