"""Llama 3 and 4: the whole answer is calls, and nothing marks it as such.

    {"name": …, "parameters": {…}}       maybe after `<|python_tag|>`
    [name(city="x", days=3), name()]

So they have to begin the answer and to name a tool that was offered. Several objects, where a
model makes them, are separated by `;` or white space.
"""

from __future__ import annotations

from service.text.calls import Calls, Part, Reader
from service.text.literal_reader import LiteralReader
from service.text.tool_call_reader import CallReader
from service.text.tool_parser import Frame, ToolParser


def _object(calls: Calls) -> Reader:
    return CallReader(calls, known=True)


def _expression(calls: Calls) -> Reader:
    return LiteralReader(calls, known=True)


class AnswerParser(ToolParser):
    def __init__(self, calls: Calls) -> None:
        super().__init__(calls, Frame("<|python_tag|>", items=True), _object)
        self._state = self._start

    def _start(self, text: str, out: list[Part]) -> str:
        begun = text.lstrip()
        if begun.startswith("{"):
            self._read(text[: len(text) - len(begun)])
            return begun
        if begun.startswith("["):
            self._reads = _expression
            self._read(text[: len(text) - len(begun) + 1])
            return begun[1:]
        if begun.startswith(self._frame.opener):
            lead = len(text) - len(begun) + len(self._frame.opener)
            self._lead, self._state = text[:lead], self._begin
            return text[lead:]
        if self._frame.opener.startswith(begun):
            return self._hold(text)
        self._state = self._prose
        return text

    def _no_call(self, text: str, out: list[Part]) -> str:
        self._reads = _object
        return super()._no_call(text, out)
