"""What the parsers of all tool-call syntaxes share: prose until an opener, then calls."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from service.text.calls import Calls, Part, Reader
from service.text.markers import partial

_BLANK = re.compile(r"\s*")
_COMMAS = re.compile(r"[\s,;]*")


class Frame(Struct, frozen=True):
    """The marks round calls.

    `opener` and `closer` stand round all the calls of an answer, or round each of them; `head`
    before each one within them. items: the calls are a list, in brackets and with commas, or with
    white space only. skip: marks that may follow a call. also: what models write for `opener`, or
    `head` where they leave it out.
    """

    opener: str
    head: str = ""
    closer: str = ""
    items: bool = False
    skip: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def openers(self) -> tuple[str, ...]:
        return (self.opener, *self.also)


class ToolParser:
    """Splits an answer into prose (`str`) and parts of tool calls.

    What looks like a call and is none comes out as prose, just as it was written; white space
    between and after calls is layout, and is dropped. Nothing here raises.

    The states are methods: each takes the text at hand, appends what it releases, and returns
    the text that it leaves to the next state. `reader` makes what reads a single call.
    """

    def __init__(self, calls: Calls, frame: Frame, reader: Callable[[Calls], Reader]) -> None:
        self._calls = calls
        self._frame = frame
        self._reads = reader
        self._firsts = {opener[0] for opener in frame.openers}
        self._ends = tuple(mark for mark in (*frame.skip, "]" if frame.items else "") if mark)
        self._held = ""
        # Of the call at hand: the text before it, shown should it turn out to be prose.
        self._lead = ""
        self._reader = reader(calls)
        self._state: Callable[[str, list[Part]], str] = self._prose

    def feed(self, text: str) -> list[Part]:
        if not self._held and self._state == self._prose and not self._firsts & set(text):
            return [text] if text else []
        out: list[Part] = []
        text, self._held = self._held + text, ""
        while text:
            text = self._state(text, out)
        return out

    def flush(self) -> list[Part]:
        """The end of the answer. A call that it cuts off stays as it was sent."""
        text, self._held = self._held, ""
        if self._state == self._call:
            text = self._lead + self._reader.flush()
        elif self._state == self._gap:
            text = text if text.strip() else ""
        elif self._state == self._after:
            text = ""
        else:
            text = self._lead + text
        self._lead = ""
        return [text] if text else []

    def _prose(self, text: str, out: list[Part]) -> str:
        found = [(at, opener) for opener in self._frame.openers if (at := text.find(opener)) >= 0]
        if not found:
            safe = min(partial(text, opener) for opener in self._frame.openers)
            if safe:
                out.append(text[:safe])
            return self._hold(text[safe:])
        at, opener = min(found)
        if at:
            out.append(text[:at])
        if opener == self._frame.head:
            self._read(opener)
        else:
            self._lead, self._state = opener, self._begin
        return text[at + len(opener) :]

    def _begin(self, text: str, out: list[Part]) -> str:
        """After the opener: what stands before the first call."""
        begun = text.lstrip()
        space, head = text[: len(text) - len(begun)], self._frame.head
        if len(begun) < len(head) and head.startswith(begun):
            return self._hold(text)
        if not begun.startswith(head):
            return self._no_call(text, out)
        if self._frame.items and not begun:
            return self._hold(text)
        if self._frame.items and begun[0] == "[":
            head = "["
        self._read(space + head)
        return begun[len(head) :]

    def _read(self, lead: str) -> None:
        """From here on the text is a call, after `lead`."""
        self._lead += lead
        self._reader = self._reads(self._calls)
        self._state = self._call

    def _call(self, text: str, out: list[Part]) -> str:
        out += self._reader.feed(text)
        if self._reader.sent or self._reader.done:
            self._lead = ""
        if self._reader.done:
            self._state = self._after
            return self._reader.rest
        if self._reader.failed:
            return self._no_call(self._reader.rest, out)
        return ""

    def _after(self, text: str, out: list[Part]) -> str:
        """After a call: 1. a mark to skip 2. one more call 3. the closer 4. anything else."""
        frame, rest = self._frame, text.lstrip()
        for mark in self._ends:
            if rest.startswith(mark):
                return rest[len(mark) :]
        separators = (_COMMAS if frame.items else _BLANK).match(text)
        lead = separators[0] if separators else ""
        more = text[len(lead) :]
        if frame.head and more.startswith(frame.head):
            self._read(lead + frame.head)
            return more[len(frame.head) :]
        if frame.items and more and (more[0] == "{" or lead.strip()):
            self._read(lead)
            return more
        if frame.closer and rest.startswith(frame.closer):
            self._state = self._gap
            return rest[len(frame.closer) :]
        marks = (*self._ends, frame.head, frame.closer)
        if not more or any(mark.startswith(rest) for mark in marks):
            return self._hold(text)
        self._state = self._gap
        return text

    def _no_call(self, text: str, out: list[Part]) -> str:
        if self._lead:
            out.append(self._lead)
        self._lead, self._state = "", self._prose
        return text

    def _gap(self, text: str, out: list[Part]) -> str:
        begun = text.lstrip()
        openers = self._frame.openers
        if begun.startswith(openers):
            self._state = self._prose
            return begun
        if any(opener.startswith(begun) for opener in openers):
            return self._hold(text)
        self._state = self._prose
        return text

    def _hold(self, text: str) -> str:
        self._held = text
        return ""
