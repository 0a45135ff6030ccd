"""Conversations without their oldest messages, where all of them are too many."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from msgspec.structs import replace

from service.errors import ContextOverflow
from service.generation import Chat

# Of the context, for an answer of which nobody said how long it may be.
ROOM: Final = 0.25


async def shortened(
    chat: Chat,
    max_tokens: int | None,
    overflow: ContextOverflow,
    count: Callable[[Chat], Awaitable[int]],
) -> tuple[Chat, int]:
    """Without as few of its oldest messages as leave room for an answer, or if that cannot be,
    without all that may go; and the tokens that went. `count`: a conversation's tokens. Raises
    `overflow` where the last message alone is too long."""
    longest = overflow.context_length
    target = longest - room_for(max_tokens, longest)
    fewest, most = 1, droppable(chat)
    fitting: tuple[Chat, int] | None = None
    while fewest <= most:
        dropped = (fewest + most) // 2
        candidate = without_oldest(chat, dropped)
        tokens = await count(candidate)
        if tokens <= target:
            fitting, most = (candidate, tokens), dropped - 1
        else:
            fewest = dropped + 1
            if tokens < longest and (fitting is None or fitting[1] > target):
                fitting = candidate, tokens
    if fitting is None:
        raise overflow
    shorter, tokens = fitting
    return shorter, overflow.prompt_tokens - tokens


def without_oldest(chat: Chat, count: int) -> Chat:
    """Without the `count` oldest messages that may go: never the system's, never the last; and
    with a message go the tool results right after it, which answer it."""
    messages = list(chat.messages)
    last = messages.pop()
    kept = []
    for message in messages:
        if message.role == "system":
            kept.append(message)
        elif count > 0:
            count -= 1
        elif message.role == "tool" and not any(m.role != "system" for m in kept):
            continue
        else:
            kept.append(message)
    return replace(chat, messages=(*kept, last))


def droppable(chat: Chat) -> int:
    """How many messages may go at most."""
    return sum(message.role != "system" for message in chat.messages[:-1])


def room_for(max_tokens: int | None, context_length: int) -> int:
    """What an answer should have left where the prompt is cut: never more than half of the
    context, for the prompt is what the answer is about."""
    wanted = int(context_length * ROOM) if max_tokens is None else max_tokens
    return max(1, min(wanted, context_length // 2))
