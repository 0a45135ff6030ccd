"""The responses that can be asked for again, or gone on from: in memory, for a while."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from service.dialects.framing import encode_json
from service.errors import InvalidRequest
from service.generation import Message

KEPT_SECONDS: Final = 3600.0
MAX_RESPONSES: Final = 1000
MAX_BYTES: Final = 64 * 1024 * 1024


class ResponseNotFound(InvalidRequest):
    status = 404
    code = "response_not_found"

    def __init__(self, id: str, param: str) -> None:
        super().__init__(f"Response with id '{id[:128]}' not found.", param=param)


@dataclass
class Entry:
    response: dict[str, Any]
    # None while it runs, and where it failed.
    conversation: tuple[Message, ...] | None
    size: int
    expires: float


class ResponseStore:
    """Oldest out first, once there are too many or too much of them. Belongs to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._size = 0

    def put(
        self, response: dict[str, Any], conversation: tuple[Message, ...] | None = None
    ) -> None:
        self.delete(response["id"])
        size = len(encode_json(response)) + weight(conversation or ())
        if size > MAX_BYTES:
            return
        expires = self._clock() + KEPT_SECONDS
        self._entries[response["id"]] = Entry(response, conversation, size, expires)
        self._size += size
        self._forget()

    def get(self, id: str, param: str = "response_id") -> dict[str, Any]:
        return self._find(id, param).response

    def conversation(self, id: str) -> tuple[Message, ...]:
        entry = self._find(id, "previous_response_id")
        if entry.conversation is None:
            raise InvalidRequest(
                f"The response '{id[:128]}' has not ended well: nothing goes on from it.",
                param="previous_response_id",
            )
        return entry.conversation

    def status(self, id: str) -> str | None:
        entry = self._entries.get(id)
        return entry.response["status"] if entry is not None else None

    def delete(self, id: str) -> bool:
        entry = self._entries.pop(id, None)
        if entry is not None:
            self._size -= entry.size
        return entry is not None

    def _find(self, id: str, param: str) -> Entry:
        self._forget()
        entry = self._entries.get(id)
        if entry is None:
            raise ResponseNotFound(id, param)
        return entry

    def _forget(self) -> None:
        now = self._clock()
        while self._entries:
            oldest = next(iter(self._entries))
            full = len(self._entries) > MAX_RESPONSES or self._size > MAX_BYTES
            if not full and self._entries[oldest].expires > now:
                return
            self.delete(oldest)


def weight(messages: tuple[Message, ...]) -> int:
    """Roughly the bytes of a conversation, though much of it is shared with the one before."""
    return sum(
        100
        + len(message.content or "")
        + len(message.reasoning or "")
        + sum(100 + len(call.arguments) for call in message.tool_calls)
        for message in messages
    )
