"""What two dialects that share their endpoints do not share: how they word their answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request

from service.dialects.admission import identity
from service.dialects.answers import Answer
from service.dialects.fields import Fields
from service.dialects.openai.chat_encode import ChatChunks
from service.dialects.openai.completions_encode import CompletionChunks
from service.dialects.state import State
from service.telemetry.http import exchange_of

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Manner:
    """How a dialect that has these endpoints too words its answers.

    `finished` has the last word on an answer that is sent whole. `prefills`: an assistant's message
    at the end of a chat is one to go on with.
    """

    name: str
    chat_chunks: type[ChatChunks] = ChatChunks
    completion_chunks: type[CompletionChunks] = CompletionChunks
    reasoning_fields: str | None = None
    finished: Callable[[dict[str, Any], Sequence[Answer]], dict[str, Any]] = lambda body, answers: (
        body
    )
    prefills: bool = False


OPENAI: Final = Manner("openai")


def identified(request: Request[State], fields: Fields) -> dict[str, Any]:
    """With the id that a client of vLLM gives its request in the body."""
    id = fields.text("request_id")
    if id:
        if not _REQUEST_ID.fullmatch(id):
            raise fields.bad(
                "request_id", "must be 1 to 64 letters, digits, dashes and underscores"
            )
        exchange_of(request.scope).id = id
    return identity(request)
