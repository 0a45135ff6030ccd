"""A call as programs write it: `name(city='x', days=3)`, and Gemma's `name{city:<|"|>x<|"|>}`."""

from __future__ import annotations

import re

from service.text.calls import Calls, Part
from service.text.literals import PYTHON, Literal

_LONGEST = 200
_NAME = re.compile(r"\s*(?P<name>[\w.-]{1,128})\s*")
# Where an argument has a name, or there is none at all, it is a call; `f(` alone may be prose.
_BEGUN = re.compile(r"\{(?:\}|.*: )", re.S)


class LiteralReader:
    """`bracket` is what follows the name. known: a call of a tool that was not offered is none."""

    def __init__(
        self,
        calls: Calls,
        bracket: str = "(",
        quotes: tuple[str, ...] = PYTHON,
        *,
        known: bool = False,
    ) -> None:
        self.done = False
        self.failed = False
        self.rest = ""
        self.sent = False
        self._calls = calls
        self._bracket = bracket
        self._literal = Literal(quotes, call=bracket == "(")
        self._known = known
        self._name: str | None = None
        self._raw = ""  # all of the call, while it may still be prose
        self._json = ""  # not sent yet

    def feed(self, text: str) -> list[Part]:
        if not self.sent:
            self._raw += text
        if self._name is None:
            text = self._begin()
            if self._name is None:
                return []
        written, rest = self._literal.feed(text)
        self._json += written
        out = self._out(rest)
        if self._literal.failed:
            self.failed, self.rest = True, rest if self.sent else self._raw
        return out

    def flush(self) -> str:
        return "" if self.sent else self._raw

    def _begin(self) -> str:
        head, bracket, rest = self._raw[:_LONGEST].partition(self._bracket)
        name = _NAME.fullmatch(head)
        if bracket and name and (not self._known or name["name"] in self._calls.offered):
            self._name = name["name"]
            return self._raw[len(head) :]
        if bracket or len(self._raw) >= _LONGEST:
            self.failed, self.rest = True, self._raw
        return ""

    def _out(self, rest: str) -> list[Part]:
        out: list[Part] = []
        streaming = self._calls.stream_arguments and _BEGUN.match(self._json)
        if not self.sent and self._name is not None and (streaming or self._literal.done):
            self.sent = True
            self._raw = ""
            out += self._calls.open(self._name, "" if streaming else self._json)
            self._json = self._json if streaming else ""
        if self.sent:
            out += self._calls.more(self._json)
            self._json = ""
        if self._literal.done:
            self.done, self.rest = True, rest
            self._calls.close()
        return out
