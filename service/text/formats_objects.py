"""Syntaxes whose calls are JSON objects that hold the name too: `{"name": …, "arguments": {…}}`.

They differ in the marks round the objects, and in whether these are a list.
"""

from __future__ import annotations

import re

from service.text.calls import Calls, Reader
from service.text.header_reader import HeaderReader
from service.text.tool_answers import AnswerParser
from service.text.tool_call_reader import CallReader
from service.text.tool_format import ToolFormat
from service.text.tool_parser import Frame

# Signs of syntaxes that wrap their arguments in tags, or write them otherwise.
TAGS = ("<function=", "<arg_key>", "<parameter=", "<invoke name=", "<function name=")

_NAME, _ARGUMENTS = '{"name": "', '", "arguments": '

# `[TOOL_CALLS]` is followed by a list, or from Small 3.2 on by the name:
# `[TOOL_CALLS]name[CALL_ID]abc123def[ARGS]{…}`. Its ids are nine characters that need not be unique.
_MISTRAL_HEADER = re.compile(
    r"\s*(?:(?P<name>[\w.-]{1,64})(?:\[CALL_ID\]\w{0,64})?\[ARGS\]\s*)?(?=\{)"
)
# Apertus writes `{"name": {…}}`.
_APERTUS_HEADER = re.compile(r'\s*\{\s*"(?P<name>[\w.-]{1,128})"\s*:\s*(?=\{)')


def _mistral(calls: Calls) -> Reader:
    return HeaderReader(calls, _MISTRAL_HEADER)


def _apertus(calls: Calls) -> Reader:
    return HeaderReader(calls, _APERTUS_HEADER)


def _offered(calls: Calls) -> Reader:
    return CallReader(calls, known=True)


# Hermes, Qwen and many after them.
HERMES = ToolFormat(
    "hermes",
    signs=("<tool_call>", "arguments"),
    unless=TAGS,
    frame=Frame("<tool_call>", closer="</tool_call>", items=True),
    head="<tool_call>\n" + _NAME,
    middle=_ARGUMENTS,
    tail="}\n</tool_call>",
    separator="\n",
)
LLAMA = ToolFormat(
    "llama",
    signs=("parameters",),
    any_of=("<|start_header_id|>", "<|header_start|>"),
    unless=(*TAGS, "functools[", ">>>"),
    frame=Frame("<|python_tag|>"),
    special=AnswerParser,
    head=_NAME,
    middle='", "parameters": ',
    tail="}",
    trigger=r'^\s*(?:<\|python_tag\|>)?(\{\s*"name"\s*:)',
    controls=("<|python_tag|>",),
)
MISTRAL = ToolFormat(
    "mistral",
    signs=("[TOOL_CALLS]",),
    frame=Frame("[TOOL_CALLS]", items=True),
    reader=_mistral,
    opener="[TOOL_CALLS][",
    head=_NAME,
    middle=_ARGUMENTS,
    tail="}",
    separator=", ",
    closer="]",
    controls=("[TOOL_CALLS]",),
)
MISTRAL_NAMED = ToolFormat(
    "mistral-named",
    signs=("[TOOL_CALLS]", "[ARGS]"),
    frame=Frame("[TOOL_CALLS]", items=True),
    reader=_mistral,
    head="[TOOL_CALLS]",
    middle="[ARGS]",
    tail="",
    separator="",
    controls=("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"),
)
COMMAND = ToolFormat(
    "command",
    signs=("<|START_ACTION|>",),
    frame=Frame("<|START_ACTION|>", closer="<|END_ACTION|>", items=True),
    opener="<|START_ACTION|>[\n    ",
    head='{"tool_call_id": "{n}", "tool_name": "',
    middle='", "parameters": ',
    tail="}",
    separator=",\n    ",
    closer="\n]<|END_ACTION|>",
    controls=("<|START_ACTION|>", "<|END_ACTION|>"),
)
# Command-R and R+. Their `directly_answer` is no tool of anybody's.
COMMAND_R = ToolFormat(
    "command-r",
    signs=("Action:", "tool_name", "<|CHATBOT_TOKEN|>"),
    frame=Frame(
        "Action: ```json",
        closer="```",
        items=True,
        also=("Action:```json", "Action:\n```json"),
    ),
    reader=_offered,
    opener="Action: ```json\n[\n    ",
    head='{"tool_name": "',
    middle='", "parameters": ',
    tail="}",
    separator=",\n    ",
    closer="\n]```",
    trigger=r"(Action:\s*```json)",
)
APERTUS = ToolFormat(
    "apertus",
    signs=("<|tools_prefix|>",),
    frame=Frame("<|tools_prefix|>", closer="<|tools_suffix|>", items=True, skip=("}",)),
    reader=_apertus,
    opener="<|tools_prefix|>[",
    head='{"',
    middle='": ',
    tail="}",
    separator=", ",
    closer="]<|tools_suffix|>",
    controls=("<|tools_prefix|>", "<|tools_suffix|>"),
)


def _list(
    name: str, signs: tuple[str, ...], opener: str, closer: str, also: tuple[str, ...] = ()
) -> ToolFormat:
    return ToolFormat(
        name,
        signs=signs,
        frame=Frame(opener, closer=closer, items=True, also=also),
        opener=opener + "[",
        head=_NAME,
        middle=_ARGUMENTS,
        tail="}",
        separator=", ",
        closer="]" + closer,
        controls=(opener,) if "|" in opener else (),
    )


NEMOTRON = _list("nemotron", ("<TOOLCALL>",), "<TOOLCALL>", "</TOOLCALL>")
APRIEL = _list("apriel", ("<tool_calls>[",), "<tool_calls>", "</tool_calls>")
# Phi-4-mini; some of its builds write what Firefunction writes.
PHI = _list("phi", ("<|tool|>", "<|/tool|>"), "<|tool_call|>", "<|/tool_call|>", ("functools",))
GRANITE = _list(
    "granite", ("<|start_of_role|>", "<|tool_call|>"), "<|tool_call|>", "", ("<tool_call>",)
)
FIREFUNCTION = _list("firefunction", ("functools[",), "functools", "")
MINIMAX_M1 = ToolFormat(
    "minimax-m1",
    signs=("<tool_calls>", "</tool_calls>", "arguments"),
    unless=("<tool_calls>[",),
    frame=Frame("<tool_calls>", closer="</tool_calls>", items=True),
    opener="<tool_calls>\n",
    head=_NAME,
    middle=_ARGUMENTS,
    tail="}",
    separator="\n",
    closer="\n</tool_calls>",
)
GIGACHAT = ToolFormat(
    "gigachat",
    signs=("<|role_sep|>", "<|function_call|>"),
    frame=Frame("<|function_call|>", also=("<|message_sep|>\n\nfunction call<|role_sep|>\n",)),
    head="<|function_call|>" + _NAME,
    middle=_ARGUMENTS,
    tail="}",
    controls=("<|function_call|>", "<|message_sep|>", "<|role_sep|>"),
)
GIGACHAT_3 = ToolFormat(
    "gigachat-3",
    signs=("<|role_sep|>", "'function call'"),
    frame=GIGACHAT.frame,
    head="<|message_sep|>\n\nfunction call<|role_sep|>\n" + _NAME,
    middle=_ARGUMENTS,
    tail="}",
    trigger=r"(<\|message_sep\|>\n\nfunction call<\|role_sep\|>)",
    controls=GIGACHAT.controls,
)
# The first that fits counts, so the more particular ones come first.
OBJECTS = (
    MISTRAL_NAMED, MISTRAL, COMMAND, COMMAND_R, APERTUS, NEMOTRON, APRIEL, PHI, GRANITE,
    FIREFUNCTION, GIGACHAT, GIGACHAT_3, HERMES, MINIMAX_M1, LLAMA,
)  # fmt: skip
