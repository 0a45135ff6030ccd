"""What the parsers of all tool-call syntaxes share: prose until an opener, then a call."""

from __future__ import annotations

from collections.abc import Callable

from service.text.markers import partial
from service.text.tool_call_reader import CallReader, Calls, Part


class ToolParser:
    """Splits an answer into prose (`str`) and parts of tool calls.

    What looks like a call and is none comes out as prose, just as it was written; white space
    between and after calls is layout, and is dropped. Nothing here raises.

    The states are methods: each takes the text at hand, appends what it releases, and returns
    the text that it leaves to the next state. A subclass says what follows the opener (`_begin`)
    and what follows a call (`_after`).
    """

    opener = ""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._held = ""
        # Of the call at hand: the text before its JSON, shown should it turn out to be prose.
        self._lead = ""
        self._reader = CallReader(calls)
        self._state: Callable[[str, list[Part]], str] = self._prose

    def feed(self, text: str) -> list[Part]:
        if not self._held and self._state == self._prose and self.opener[0] not in text:
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

    def _begin(self, text: str, out: list[Part]) -> str:
        raise NotImplementedError

    def _after(self, text: str, out: list[Part]) -> str:
        raise NotImplementedError

    def _prose(self, text: str, out: list[Part]) -> str:
        before, opener, rest = text.partition(self.opener)
        if opener:
            if before:
                out.append(before)
            self._lead, self._state = opener, self._begin
            return rest
        safe = partial(text, self.opener)
        if safe:
            out.append(text[:safe])
        return self._hold(text[safe:])

    def _read(self, lead: str, name: str | None = None, *, known: bool = False) -> None:
        """From here on the text is a call, after `lead`."""
        self._lead += lead
        self._reader = CallReader(self._calls, name, known=known)
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

    def _no_call(self, text: str, out: list[Part]) -> str:
        if self._lead:
            out.append(self._lead)
        self._lead, self._state = "", self._prose
        return text

    def _gap(self, text: str, out: list[Part]) -> str:
        begun = text.lstrip()
        if self.opener.startswith(begun):
            return self._hold(text)
        self._state = self._prose
        return begun if begun.startswith(self.opener) else text

    def _hold(self, text: str) -> str:
        self._held = text
        return ""
