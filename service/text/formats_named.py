"""Syntaxes whose calls are a name, a mark, and the arguments as a JSON object."""

from __future__ import annotations

import re
from collections.abc import Callable

from service.text.calls import Calls, Reader
from service.text.harmony import CALL_CLOSER, CALL_MIDDLE, CALL_OPENER
from service.text.header_reader import HeaderReader
from service.text.tool_format import ToolFormat
from service.text.tool_functionary import FunctionaryParser
from service.text.tool_parser import Frame

_NAME = r"(?P<name>[\w.-]{1,128})"


def _after(header: str) -> Callable[[Calls], Reader]:
    compiled = re.compile(rf"\s*{header}\s*(?=\{{)")
    return lambda calls: HeaderReader(calls, compiled)


# gpt-oss, as `HarmonyParser` spells it.
HARMONY = ToolFormat(
    "harmony",
    signs=("<|channel|>commentary",),
    frame=Frame(CALL_OPENER, closer=CALL_CLOSER),
    reader=_after(rf"functions\.{_NAME}{re.escape(CALL_MIDDLE)}"),
    head=CALL_OPENER + "functions.",
    middle=CALL_MIDDLE,
    tail="",  # its end is the end token <|call|>, which no grammar can ask for
    controls=("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|call|>"),
)
# The ids count through the conversation, `functions.name:3`, and the model looks for them there.
KIMI = ToolFormat(
    "kimi",
    signs=("<|tool_calls_section_begin|>",),
    frame=Frame(
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>",
        "<|tool_calls_section_end|>",
        skip=("<|tool_call_end|>",),
        also=("<|tool_call_begin|>",),
    ),
    reader=_after(
        r"(?P<id>(?:functions\.)?(?P<name>[\w.-]{1,128})(?::\d{1,6})?)\s*<\|tool_call_argument_begin\|>"
    ),
    opener="<|tool_calls_section_begin|>",
    head="<|tool_call_begin|>functions.",
    middle=":{n}<|tool_call_argument_begin|>",
    tail="<|tool_call_end|>",
    separator="",
    closer="<|tool_calls_section_end|>",
    controls=(
        "<|tool_calls_section_begin|>", "<|tool_call_begin|>", "<|tool_call_argument_begin|>",
        "<|tool_call_end|>", "<|tool_calls_section_end|>",
    ),
)  # fmt: skip
_DEEPSEEK_FRAME = Frame(
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁calls▁end｜>",
    skip=("```", "<｜tool▁call▁end｜>"),
    also=("<｜tool▁call▁begin｜>",),
)
_deepseek = _after(rf"(?:function<｜tool▁sep｜>)?{_NAME}(?:<｜tool▁sep｜>|\s*(?=```))(?:```json)?")
_DEEPSEEK_CONTROLS = (
    "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
)  # fmt: skip
# V3 and R1, and from V3.1 on.
DEEPSEEK = ToolFormat(
    "deepseek",
    signs=("<｜tool▁calls▁begin｜>", "```json"),
    frame=_DEEPSEEK_FRAME,
    reader=_deepseek,
    opener="<｜tool▁calls▁begin｜>",
    head="<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    middle="\n```json\n",
    tail="\n```<｜tool▁call▁end｜>",
    separator="\n",
    closer="<｜tool▁calls▁end｜>",
    controls=_DEEPSEEK_CONTROLS,
)
DEEPSEEK_V31 = ToolFormat(
    "deepseek-v3.1",
    signs=("<｜tool▁calls▁begin｜>",),
    frame=_DEEPSEEK_FRAME,
    reader=_deepseek,
    opener="<｜tool▁calls▁begin｜>",
    head="<｜tool▁call▁begin｜>",
    middle="<｜tool▁sep｜>",
    tail="<｜tool▁call▁end｜>",
    separator="",
    closer="<｜tool▁calls▁end｜>",
    controls=_DEEPSEEK_CONTROLS,
)
FUNCTIONARY_31 = ToolFormat(
    "functionary-v3.1",
    signs=("<function=", "</function>"),
    unless=("<parameter",),
    frame=Frame("<function=", closer="</function>"),
    reader=_after(rf"{_NAME}>"),
    head="<function=",
    middle=">",
    tail="</function>",
    separator="",
)
FUNCTIONARY_32 = ToolFormat(
    "functionary-v3.2",
    signs=(">>>", "<|start_header_id|>"),
    frame=Frame(">>>"),
    special=FunctionaryParser,
    head="",
    middle="\n",
    tail="",
    separator=">>>",
    trigger=r"(?:^|>>>)([\w.-]+\n\{)",
)
SOLAR = ToolFormat(
    "solar",
    signs=("<|tool_calls|>", "<|tool_call:args|>"),
    frame=Frame(
        "<|tool_calls|>", "<|tool_call:begin|>", "<|calls|>", skip=("<|tool_call:end|>",)
    ),
    reader=_after(rf"(?P<id>[\w.-]{{1,64}})<\|tool_call:name\|>{_NAME}<\|tool_call:args\|>"),
    opener="<|tool_calls|>",
    head="<|tool_call:begin|>{n}<|tool_call:name|>",
    middle="<|tool_call:args|>",
    tail="<|tool_call:end|>",
    separator="",
    controls=(
        "<|tool_calls|>", "<|tool_call:begin|>", "<|tool_call:name|>", "<|tool_call:args|>",
        "<|tool_call:end|>", "<|calls|>",
    ),
)  # fmt: skip
NAMED = (HARMONY, KIMI, DEEPSEEK, DEEPSEEK_V31, FUNCTIONARY_31, FUNCTIONARY_32, SOLAR)
