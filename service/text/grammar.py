"""What holds an answer to the form that was asked for: `response_format`, `tools`, `tool_choice`.

1. `tool_choice` required or named: nothing but calls, in the model's own syntax, their arguments
   held to the tools' schemas.
2. A response format: nothing but that; or calls, where the model may choose between the two.
3. Free text, where a tool is `strict` or only one call is wanted: free until a call begins.
4. Otherwise nothing. A model that then calls twice although one call was asked for has the
   others cut (`Calls.parallel`).

Thoughts come first and are free: the grammar starts where they end.
"""

from __future__ import annotations

from msgspec.structs import replace

from service.errors import InvalidRequest
from service.generation import Chat, Grammar, ResponseFormat, Tool
from service.text.gbnf import check_gbnf, literal
from service.text.gbnf_rules import GbnfRules
from service.text.json_schema import schema_expression
from service.text.literal_choice import choice_expression
from service.text.reasoning import NONE, ReasoningFormat
from service.text.regex_gbnf import regex_expression
from service.text.tool_format import ToolFormat
from service.text.tool_grammar import marks

# A model that cannot stop calling stops here.
_MOST_CALLS = 16
_LEAD = r"[ \t\r\n]{0,4}"


def grammar_of(
    response_format: ResponseFormat,
    chat: Chat | None = None,
    *,
    tools: ToolFormat | None = None,
    form: ReasoningFormat = NONE,
    inside: bool = False,
    begun: str | None = None,
) -> Grammar | None:
    """The grammar of an answer, None if it is free.

    chat: None for raw prompts. tools, form: of the model's template. inside: the prompt ends
    within thoughts. begun: what it has of the answer already. Raises InvalidRequest with the
    parameter that cannot be held to.
    """
    if begun is None:
        return _from_its_beginning(response_format, chat, tools, form, inside)
    # Thoughts and headings are behind it.
    grammar = _from_its_beginning(response_format, chat, tools, NONE, False)
    if grammar is None or grammar.triggers:
        return grammar
    return replace(grammar, begun=begun)


def _from_its_beginning(
    response_format: ResponseFormat,
    chat: Chat | None,
    tools: ToolFormat | None,
    form: ReasoningFormat,
    inside: bool,
) -> Grammar | None:
    offered = _offered(chat)
    if chat and chat.tool_choice.mode in ("required", "named"):
        if tools is None or not offered:
            why = "there is no tool to call" if tools else "the model knows no syntax for calls"
            raise InvalidRequest(f"A tool call cannot be forced: {why}", param="tool_choice")
        rules = GbnfRules("tools")
        calls = _headed(offered, tools, chat.parallel_tool_calls, rules)
        return _after_thoughts(rules, _resuming(calls, form), form, inside)
    free_to_call = offered if tools else ()
    if response_format.kind == "grammar":
        return _of_client(response_format, form, inside)
    if response_format.kind != "text":
        rules = GbnfRules(response_format.param)
        bodies = [_sequence(_literal(form.heading), _answer(response_format, rules))]
        if chat and tools and free_to_call:
            rules.param = "tools"
            bodies.append(_headed(free_to_call, tools, chat.parallel_tool_calls, rules))
        body = rules.rule("answer", " | ".join(bodies))
        return _after_thoughts(rules, _resuming(body, form), form, inside)
    if chat and tools and free_to_call and _worth_holding(chat, free_to_call):
        return _triggered(free_to_call, tools, chat.parallel_tool_calls, form, inside)
    return None


def _offered(chat: Chat | None) -> tuple[Tool, ...]:
    """The tools that the answer may call."""
    if chat is None or chat.tool_choice.mode == "none":
        return ()
    names = chat.tool_choice.names
    if chat.tool_choice.mode != "named":
        return chat.tools
    return tuple(tool for tool in chat.tools if tool.name in names)


def _worth_holding(chat: Chat, tools: tuple[Tool, ...]) -> bool:
    return any(tool.strict for tool in tools) or not chat.parallel_tool_calls


def _answer(response_format: ResponseFormat, rules: GbnfRules) -> str:
    if response_format.kind == "json":
        return rules.json("object")
    if response_format.kind == "regex":
        return regex_expression(response_format.regex or "", rules)
    if response_format.kind == "choice":
        return choice_expression(response_format.choice, rules)
    schema = response_format.schema
    return schema_expression(True if schema is None else schema, rules)


def _of_client(response_format: ResponseFormat, form: ReasoningFormat, inside: bool) -> Grammar:
    """A grammar from the request, with what a model puts before its answer in front."""
    text = response_format.grammar or ""
    check_gbnf(text, response_format.param)
    if not form.thinks and not form.heading:
        return Grammar(text)
    name = "answer"
    while name in text:
        name += "-"
    body = _resuming(_sequence(_literal(form.heading), "root"), form)
    text += f"\n{name} ::= {_LEAD} {body}\n"
    return _held(text, name, form, inside)


def _resuming(body: str, form: ReasoningFormat) -> str:
    return f"({literal(form.resume)})? {body}" if form.resume else body


def _after_thoughts(rules: GbnfRules, body: str, form: ReasoningFormat, inside: bool) -> Grammar:
    if not form.thinks:
        return Grammar(rules.text(body))
    return _held(rules.text(f"{_LEAD} {body}"), "root", form, inside)


def _held(text: str, root: str, form: ReasoningFormat, inside: bool) -> Grammar:
    if not form.thinks:
        return Grammar(text, root)
    opener = None if inside else form.opener
    return Grammar(text, root, after=form.closer, opener=opener)


def _triggered(
    offered: tuple[Tool, ...],
    tools: ToolFormat,
    parallel: bool,
    form: ReasoningFormat,
    inside: bool,
) -> Grammar:
    """Holds from the opening of the first call on; what thoughts quote of one is none, whether
    the prompt opened them or the model does."""
    rules = GbnfRules("tools")
    text = rules.text(_calls(offered, tools, parallel, rules))
    grammar = _held(text, "root", form, inside)
    return replace(grammar, triggers=tools.triggers)


def _headed(offered: tuple[Tool, ...], tools: ToolFormat, parallel: bool, rules: GbnfRules) -> str:
    return _sequence(marks(tools.heading), _calls(offered, tools, parallel, rules))


def _calls(offered: tuple[Tool, ...], tools: ToolFormat, parallel: bool, rules: GbnfRules) -> str:
    """One or more calls, one if not `parallel` or if the syntax has no place for another."""
    call = rules.choice("call", [_call(tool, tools, rules) for tool in offered])
    body = call
    if parallel and tools.separator is not None:
        more = rules.rule("call", _sequence(marks(tools.separator), call))
        body += f" {rules.repeat(more, 0, _MOST_CALLS - 1)}"
    return _sequence(marks(tools.opener), body, _literal(tools.closer))


def _call(tool: Tool, tools: ToolFormat, rules: GbnfRules) -> str:
    head = marks(tools.head + tool.name + tools.middle)
    return _sequence(head, tools.arguments(tool, rules), _literal(tools.tail))


def _literal(text: str) -> str:
    return literal(text) if text else ""


def _sequence(*parts: str) -> str:
    return " ".join(part for part in parts if part)
