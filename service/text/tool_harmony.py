"""gpt-oss: a message to `functions.NAME`, as `HarmonyParser` spells it for this parser."""

from __future__ import annotations

from service.text.harmony import CALL_CLOSER, CALL_MIDDLE, CALL_OPENER
from service.text.tool_call_reader import Part
from service.text.tool_parser import ToolParser

_NAMESPACE = "functions."


class ToolHarmonyParser(ToolParser):
    opener = CALL_OPENER

    def _begin(self, text: str, out: list[Part]) -> str:
        recipient, middle, rest = text.partition(CALL_MIDDLE)
        if not middle:
            return self._hold(text)
        if not recipient.startswith(_NAMESPACE):
            return self._no_call(text, out)
        self._read(recipient + middle, recipient.removeprefix(_NAMESPACE))
        return rest

    def _after(self, text: str, out: list[Part]) -> str:
        begun = text.lstrip()
        if len(begun) < len(CALL_CLOSER) and CALL_CLOSER.startswith(begun):
            return self._hold(text)
        self._state = self._gap
        return begun.removeprefix(CALL_CLOSER) if begun.startswith(CALL_CLOSER) else text
