from __future__ import annotations

import json
import re
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.events import ToolCallDelta
from service.generation import Tool
from service.text.calls import Calls, call_id
from service.text.formats_named import HARMONY, NAMED
from service.text.formats_objects import HERMES, LLAMA, MISTRAL, MISTRAL_NAMED, OBJECTS
from service.text.formats_tagged import QWEN_CODER
from service.text.json_scanner import JsonScanner
from service.text.tool_calls import FORMATS, tool_format
from service.text.tool_format import ToolFormat

WITH_JSON = (*NAMED, *OBJECTS)
OFFERED = (Tool("f"), Tool("g"))
# Content, and each call's name and arguments.
Outcome = tuple[str, list[tuple[str, str]]]


def run(form: ToolFormat, *pieces: str, whole: bool = False, parallel: bool = True) -> Outcome:
    numbers = count()
    calls = Calls(
        offered=OFFERED,
        stream_arguments=not whole,
        parallel=parallel,
        new_id=lambda: f"id{next(numbers)}",
    )
    parser = form.parser(calls)
    parts = [part for piece in pieces for part in parser.feed(piece)] + parser.flush()
    content = "".join(part for part in parts if isinstance(part, str))
    found: list[tuple[str, str]] = []
    for part in parts:
        if isinstance(part, ToolCallDelta):
            assert (part.name is None) == (part.id is None) == (part.call < len(found))
            if part.name is not None:
                assert part.id in (f"id{part.call}", f"functions.{part.name}:0")
                found.append((part.name, ""))
            name, arguments = found[part.call]
            found[part.call] = (name, arguments + part.arguments)
    return content, found


def test_the_name_comes_first_and_the_arguments_as_they_arrive() -> None:
    parser = HERMES.parser(Calls(2, new_id=lambda: "id"))

    assert parser.feed('Look: <tool_call>\n{"name": "f", "argu') == ["Look: "]
    assert parser.feed('ments": {"a": [') == [
        ToolCallDelta(2, 0, "", "id", "f"),
        ToolCallDelta(2, 0, '{"a": ['),
    ]
    assert parser.feed('"]}"') == [ToolCallDelta(2, 0, '"]}"')]
    assert parser.feed("]}}\n</tool_") == [ToolCallDelta(2, 0, "]}")]
    assert parser.feed("call>\n") == []
    assert parser.flush() == []


@pytest.mark.parametrize(
    ("form", "text", "content"),
    [
        (HERMES, '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>', ""),
        (HERMES, 'Yes.\n<tool_call>{"name":"f","arguments":{"a": 1}}</tool_call> Done.', "Yes.\n Done."),
        (HERMES, '<tool_call>{"name": "f", "arguments": {"a": 1}}', ""),
        (HERMES, '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', ""),
        (HERMES, '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', ""),
        (HERMES, '<tool_call>{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}', ""),
        (HERMES, '<tool_call>{"name": "f", "arguments": {"a": 1}, "id": "x"}</tool_call>', ""),
        (LLAMA, '{"name": "f", "parameters": {"a": 1}}', ""),
        (LLAMA, '\n<|python_tag|>{"type": "function", "name": "f", "parameters": {"a": 1}}', ""),
        (LLAMA, 'So:<|python_tag|>{"name": "f", "parameters": {"a": 1}}', "So:"),
        (MISTRAL, '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}, "id": "abcdefghi"}]', ""),
        (MISTRAL, '[TOOL_CALLS]{"name": "f", "arguments": {"a": 1}}', ""),
        (MISTRAL_NAMED, '[TOOL_CALLS]f[ARGS]{"a": 1}', ""),
        (MISTRAL_NAMED, 'Hm[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS] {"a": 1}', "Hm"),
        (HARMONY, '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>', ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("whole", [False, True])
def test_a_call_is_read(form: ToolFormat, text: str, content: str, whole: bool) -> None:
    for pieces in ([text], list(text)):
        found_content, calls = run(form, *pieces, whole=whole)
        assert found_content == content
        assert [(name, json.loads(arguments)) for name, arguments in calls] == [("f", {"a": 1})]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HERMES, '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n'
                 '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>\n'),
        (LLAMA, '{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}'),
        (MISTRAL, '[TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]'),
        (MISTRAL_NAMED, "[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]g[ARGS]{}"),
    ],
)  # fmt: skip
def test_several_calls_leave_no_content_between_them(form: ToolFormat, text: str) -> None:
    for pieces in ([text], list(text)):
        assert run(form, *pieces) == ("", [("f", "{}"), ("g", "{}")])
        assert run(form, *pieces, parallel=False) == ("", [("f", "{}")])


def test_calls_beyond_the_only_one_asked_for_go_nowhere() -> None:
    calls = Calls(parallel=False)
    parts = HERMES.parser(calls).feed('<tool_call>{"name": "f", "arguments": {}}</tool_call>' * 3)

    assert calls.completed == 1
    assert {part.call for part in parts if isinstance(part, ToolCallDelta)} == {0}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HERMES, "no call at all"),
        (HERMES, "use <tool_call> and </tool_call> tags"),
        (HERMES, '<tool_call>{"name": 5, "arguments": {}}</tool_call>'),
        (HERMES, '<tool_call>{"name": "f"}</tool_call>'),
        (HERMES, "<tool_call>[1, 2]</tool_call>"),
        (HERMES, '<tool_call>{"name": "f", "arguments": "no JSON"}</tool_call>'),
        (HERMES, '<tool_call>{"name": "f", "argu'),
        (HERMES, "<tool_call><tool_call>"),
        (HERMES, "text <tool_"),
        (LLAMA, '{"city": "Bern", "name": "f"}'),
        (LLAMA, '{"name": "unknown", "parameters": {}}'),
        (LLAMA, '<|python_tag|>brave_search.call(query="x")'),
        (LLAMA, 'It is {"name": "f", "parameters": {}}'),
        (LLAMA, "  <|python_"),
        (MISTRAL, "[TOOL_CALLS] are fun"),
        (MISTRAL, "[TOOL_CALLS][1, 2]"),
        (MISTRAL_NAMED, "[TOOL_CALLS]f[CALL_ID]abc and more"),
        (MISTRAL_NAMED, "[TOOL_CALLS]a b[ARGS]{}"),
        (HARMONY, "<|channel|>commentary to=nobody <|constrain|>json<|message|>{}"),
    ],
)
def test_what_is_no_call_comes_out_as_it_was_written(form: ToolFormat, text: str) -> None:
    for pieces in ([text], list(text)):
        assert run(form, *pieces) == (text, [])
        assert run(form, *pieces, whole=True) == (text, [])


def test_a_call_that_goes_wrong_in_the_middle_stays_open_and_the_rest_is_content() -> None:
    calls = Calls()
    parser = HERMES.parser(calls)
    parts = parser.feed('<tool_call>{"name": "f", "arguments": {"a": ]}') + parser.flush()

    assert [p if isinstance(p, str) else p.arguments for p in parts] == ["", '{"a": ', "]}"]
    assert calls.completed == 0
    broken = '<tool_call>{"name": "f", "arguments": {"a": ]}'
    assert run(HERMES, broken, whole=True) == (broken, [])


def test_ids_are_openais_and_unique() -> None:
    ids = {call_id() for _ in range(1000)}

    assert len(ids) == 1000
    assert all(re.fullmatch("call_[0-9a-f]{24}", one) for one in ids)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% if tools %}<tool_call>\n{\"name\": f, \"arguments\": a}\n</tool_call>", HERMES),
        ("{% if tools %}<|start_header_id|>{\"name\": f, \"parameters\": p}", LLAMA),
        ("{% if tools %}[TOOL_CALLS]{{ tools|tojson }}", MISTRAL),
        ("{% if tools %}[TOOL_CALLS]{{ name }}[ARGS]{{ arguments }}", MISTRAL_NAMED),
        ("{% if tools %}<|channel|>commentary <|constrain|>json", HARMONY),
        ("{% if tools %}<tool_call><function=f><parameter=a>{{ arguments }}", QWEN_CODER),
        ("<tool_call>{{ arguments }}</tool_call>", None),
        ("{% if tools %}{{ tools }}", None),
    ],
)  # fmt: skip
def test_the_template_tells_the_syntax(source: str, expected: ToolFormat | None) -> None:
    assert tool_format(source) is expected


marks = st.sampled_from([
    "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", '{"name": "f", ',
    '"arguments": ', '"parameters": ', '{"a": "}"}', "{}", "}", "]", "[", ", ", "; ", "\n", "f",
    "<", "é", '"', "\\", "1", '{"name": "g", "arguments": {}}', "<|channel|>commentary to=",
    "functions.f", " <|constrain|>json<|message|>", "<|call|>",
])  # fmt: skip
texts = st.lists(marks, max_size=14).map("".join)


@settings(deadline=None)
@given(texts, st.sampled_from(FORMATS), st.booleans())
def test_any_split_gives_what_the_whole_text_gives(
    text: str, form: ToolFormat, whole: bool
) -> None:
    assert run(form, *text, whole=whole) == run(form, text, whole=whole)


@settings(deadline=None)
@given(texts, st.sampled_from(FORMATS))
def test_nothing_that_is_no_call_is_lost(text: str, form: ToolFormat) -> None:
    content, calls = run(form, text, whole=True)
    if not calls:
        assert content == text
    at = 0  # what is left is left in order
    for char in content:
        at = text.index(char, at) + 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([1.5, -2e-9]) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=4), json_values, max_size=3)


@settings(deadline=None)
@given(objects, st.sampled_from(WITH_JSON), st.booleans())
def test_any_arguments_come_through(
    arguments: dict[str, object], form: ToolFormat, lf: bool
) -> None:
    written = json.dumps(arguments, ensure_ascii=False, indent=1 if lf else None)
    text = f"{form.opener}{form.head}f{form.middle}{written}{form.tail}{form.closer}"

    assert run(form, *text.replace("{n}", "0")) == ("", [("f", written)])


# ---- where a JSON value ends


@settings(deadline=None)
@given(objects | st.lists(json_values, max_size=3), st.text(max_size=5))
def test_the_end_of_a_value_is_found_character_by_character(value: object, rest: str) -> None:
    text = json.dumps(value)
    scanner = JsonScanner()
    consumed = sum(scanner.feed(char) for char in text + rest)

    assert scanner.done
    assert consumed == len(text)


@settings(deadline=None)
@given(st.text(alphabet='{}[]":,1-.eE+truefalsn\\ ', max_size=12))
def test_what_is_done_is_json_and_what_failed_can_never_be(text: str) -> None:
    scanner = JsonScanner()
    end = scanner.feed(text)
    if scanner.done:
        json.loads(text[:end])
    if scanner.failed:
        with pytest.raises(ValueError):
            json.loads(text)
