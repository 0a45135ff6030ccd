"""The responses that can be asked for again, or gone on from: in memory, for a while."""

from __future__ import annotations

import copy
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
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


@dataclass
class Shelf:
    """By whose they are, and their ids: two may have chosen the same."""

    entries: OrderedDict[tuple[str, str], Entry] = field(default_factory=OrderedDict)
    size: int = 0

    def take(self, place: tuple[str, str]) -> Entry | None:
        entry = self.entries.pop(place, None)
        if entry is not None:
            self.size -= entry.size
        return entry


class ResponseStore:
    """Oldest out first, once there are too many or too much of them. Belongs to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shelf = Shelf()
        self._owner = ""

    def of(self, owner: str) -> ResponseStore:
        """The same, as far as it is `owner`'s: nobody else's responses are found in it."""
        view = copy.copy(self)
        view._owner = owner
        return view

    def put(
        self, response: dict[str, Any], conversation: tuple[Message, ...] | None = None
    ) -> None:
        self.delete(response["id"])
        size = len(encode_json(response)) + weight(conversation or ())
        if size > MAX_BYTES:
            return
        expires = self._clock() + KEPT_SECONDS
        place = self._owner, response["id"]
        self._shelf.entries[place] = Entry(response, conversation, size, expires)
        self._shelf.size += size
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
        entry = self._shelf.entries.get((self._owner, id))
        return entry.response["status"] if entry is not None else None

    def delete(self, id: str) -> bool:
        return self._shelf.take((self._owner, id)) is not None

    def _find(self, id: str, param: str) -> Entry:
        self._forget()
        entry = self._shelf.entries.get((self._owner, id))
        if entry is None:
            raise ResponseNotFound(id, param)
        return entry

    def _forget(self) -> None:
        now, shelf = self._clock(), self._shelf
        while shelf.entries:
            oldest = next(iter(shelf.entries))
            full = len(shelf.entries) > MAX_RESPONSES or shelf.size > MAX_BYTES
            if not full and shelf.entries[oldest].expires > now:
                return
            shelf.take(oldest)


def weight(messages: tuple[Message, ...]) -> int:
    """Roughly the bytes of a conversation, though much of it is shared with the one before."""
    return sum(
        100
        + len(message.content or "")
        + len(message.reasoning or "")
        + sum(100 + len(call.arguments) for call in message.tool_calls)
        for message in messages
    )
