"""Every syntax of tool calls: what a model writes in it comes out as calls, however it is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.events import ToolCallDelta
from service.generation import Tool
from service.text.calls import Calls
from service.text.formats_literal import GEMMA, LFM, PYTHONIC, TOOL_CODE
from service.text.formats_named import (
    DEEPSEEK,
    DEEPSEEK_V31,
    FUNCTIONARY_31,
    FUNCTIONARY_32,
    KIMI,
    SOLAR,
)
from service.text.formats_objects import (
    APERTUS,
    APRIEL,
    COMMAND,
    COMMAND_R,
    FIREFUNCTION,
    GIGACHAT,
    GIGACHAT_3,
    GRANITE,
    LLAMA,
    MINIMAX_M1,
    NEMOTRON,
    PHI,
)
from service.text.formats_tagged import (
    DEEPSEEK_V4,
    DEEPSEEK_V32,
    GLM,
    HUNYUAN,
    KIMI_K3,
    MINICPM,
    MINIMAX_M2,
    QWEN_CODER,
    SEED,
)
from service.text.literals import Literal
from service.text.tool_calls import FORMATS
from service.text.tool_format import ToolFormat
from service.text.tool_values import TYPES, types_of, value_json
from tests.text.writing import written

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "deep": {"$ref": "#/$defs/deep"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "unit": {"enum": ["c", "f"]},
    },
    "$defs": {"deep": {"type": "object"}},
}
OFFERED = (Tool("weather", parameters=SCHEMA), Tool("clock"))
WEATHER = ("weather", {"city": 'Zü "x"', "days": 2, "deep": {"a": [True, None, {"b": "c"}]}})
CLOCK: tuple[str, dict[str, Any]] = ("clock", {})

Call = tuple[str, dict[str, Any]]


def run(form: ToolFormat, *pieces: str, whole: bool = False) -> tuple[str, list[Call]]:
    calls = Calls(offered=OFFERED, stream_arguments=not whole)
    parser = form.parser(calls)
    parts = [part for piece in pieces for part in parser.feed(piece)] + parser.flush()
    found: list[tuple[str, str]] = []
    for part in parts:
        if isinstance(part, ToolCallDelta):
            found += [(part.name, "")] if part.name is not None else []
            found[part.call] = (found[part.call][0], found[part.call][1] + part.arguments)
    assert calls.completed == len(found)
    content = "".join(part for part in parts if isinstance(part, str))
    return content, [(name, json.loads(arguments)) for name, arguments in found]


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: str(form.name))
def test_what_a_model_writes_comes_out_as_calls(form: ToolFormat) -> None:
    calls = [WEATHER, CLOCK] if form.separator is not None else [WEATHER]
    text = written(form, *calls)

    for pieces in ([text], [*text]):
        assert run(form, *pieces) == ("", calls)
        assert run(form, *pieces, whole=True) == ("", calls)


ANYWHERE = [form for form in FORMATS if form.special is None]


@pytest.mark.parametrize("form", ANYWHERE, ids=lambda form: str(form.name))
def test_prose_before_and_after_a_call_stays(form: ToolFormat) -> None:
    text = "I look.\n" + written(form, WEATHER) + "\nDone."

    for pieces in ([text], [*text]):
        content, calls = run(form, *pieces)
        assert calls == [WEATHER]
        assert content == "I look.\n\nDone."


@pytest.mark.parametrize(
    ("form", "text", "calls"),
    [
        # Qwen3-Coder forgets the tag round a call, and the one that ends it.
        (QWEN_CODER, "<function=clock>\n</function>\n</tool_call>", [CLOCK]),
        (QWEN_CODER, "<tool_call>\n<function=clock>\n</tool_call>", [CLOCK]),
        (QWEN_CODER, "<tool_call>\n<function=weather>\n<parameter=city>\n\na < b\n</p>\n\n</parameter>\n"
                     "</function>\n</tool_call>", [("weather", {"city": "\na < b\n</p>\n"})]),
        (QWEN_CODER, "<tool_call><function=weather><parameter=days>3</parameter></function></tool_call>",
         [("weather", {"days": 3})]),
        (SEED, "<seed:tool_call>\n<function=weather>\n<parameter=deep>{'a': [True, None]}</parameter>\n"
               "<parameter=city>5</parameter>\n</function>\n</seed:tool_call>",
         [("weather", {"deep": {"a": [True, None]}, "city": "5"})]),
        (GLM, "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>5</arg_value>\n</tool_call>",
         [("weather", {"city": "5"})]),
        (GLM, "<tool_call>clock</tool_call><tool_call>clock\n</tool_call>", [CLOCK, CLOCK]),
        (GLM, "<tool_call>other<arg_key>a</arg_key><arg_value>[1</arg_value></tool_call>",
         [("other", {"a": "[1"})]),
        (HUNYUAN, "<tool_calls:opensource>\n<tool_call:opensource>clock<tool_sep:opensource>\n"
                  "</tool_call:opensource>\n</tool_calls:opensource>", [CLOCK]),
        (MINIMAX_M2, '<minimax:tool_call>\n<invoke name="clock">\n</invoke>\n<invoke name="clock">\n'
                     "</invoke>\n</minimax:tool_call>", [CLOCK, CLOCK]),
        (DEEPSEEK_V32, '<｜DSML｜function_calls>\n<｜DSML｜invoke name="other">\n<｜DSML｜parameter name="a" '
                       'string="true">5</｜DSML｜parameter>\n<｜DSML｜parameter name="b" string="false">5'
                       "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
         [("other", {"a": "5", "b": 5})]),
        (DEEPSEEK_V4, '<｜DSML｜tool_calls><｜DSML｜invoke name="clock"></｜DSML｜invoke></｜DSML｜tool_calls>',
         [CLOCK]),
        (MINICPM, '<function name="weather"><param name="city"><![CDATA[<b> </param>\n]]></param></function>',
         [("weather", {"city": "<b> </param>\n"})]),
        (KIMI_K3, '<|open|>tools<|sep|><|open|>call tool="other" index="1"<|sep|><|open|>argument key="a" '
                  'type="string"<|sep|>5<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>',
         [("other", {"a": "5"})]),
        (LFM, "<|tool_call_start|>[weather(city='it\\'s', days=-2, deep={'a': (1, 'b', False)},), clock()]"
              "<|tool_call_end|>", [("weather", {"city": "it's", "days": -2, "deep": {"a": [1, "b", False]}}), CLOCK]),
        (PYTHONIC, '[weather(city="x"), clock()]', [("weather", {"city": "x"}), CLOCK]),
        (LLAMA, "\n[clock()]", [CLOCK]),
        (LLAMA, '<|python_tag|>{"name": "clock", "parameters": {}}', [CLOCK]),
        (TOOL_CODE, "```tool_code\nweather(city='x')\n```", [("weather", {"city": "x"})]),
        (GEMMA, '<|tool_call>call:weather{city:<|"|>a "b" \\n<|"|>,deep:{a:[1,{b:<|"|>c<|"|>}]}}<tool_call|>',
         [("weather", {"city": 'a "b" \\n', "deep": {"a": [1, {"b": "c"}]}})]),
        (KIMI, "<|tool_calls_section_begin|><|tool_call_begin|>clock<|tool_call_argument_begin|>{}"
               "<|tool_call_end|><|tool_calls_section_end|>", [CLOCK]),
        (KIMI, "<|tool_call_begin|>functions.clock:0<|tool_call_argument_begin|>{}<|tool_call_end|>", [CLOCK]),
        (DEEPSEEK, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>clock<｜tool▁sep｜>{}<｜tool▁call▁end｜>", [CLOCK]),
        (DEEPSEEK_V31, "<｜tool▁call▁begin｜>function<｜tool▁sep｜>clock\n```json\n{}\n```<｜tool▁call▁end｜>",
         [CLOCK]),
        (FUNCTIONARY_31, "<function=clock>{}</function><function=clock>{}</function>", [CLOCK, CLOCK]),
        (FUNCTIONARY_32, "clock\n{}>>>clock\n{}", [CLOCK, CLOCK]),
        (SOLAR, "<|tool_calls|><|tool_call:begin|>x1<|tool_call:name|>clock<|tool_call:args|>{}"
                "<|tool_call:end|><|calls|>", [CLOCK]),
        (COMMAND, '<|START_ACTION|>[\n    {"tool_name": "clock", "parameters": {}}\n]<|END_ACTION|>', [CLOCK]),
        (COMMAND_R, 'Action:```json\n[{"tool_name": "clock", "parameters": {}}]\n```', [CLOCK]),
        (APERTUS, '<|tools_prefix|>[{"clock": {}}, {"clock": {}}]<|tools_suffix|>', [CLOCK, CLOCK]),
        (APRIEL, '<tool_calls>[{"name": "clock", "arguments": {}, "id": "c"}]</tool_calls>', [CLOCK]),
        (NEMOTRON, '<TOOLCALL>[{"name": "clock", "arguments": {}}]</TOOLCALL>', [CLOCK]),
        (PHI, '<|tool_call|>[{"name": "clock", "arguments": {}}]<|/tool_call|>', [CLOCK]),
        (PHI, 'functools[{"name": "clock", "arguments": {}}]', [CLOCK]),
        (GRANITE, '<|tool_call|>[{"name": "clock", "arguments": {}}]', [CLOCK]),
        (GRANITE, '<tool_call>[{"name": "clock", "arguments": {}}]', [CLOCK]),
        (FIREFUNCTION, ' functools[{"name": "clock", "arguments": {}}, {"name": "clock", "arguments": {}}]',
         [CLOCK, CLOCK]),
        (MINIMAX_M1, '<tool_calls>\n{"name": "clock", "arguments": {}}\n{"name": "clock", "arguments": {}}\n'
                     "</tool_calls>", [CLOCK, CLOCK]),
        (GIGACHAT, '<|function_call|>{"name": "clock", "arguments": {}}', [CLOCK]),
        (GIGACHAT_3, '<|message_sep|>\n\nfunction call<|role_sep|>\n{"name": "clock", "arguments": {}}', [CLOCK]),
    ],
)  # fmt: skip
def test_ways_of_writing(form: ToolFormat, text: str, calls: list[Call]) -> None:
    for pieces in ([text], [*text]):
        content, found = run(form, *pieces)
        assert content.strip() == ""
        assert found == calls
        assert run(form, *pieces, whole=True) == (content, calls)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (QWEN_CODER, "Use <tool_call> and <function=f> so."),
        (QWEN_CODER, '<tool_call>{"name": "clock", "arguments": {}}</tool_call>'),
        (QWEN_CODER, "<tool_call><function=clock>none</function>"),
        (GLM, "<tool_call> is a tag, and </tool_call> another"),
        (GLM, "<tool_call>clock and more</tool_call>"),
        (MINIMAX_M2, "<minimax:tool_call><invoke name="),
        (LFM, "<|tool_call_start|>[1, 2]<|tool_call_end|>"),
        (LFM, "<|tool_call_start|>[weather(5)]"),
        (PYTHONIC, "[1, 2, 3]"),
        (PYTHONIC, "[see(there)]"),
        (PYTHONIC, "[clock(now) shows it](x)"),
        (LLAMA, "It is [clock()]"),
        (GEMMA, "<|tool_call>call:weather[1]<tool_call|>"),
        (KIMI, "<|tool_calls_section_begin|>no call<|tool_calls_section_end|>"),
        (KIMI, "<|tool_calls_section_begin|><|tool_call_begin|>two words<|tool_call_argument_begin|>{}"),
        (DEEPSEEK, "<｜tool▁calls▁begin｜>" + "x" * 300),
        (FUNCTIONARY_32, "1 >>> 2"),
        (FUNCTIONARY_32, "unknown\n{}"),
        (FIREFUNCTION, "functools is a module of Python's, functools[1]"),
        (COMMAND_R, 'Action: ```json\n[{"tool_name": "directly_answer", "parameters": {}}]\n```'),
        (APERTUS, "<|tools_prefix|>[]"),
    ],
)  # fmt: skip
def test_what_is_no_call_comes_out_as_it_was_written(form: ToolFormat, text: str) -> None:
    for pieces in ([text], [*text]):
        assert run(form, *pieces) == (text, [])
        assert run(form, *pieces, whole=True) == (text, [])


def test_the_answer_to_everybody_is_content() -> None:
    assert run(FUNCTIONARY_32, "all\nI look.>>>clock\n{}") == ("I look.", [CLOCK])


def test_a_string_in_tags_arrives_as_it_is_written() -> None:
    parser = QWEN_CODER.parser(Calls(offered=OFFERED, new_id=lambda: "id"))

    assert parser.feed("<tool_call>\n<function=weather>\n") == []
    assert parser.feed("<parameter=city>\nZü") == [
        ToolCallDelta(0, 0, "", "id", "weather"),
        ToolCallDelta(0, 0, '{"city": "Zü'),
    ]
    assert parser.feed('ri"ch\n</para') == [ToolCallDelta(0, 0, 'ri\\"ch')]
    assert parser.feed("meter>\n<parameter=days>\n1") == [ToolCallDelta(0, 0, '", "days": ')]
    assert parser.feed("2\n</parameter>\n</function>") == [ToolCallDelta(0, 0, "12}")]
    assert parser.feed("\n</tool_call>") + parser.flush() == []


def test_a_literal_arrives_as_it_is_written() -> None:
    parser = LFM.parser(Calls(offered=OFFERED, new_id=lambda: "id"))

    assert parser.feed("<|tool_call_start|>[weather(ci") == []
    assert parser.feed("ty='Zü") == [
        ToolCallDelta(0, 0, "", "id", "weather"),
        ToolCallDelta(0, 0, '{"city": "Zü'),
    ]
    assert parser.feed("rich', days=1") == [ToolCallDelta(0, 0, 'rich", "days": ')]
    assert parser.feed("2)") == [ToolCallDelta(0, 0, "12}")]


def test_the_models_own_ids_are_kept_where_they_can_serve() -> None:
    calls = Calls(new_id=lambda: "ours")
    one = "<|tool_call_begin|>functions.f:7<|tool_call_argument_begin|>{}<|tool_call_end|>"
    short = "<|tool_call_begin|>f<|tool_call_argument_begin|>{}<|tool_call_end|>"
    parts = KIMI.parser(calls).feed(f"<|tool_calls_section_begin|>{one}{one}{short}")

    assert [p.id for p in parts if isinstance(p, ToolCallDelta) and p.name] == [
        "functions.f:7",
        "ours",
        "ours",
    ]


@pytest.mark.parametrize("form", [QWEN_CODER, LFM, KIMI], ids=lambda form: str(form.name))
def test_a_call_that_is_cut_off_stays_as_it_was_sent(form: ToolFormat) -> None:
    text = written(form, ("weather", {"city": "Zurich"}))
    calls = Calls(offered=OFFERED)
    parser = form.parser(calls)
    parts = parser.feed(text[: text.index("rich")]) + parser.flush()

    assert "".join(p.arguments for p in parts if isinstance(p, ToolCallDelta)).endswith('"Zu')
    assert not any(isinstance(part, str) for part in parts)
    assert calls.completed == 0


# ---- any call, any piece

words = st.text(
    st.characters(exclude_characters="\\<>|`", exclude_categories=["Cs", "Cc"]), max_size=8
)
keys = st.sampled_from(["city", "days", "deep", "other"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-9, 9) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=2),
    max_leaves=5,
)
arguments = st.fixed_dictionaries(
    {}, optional={"city": words, "days": st.integers(), "deep": st.dictionaries(keys, values)}
)


@settings(deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(st.just("weather"), arguments) | st.just(CLOCK), min_size=1, max_size=3),
    st.lists(st.integers(1, 9), max_size=40),
    st.booleans(),
)
def test_any_calls_cut_anywhere(
    form: ToolFormat, calls: list[Call], lengths: list[int], whole: bool
) -> None:
    calls = calls if form.separator is not None else calls[:1]
    text = written(form, *calls)
    pieces = []
    for length in lengths:
        pieces.append(text[:length])
        text = text[length:]

    assert run(form, *pieces, text, whole=whole) == ("", calls)


def marks(form: ToolFormat) -> list[str]:
    text = written(form, WEATHER, CLOCK)
    return [text, text[: len(text) // 2], *form.frame.openers, form.frame.head, form.frame.closer,
            form.head, "weather", form.middle, "{}", form.tail, *text.split(">")[:6]]  # fmt: skip


junk = st.sampled_from(FORMATS).flatmap(
    lambda form: st.tuples(
        st.just(form),
        st.lists(st.sampled_from(marks(form)) | st.text(max_size=3), max_size=8).map("".join),
    )
)


@settings(deadline=None)
@given(junk)
def test_junk_is_read_alike_however_it_is_cut_and_prose_is_never_lost(
    case: tuple[ToolFormat, str],
) -> None:
    form, text = case

    def parts(pieces: list[str], whole: bool) -> tuple[str, str, int]:
        calls = Calls(offered=OFFERED, stream_arguments=not whole)
        parser = form.parser(calls)
        out = [part for piece in pieces for part in parser.feed(piece)] + parser.flush()
        content = "".join(part for part in out if isinstance(part, str))
        written = "".join(p.arguments for p in out if isinstance(p, ToolCallDelta))
        return content, written, calls.completed

    for whole in (False, True):
        assert parts([text], whole) == parts([*text], whole)
    content, written, completed = parts([text], True)
    if not completed:
        assert content == text.removeprefix("all\n" if form is FUNCTIONARY_32 else "")
    at = 0
    for char in content:
        at = text.index(char, at) + 1


# ---- values


@pytest.mark.parametrize(
    ("text", "types", "expected"),
    [
        ("5", {"string"}, "5"),
        ("5", {"integer"}, 5),
        ("5", {"number"}, 5),
        ("5", TYPES, 5),
        (" true ", {"boolean"}, True),
        ("True", {"boolean"}, True),
        ("None", {"string", "null"}, None),
        ("null", {"string"}, "null"),
        ('"x"', {"string", "null"}, '"x"'),
        ('"x"', TYPES, "x"),
        ("x y", {"integer"}, "x y"),
        ("{'a': (1, 2)}", {"object"}, {"a": [1, 2]}),
        ("NaN", {"number"}, "NaN"),
        ("[1", {"array"}, "[1"),
        ("", {"integer"}, ""),
    ],
)
def test_a_value_has_the_type_that_the_schema_allows(
    text: str, types: set[str], expected: Any
) -> None:
    assert json.loads(value_json(text, frozenset(types))) == expected


def test_types_are_found_through_references_and_alternatives() -> None:
    tool = OFFERED[0]

    assert types_of(tool, "deep") == {"object"}
    assert types_of(tool, "maybe") == {"string", "null"}
    assert types_of(tool, "unit") == {"string"}
    assert types_of(tool, "unknown") == types_of(None, "city") == TYPES
    loop = Tool("f", parameters={"properties": {"a": {"$ref": "#/properties/a"}}})
    assert types_of(loop, "a") == TYPES


@settings(deadline=None)
@given(values)
def test_pythons_literals_are_read_as_json(value: Any) -> None:
    literal = Literal()
    out = "".join(literal.feed(char)[0] for char in repr(value) + " ")

    assert literal.done
    assert json.loads(out) == value


@settings(deadline=None)
@given(st.text("{}[]():=,'\"\\nTrue1.e ", max_size=12))
def test_no_literal_is_lost_or_raises(text: str) -> None:
    literal = Literal()
    written, rest = literal.feed(text)

    if literal.done:
        json.loads(written)
        assert text.endswith(rest)
