"""One tool call, read while it streams: the name first, then the arguments as they arrive."""

from __future__ import annotations

import json
import re
from typing import Any

from service.text.calls import Calls, Part
from service.text.json_containers import json_text
from service.text.json_scanner import JsonScanner

# `{"name": "f", "arguments": ` as all models write it nearly always; Llama says "parameters", and
# Command-R `{"tool_call_id": "0", "tool_name": "f", "parameters": `.
_STRING = r'("(?:[^"\\]|\\.)*")'
_HEAD = re.compile(
    r'\s*\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?'
    r'(?:"(?:tool_call_)?id"\s*:\s*"[^"\\]*"\s*,\s*)?'
    rf'"(?:tool_)?name"\s*:\s*{_STRING}\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{{)'
)
# A longer head than this is no head; the call is read whole instead.
_LONGEST_HEAD = 1024
# An object whose first key is another one is no call, and is not held back to its end.
_FIRST_KEY = re.compile(r'\s*\{\s*"([^"]*)"')
_KEYS = frozenset({
    "name", "arguments", "parameters", "type", "id", "function", "tool_name", "tool_call_id",
})  # fmt: skip


class CallReader:
    """Reads `{"name": …, "arguments": {…}}`, or with `name` given the arguments alone.

    known: a call of a tool that was not offered is none.
    """

    def __init__(
        self,
        calls: Calls,
        name: str | None = None,
        own_id: str | None = None,
        *,
        known: bool = False,
    ) -> None:
        self.done = False
        self.failed = False
        self.rest = ""
        self._calls = calls
        self._known = known
        self._scanner = JsonScanner()
        self._text = ""  # not sent yet
        self._at = 0  # how much of it has been scanned
        self._floor = 0 if name else 1
        self._name = name
        self._id = own_id
        self._sent = False

    def feed(self, text: str) -> list[Part]:
        self._text += text
        out: list[Part] = []
        if not self._sent:
            out += self._open()
        if self._sent and not self._arguments_done:
            out += self._arguments()
        if not (self._sent and not self._arguments_done):
            out += self._tail()
        return out

    def flush(self) -> str:
        return "" if self._sent else self._text

    @property
    def sent(self) -> bool:
        return self._sent

    @property
    def _arguments_done(self) -> bool:
        return self._scanner.depth <= self._floor

    def _open(self) -> list[Part]:
        """Send the name, once the text has got as far as the arguments."""
        if not self._calls.stream_arguments:
            return []
        if self._name is None:
            head = _HEAD.match(self._text) if len(self._text) <= _LONGEST_HEAD else None
            if not head or (name := _text_of(head[1])) is None or not self._allowed(name):
                return []
            start = head.end()
        else:
            name = self._name
            start = len(self._text) - len(self._text.lstrip())
            if not self._text.startswith("{", start):
                return []
        self._scanner.feed(self._text[self._at : start + 1])
        self._text, self._at, self._sent = self._text[start:], 1, True
        return self._calls.open(name, own_id=self._id)

    def _arguments(self) -> list[Part]:
        self._at = self._scanner.feed(self._text, self._at, self._floor)
        out = self._calls.more(self._text[: self._at])
        self._text, self._at = self._text[self._at :], 0
        if self._scanner.failed:
            self._give_up()
        return out

    def _tail(self) -> list[Part]:
        """Scan on to the end of the whole object."""
        self._at = self._scanner.feed(self._text, self._at)
        if self._scanner.failed or self._prose():
            self._give_up()
            return []
        if not self._scanner.done:
            return []
        whole, rest = self._text[: self._at], self._text[self._at :]
        out = [] if self._sent else self._whole(whole)
        if out is None:
            self._give_up()
            return []
        self._calls.close()
        self.done, self.rest, self._text = True, rest, ""
        return out

    def _prose(self) -> bool:
        """A call is an object that begins like one: any other JSON is somebody's text."""
        if self._sent:
            return False
        begun = self._text[:_LONGEST_HEAD].lstrip()
        if begun and not begun.startswith("{"):
            return True
        key = None if self._name else _FIRST_KEY.match(begun)
        return key is not None and key[1] not in _KEYS

    def _give_up(self) -> None:
        self.failed, self.rest, self._text = True, self._text, ""

    def _allowed(self, name: str) -> bool:
        return not self._known or name in self._calls.offered

    def _whole(self, text: str) -> list[Part] | None:
        """A complete call in any order of keys; None if it is some other object."""
        try:
            call = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            return None
        if self._name is not None:
            return self._calls.open(self._name, text.strip(), self._id)
        if isinstance(call.get("function"), dict):
            call = call["function"]
        name = call.get("name", call.get("tool_name"))
        arguments = _arguments_of(call.get("arguments", call.get("parameters")))
        if not isinstance(name, str) or arguments is None or not self._allowed(name):
            return None
        return self._calls.open(name, arguments)


def _text_of(literal: str) -> str | None:
    try:
        text = json.loads(literal)
    except ValueError:
        return None
    return text if isinstance(text, str) else None


def _arguments_of(value: Any) -> str | None:
    """JSON text of the arguments; some models write that text as a string."""
    if isinstance(value, dict):
        return json_text(value)
    if isinstance(value, str):
        try:
            return value if isinstance(json.loads(value), dict) else None
        except (ValueError, RecursionError):
            return None
    return None
