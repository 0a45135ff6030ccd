from __future__ import annotations

import json
from typing import Any

import pytest

from service.errors import InvalidRequest
from service.events import ToolCallDelta
from service.generation import Chat, Grammar, ResponseFormat, Tool, ToolChoice
from service.text.calls import Calls
from service.text.formats_objects import HERMES, LLAMA, MISTRAL
from service.text.grammar import grammar_of
from service.text.reasoning import FORMATS as REASONING
from service.text.reasoning import HARMONY as CHANNELS
from service.text.reasoning import THINK
from service.text.tool_calls import FORMATS
from service.text.tool_format import ToolFormat
from tests.text import llama
from tests.text.matcher import Matcher
from tests.text.writing import written

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
WEATHER = Tool("weather", parameters=CITY)
CLOCK = Tool("clock")
TEXT = ResponseFormat()
REQUIRED = ToolChoice("required")


def named_format(name: str) -> ToolFormat:
    return next(form for form in FORMATS if form.name == name)


def headed(form: ToolFormat, call: tuple[str, dict[str, Any]]) -> str:
    return form.heading.replace("{name}", call[0]) + written(form, call)


def held(grammar: Grammar | None) -> Matcher:
    assert grammar is not None
    return Matcher(grammar.text, grammar.root)


AUTO = ToolChoice()


def chat(*tools: Tool, choice: ToolChoice = AUTO, parallel: bool = True) -> Chat:
    return Chat((), tools, choice, parallel)


def test_free_text_is_not_held() -> None:
    assert grammar_of(TEXT) is None
    assert grammar_of(TEXT, chat(WEATHER), tools=HERMES) is None
    assert grammar_of(TEXT, chat(), form=THINK, inside=True) is None


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: str(form.name))
def test_a_required_call_is_a_call_in_the_models_own_syntax(form: ToolFormat) -> None:
    grammar = held(grammar_of(TEXT, chat(WEATHER, CLOCK, choice=REQUIRED), tools=form))

    assert grammar.accepts(headed(form, ("weather", {"city": "Bern"})))
    assert grammar.accepts(headed(form, ("clock", {})))
    assert grammar.accepts(headed(form, ("weather", {"city": "Bern", "days": 2})))
    few = {"city": "Bern", "days": "few"}
    for wrong in (("weather", {}), ("weather", few), ("clock", {"a": 1}), ("other", {})):
        assert not grammar.accepts(headed(form, wrong))
    assert not grammar.accepts("")
    assert not grammar.begins("I ")


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: str(form.name))
def test_what_the_grammar_forces_the_parser_reads(form: ToolFormat) -> None:
    text = written(form, ("weather", {"city": 'B"ern'}))
    parser = form.parser(Calls(offered=(WEATHER,)))
    parts = [*parser.feed(text), *parser.flush()]
    calls = [part for part in parts if isinstance(part, ToolCallDelta)]

    assert len(calls) == len(parts)
    assert calls[0].name == "weather"
    assert json.loads("".join(call.arguments for call in calls)) == {"city": 'B"ern'}


def test_a_named_tool_is_the_only_one() -> None:
    named = ToolChoice("named", ("clock",))
    grammar = held(grammar_of(TEXT, chat(WEATHER, CLOCK, choice=named), tools=HERMES))

    assert grammar.accepts(written(HERMES, ("clock", {})))
    assert not grammar.accepts(written(HERMES, ("weather", {"city": "Bern"})))


@pytest.mark.parametrize("form", [HERMES, MISTRAL], ids=lambda form: str(form.name))
def test_several_calls_only_where_they_may_be_parallel(form: ToolFormat) -> None:
    two = written(form, ("clock", {}), ("clock", {}))
    many = written(form, *[("clock", {})] * 17)
    several = held(grammar_of(TEXT, chat(CLOCK, choice=REQUIRED), tools=form))
    single = held(grammar_of(TEXT, chat(CLOCK, choice=REQUIRED, parallel=False), tools=form))

    assert several.accepts(two)
    assert not several.accepts(many)
    assert not single.accepts(two)


def test_a_call_cannot_be_forced_on_a_model_without_a_syntax_or_tools() -> None:
    for tools, offered in ((None, (CLOCK,)), (HERMES, ())):
        with pytest.raises(InvalidRequest) as caught:
            grammar_of(TEXT, chat(*offered, choice=REQUIRED), tools=tools)
        assert caught.value.param == "tool_choice"


def test_a_strict_tool_is_held_from_where_its_call_begins() -> None:
    strict = Tool("weather", parameters=CITY, strict=True)
    grammar = grammar_of(TEXT, chat(strict), tools=HERMES, form=THINK, inside=True)

    assert grammar is not None
    assert grammar.triggers == HERMES.triggers
    assert (grammar.after, grammar.opener) == ("</think>", None)
    assert held(grammar).accepts(written(HERMES, ("weather", {"city": "Bern"})))


def test_what_thoughts_quote_of_a_call_is_none_though_the_model_opens_them_itself() -> None:
    strict = Tool("weather", parameters=CITY, strict=True)
    grammar = grammar_of(TEXT, chat(strict), tools=HERMES, form=THINK)

    assert grammar is not None
    assert (grammar.after, grammar.opener) == ("</think>", "<think>")
    assert grammar.triggers == HERMES.triggers


def test_one_call_only_holds_free_text_from_the_first_call_on() -> None:
    grammar = grammar_of(TEXT, chat(CLOCK, parallel=False), tools=LLAMA)

    assert grammar is not None
    assert grammar.triggers == LLAMA.triggers
    assert grammar.after is None


def test_a_schema_that_no_grammar_says_refuses_strict_tools_only() -> None:
    odd = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    loose = held(grammar_of(TEXT, chat(Tool("f", parameters=odd), choice=REQUIRED), tools=HERMES))

    assert loose.accepts(written(HERMES, ("f", {"anything": [1, 1]})))
    with pytest.raises(InvalidRequest) as caught:
        grammar_of(TEXT, chat(Tool("f", parameters=odd, strict=True)), tools=HERMES)
    assert caught.value.param == "tools"


def test_a_response_format_holds_the_whole_answer() -> None:
    grammar = grammar_of(ResponseFormat("schema", schema=CITY))

    assert held(grammar).accepts('{"city": "Bern"}')
    assert not held(grammar).accepts('{"town": "Bern"}')
    assert held(grammar_of(ResponseFormat("json"))).accepts('{"town": "Bern"}')


def test_a_response_format_leaves_the_choice_to_call_a_tool_instead() -> None:
    grammar = held(grammar_of(ResponseFormat("schema", schema=CITY), chat(CLOCK), tools=HERMES))

    assert grammar.accepts('{"city": "Bern"}')
    assert grammar.accepts(written(HERMES, ("clock", {})))
    none = chat(CLOCK, choice=ToolChoice("none"))
    grammar = held(grammar_of(ResponseFormat("schema", schema=CITY), none, tools=HERMES))
    assert not grammar.accepts(written(HERMES, ("clock", {})))


def test_thoughts_come_before_the_grammar() -> None:
    inside = grammar_of(ResponseFormat("json"), form=THINK, inside=True)
    outside = grammar_of(ResponseFormat("json"), form=THINK)

    assert inside is not None
    assert outside is not None
    assert (inside.after, inside.opener) == ("</think>", None)
    assert (outside.after, outside.opener) == ("</think>", "<think>")
    assert held(inside).accepts("\n\n{}")


def test_on_channels_the_answer_has_a_heading() -> None:
    grammar = held(grammar_of(ResponseFormat("json"), form=CHANNELS))

    assert grammar.accepts("<|start|>assistant<|channel|>final<|message|>{}")
    assert grammar.accepts("<|channel|>final<|message|>{}")
    assert not grammar.accepts("{}")


def test_a_grammar_of_the_clients_is_checked_and_comes_after_the_thoughts() -> None:
    text = 'root ::= "yes" | answer\nanswer ::= "no"'
    plain = grammar_of(ResponseFormat("grammar", grammar=text))
    after = grammar_of(ResponseFormat("grammar", grammar=text), form=THINK, inside=True)

    assert plain == Grammar(text)
    assert held(after).accepts("\n\nno")
    with pytest.raises(InvalidRequest) as caught:
        grammar_of(ResponseFormat("grammar", grammar='root ::= "\\x00"', param="guided_grammar"))
    assert caught.value.param == "guided_grammar"


def test_llama_cpp_takes_them_all() -> None:
    cases = []
    for form in FORMATS:
        grammar = grammar_of(TEXT, chat(WEATHER, CLOCK, choice=REQUIRED), tools=form, form=THINK)
        assert grammar is not None
        calls = [("weather", {"city": "Zürich"}), ("weather", {"city": "x", "days": "few"})]
        cases += [(grammar.text, "root", "\n" + headed(form, call)) for call in calls]

    assert llama.verdicts(cases) == [True, False] * len(FORMATS)


def test_what_was_begun_of_an_answer_is_part_of_its_form_and_has_its_thoughts_behind_it() -> None:
    grammar = grammar_of(ResponseFormat("json"), form=THINK, inside=False, begun='{"a": ')

    assert grammar is not None
    assert (grammar.begun, grammar.after, grammar.opener) == ('{"a": ', None, None)
    assert held(grammar).accepts('{"a": 1}')
    assert grammar_of(TEXT, begun="It is ") is None


def test_a_forced_call_of_muse_is_a_message_to_its_tool() -> None:
    form = named_format("muse")
    thoughts = next(each for each in REASONING if each.name == "muse")
    grammar = grammar_of(TEXT, chat(CLOCK, choice=REQUIRED), tools=form, form=thoughts)
    call = written(form, ("clock", {}))

    assert held(grammar).accepts(f" to=clock<|message|>{call}")
    assert held(grammar).accepts(f"<|start|>assistant to=clock<|message|>{call}")
    assert not held(grammar).accepts(call)
