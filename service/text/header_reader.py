"""A call whose name stands before its arguments: `name`, some mark, and a JSON object."""

from __future__ import annotations

import re

from service.text.calls import Calls, Part
from service.text.tool_call_reader import CallReader

# No name and marks are that long.
_LONGEST = 200


class HeaderReader:
    """`header` matches the text up to the object, whose brace it looks ahead to.

    Its group `name` is the tool's, `id` the model's own id; an object after a header without a
    name has the name within.
    """

    def __init__(self, calls: Calls, header: re.Pattern[str], *, known: bool = False) -> None:
        self._calls = calls
        self._header = header
        self._known = known
        self._text = ""
        self._failed = False
        self._reader: CallReader | None = None

    @property
    def done(self) -> bool:
        return self._reader is not None and self._reader.done

    @property
    def failed(self) -> bool:
        return self._failed or (self._reader is not None and self._reader.failed)

    @property
    def rest(self) -> str:
        return self._text + (self._reader.rest if self._reader else "")

    @property
    def sent(self) -> bool:
        return self._reader is not None and self._reader.sent

    def feed(self, text: str) -> list[Part]:
        if self._reader is None:
            text = self._begin(self._text + text)
            if self._reader is None:
                return []
        out = self._reader.feed(text)
        if self.sent or self.done:
            self._text = ""
        return out

    def flush(self) -> str:
        return self._text + (self._reader.flush() if self._reader else "")

    def _begin(self, text: str) -> str:
        """What follows the header, once it is complete."""
        self._text = text
        header = self._header.match(text[:_LONGEST])
        if header is None:
            self._failed = len(text) >= _LONGEST
            return ""
        found = header.groupdict()
        name = found.get("name")
        if name is not None and self._known and name not in self._calls.offered:
            self._failed = True
            return ""
        self._reader = CallReader(self._calls, name, found.get("id"), known=self._known)
        self._text = header[0]
        return text[header.end() :]
