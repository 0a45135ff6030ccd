"""Mistral's two syntaxes, both after the control token `[TOOL_CALLS]`.

    [TOOL_CALLS][{"name": …, "arguments": {…}}, …]                     up to Nemo and Small 3.1
    [TOOL_CALLS]name[CALL_ID]abc123def[ARGS]{…}[TOOL_CALLS]name[ARGS]{…}      from Small 3.2 on

Calls get ids of ours: the model's own are nine characters that need not be unique.
"""

from __future__ import annotations

import re

from service.text.tool_call_reader import Part
from service.text.tool_parser import ToolParser

_ARGUMENTS = "[ARGS]"
_HEAD = re.compile(r"([\w.-]{1,64})(?:\[CALL_ID\]\w{0,64})?\Z")
_PARTIAL_HEAD = re.compile(r"[\w.-]{0,64}(?:\[[A-Z_]{0,7}(?:\]\w{0,64}(?:\[[A-Z]{0,4})?)?)?\Z")


class MistralParser(ToolParser):
    opener = "[TOOL_CALLS]"

    def _begin(self, text: str, out: list[Part]) -> str:
        begun = text.lstrip()
        if not begun:
            return self._hold(text)
        space = text[: len(text) - len(begun)]
        if begun[0] == "[":
            self._read(space + "[")
            return begun[1:]
        if begun[0] == "{":
            self._read(space)
            return begun
        return self._named(text, out)

    def _named(self, text: str, out: list[Part]) -> str:
        head, arguments, rest = text.partition(_ARGUMENTS)
        if not arguments and _PARTIAL_HEAD.match(text.lstrip()):
            return self._hold(text)
        name = _HEAD.match(head.strip())
        if not arguments or not name:
            return self._no_call(text, out)
        self._read(head + arguments, name[1])
        return rest

    def _after(self, text: str, out: list[Part]) -> str:
        begun = text.lstrip()
        if not begun:
            return self._hold(text)
        if begun[0] == ",":
            self._read(",")
            return begun[1:]
        self._state = self._gap
        return begun[1:] if begun[0] == "]" else text
