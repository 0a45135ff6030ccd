"""Functionary 3.2: the prompt ends in `>>>`, and the answer says to whom it goes.

    all
    The weather is fine.>>>get_weather
    {"city": "x"}

What goes to `all` is content; so is what goes to nobody known.
"""

from __future__ import annotations

import re

from service.text.calls import Calls, Part, Reader
from service.text.header_reader import HeaderReader
from service.text.tool_parser import Frame, ToolParser

_EVERYBODY = "all\n"
_HEADER = re.compile(r"(?P<name>[\w.-]+)\n\s*(?=\{)")


def _reader(calls: Calls) -> Reader:
    return HeaderReader(calls, _HEADER, known=True)


class FunctionaryParser(ToolParser):
    def __init__(self, calls: Calls) -> None:
        super().__init__(calls, Frame(">>>"), _reader)
        self._state = self._begin

    def _begin(self, text: str, out: list[Part]) -> str:
        if text.startswith(_EVERYBODY):
            self._lead, self._state = "", self._prose
            return text[len(_EVERYBODY) :]
        if _EVERYBODY.startswith(text):
            return self._hold(text)
        self._read("")
        return text
