"""The calls of one answer, numbered and named, whatever syntax they were written in."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Protocol

from service.events import ToolCallDelta
from service.generation import Tool

Part = str | ToolCallDelta

# A shorter one is a number within the answer, and no name for a call in a conversation.
_USABLE_ID = re.compile(r"[\w.:/-]{8,128}")


def call_id() -> str:
    """`call_` and 24 hexadecimal digits, OpenAI's form."""
    return f"call_{secrets.token_hex(12)}"


class Calls:
    """The calls of one answer: numbers them, names them, and counts the complete ones.

    `index` is the answer's, `offered` the tools that it may call. With `stream_arguments` a call
    is sent while it arrives: should it break off or turn out malformed, its beginning is already
    out. Without, it is sent whole or, if it does not parse, not at all. With `parallel` False only
    the first call is sent; whatever the model calls after it is counted in `cut` and goes nowhere.
    """

    def __init__(
        self,
        index: int = 0,
        offered: tuple[Tool, ...] = (),
        *,
        stream_arguments: bool = True,
        parallel: bool = True,
        new_id: Callable[[], str] = call_id,
    ) -> None:
        self.index = index
        self.offered = {tool.name: tool for tool in offered}
        self.stream_arguments = stream_arguments
        self.completed = 0
        self._parallel = parallel
        self._new_id = new_id
        self._opened = 0
        self._ids: set[str] = set()

    def open(self, name: str, arguments: str = "", own_id: str | None = None) -> list[Part]:
        """`own_id` is what the model calls the call; kept if it can serve as an id."""
        self._opened += 1
        if self._silent:
            return []
        identity = own_id
        if identity is None or identity in self._ids or not _USABLE_ID.fullmatch(identity):
            identity = self._new_id()
        self._ids.add(identity)
        return [ToolCallDelta(self.index, self._opened - 1, arguments, identity, name)]

    def more(self, arguments: str) -> list[Part]:
        if self._silent or not arguments:
            return []
        return [ToolCallDelta(self.index, self._opened - 1, arguments)]

    def close(self) -> None:
        if not self._silent:
            self.completed += 1

    @property
    def _silent(self) -> bool:
        return self._opened > 1 and not self._parallel


class Reader(Protocol):
    """Reads one call, from behind the mark that opens it.

    After each `feed` exactly one holds: more is wanted; `done`, and `rest` is the text after the
    call; `failed`, and `rest` is what has not been sent as part of a call, to be shown as it is.
    `sent`: the beginning of the call is out, so that it cannot become prose any more.
    """

    @property
    def done(self) -> bool: ...

    @property
    def failed(self) -> bool: ...

    @property
    def rest(self) -> str: ...

    @property
    def sent(self) -> bool: ...

    def feed(self, text: str) -> list[Part]: ...

    def flush(self) -> str:
        """The end of the answer, within a call: what of it was never sent."""
        ...
