"""Llama 3: the whole answer is `{"name": …, "parameters": {…}}`, maybe after `<|python_tag|>`.

Nothing marks it as a call, so it has to begin the answer and to name a tool that was offered.
Several calls, where a model makes them, are separated by `;` or white space.
"""

from __future__ import annotations

from service.text.tool_call_reader import Calls, Part
from service.text.tool_parser import ToolParser

_SEPARATORS = " \t\r\n;,"


class LlamaParser(ToolParser):
    opener = "<|python_tag|>"

    def __init__(self, calls: Calls) -> None:
        super().__init__(calls)
        self._state = self._start

    def _start(self, text: str, out: list[Part]) -> str:
        return self._one(text, text.lstrip(), out)

    def _begin(self, text: str, out: list[Part]) -> str:
        """After a tag in the middle of the answer."""
        self._read("", known=True)
        return text

    def _after(self, text: str, out: list[Part]) -> str:
        return self._one(text, text.lstrip(_SEPARATORS), out)

    def _one(self, text: str, begun: str, out: list[Part]) -> str:
        if begun.startswith("{"):
            self._read(text[: len(text) - len(begun)], known=True)
            return begun
        if begun.startswith(self.opener):
            lead = len(text) - len(begun) + len(self.opener)
            self._read(text[:lead], known=True)
            return text[lead:]
        if self.opener.startswith(begun):
            return self._hold(text)
        self._state = self._prose
        return text
