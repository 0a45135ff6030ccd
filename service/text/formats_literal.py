"""Syntaxes whose calls look like a program's: `name(city="x", days=3)`; and Gemma 4's."""

from __future__ import annotations

import json

from service.text.calls import Calls, Reader
from service.text.literal_reader import LiteralReader
from service.text.literals import GEMMA as GEMMA_QUOTES
from service.text.tool_answers import AnswerParser
from service.text.tool_format import ToolFormat
from service.text.tool_grammar import literal_arguments
from service.text.tool_parser import Frame

_keywords = literal_arguments("=", ", ")


def _spelled(arguments: str) -> str:
    """`{"a": 1}` to `a=1`; what is no such object stays as it is."""
    try:
        values = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    if not isinstance(values, dict):
        return arguments
    return ", ".join(
        f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()
    )


def _gemma(calls: Calls) -> Reader:
    return LiteralReader(calls, "{", GEMMA_QUOTES)


LFM = ToolFormat(
    "lfm2",
    signs=(),
    any_of=("<|tool_list_start|>", "<|tool_call_start|>", "List of tools: ["),
    frame=Frame("<|tool_call_start|>", closer="<|tool_call_end|>", items=True),
    reader=LiteralReader,
    opener="<|tool_call_start|>[",
    head="",
    middle="(",
    arguments=_keywords,
    spelled=_spelled,
    tail=")",
    separator=", ",
    closer="]<|tool_call_end|>",
    controls=("<|tool_call_start|>", "<|tool_call_end|>"),
)
# Llama 3.2 and 4 and OLMo 3 with templates that ask for it: the whole answer is a list.
PYTHONIC = ToolFormat(
    "pythonic",
    signs=(),
    any_of=("[func_name1(", "[function_name1(", "[func1(", "func_name(params"),
    frame=Frame("<|python_tag|>"),
    special=AnswerParser,
    opener="[",
    head="",
    middle="(",
    arguments=_keywords,
    spelled=_spelled,
    tail=")",
    separator=", ",
    closer="]",
    trigger=r"^\s*(\[[\w.-]+\()",
)
# Gemma 3 has no syntax of its own; templates made for it ask for a block of code.
TOOL_CODE = ToolFormat(
    "tool-code",
    signs=("```tool_code",),
    frame=Frame("```tool_code", closer="```", items=True),
    reader=LiteralReader,
    opener="```tool_code\n",
    head="",
    middle="(",
    arguments=_keywords,
    spelled=_spelled,
    tail=")",
    closer="\n```",
)
GEMMA = ToolFormat(
    "gemma",
    signs=("<|tool_call>call:",),
    frame=Frame("<|tool_call>call:", closer="<tool_call|>"),
    reader=_gemma,
    head="<|tool_call>call:",
    middle="{",
    arguments=literal_arguments(":", ",", '<|"|>'),
    tail="}<tool_call|>",
    separator="",
    controls=("<|tool_call>", "<tool_call|>", '<|"|>'),
)
LITERAL = (LFM, PYTHONIC, TOOL_CODE, GEMMA)
