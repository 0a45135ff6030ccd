"""Hermes, Qwen and many after them: `<tool_call>\\n{"name": …, "arguments": {…}}\\n</tool_call>`."""

from __future__ import annotations

from service.text.tool_call_reader import Part
from service.text.tool_parser import ToolParser


class HermesParser(ToolParser):
    """A closing tag that the model forgets is not missed."""

    opener = "<tool_call>"
    closer = "</tool_call>"

    def _begin(self, text: str, out: list[Part]) -> str:
        self._read("")
        return text

    def _after(self, text: str, out: list[Part]) -> str:
        begun = text.lstrip()
        if len(begun) < len(self.closer) and self.closer.startswith(begun):
            return self._hold(text)
        self._state = self._gap
        return begun.removeprefix(self.closer) if begun.startswith(self.closer) else text
