"""What of a conversation may go, and how much of it does."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ContextOverflow
from service.generation import Chat
from service.serving.shortening import droppable, room_for, shortened, without_oldest
from tests.chats import chats

# Tokens of a message, where each has as many.
EACH = 10


@given(chats, st.integers(0, 12))
def test_neither_the_systems_words_nor_the_last_are_dropped(chat: Chat, count: int) -> None:
    left = without_oldest(chat, count)
    assert left.messages[-1] is chat.messages[-1]
    kept = [message for message in chat.messages if message in left.messages]
    assert kept == list(left.messages), "what stays, stays in its order"
    system = [message for message in chat.messages if message.role == "system"]
    assert [message for message in left.messages if message.role == "system"] == system
    dropped = len(chat.messages) - len(left.messages)
    assert min(count, droppable(chat)) <= dropped <= droppable(chat)


@given(chats, st.integers(1, 12))
def test_no_result_opens_a_conversation_without_its_call(chat: Chat, count: int) -> None:
    left = without_oldest(chat, count).messages[:-1]
    others = [message for message in left if message.role != "system"]
    assert not others or others[0].role != "tool"


@given(chats, st.integers(20, 200), st.integers(1, 50))
def test_as_little_goes_as_leaves_room_for_an_answer(
    chat: Chat, context: int, max_tokens: int
) -> None:
    async def count(some: Chat) -> int:
        return EACH * len(some.messages)

    overflow = ContextOverflow(EACH * len(chat.messages), context, max_tokens)
    tries = [without_oldest(chat, dropped) for dropped in range(1, droppable(chat) + 1)]
    sizes = [EACH * len(each.messages) for each in tries]
    roomy = [size for size in sizes if size <= context - room_for(max_tokens, context)]
    expected = max(roomy, default=min(sizes, default=context))
    if expected >= context:
        with pytest.raises(ContextOverflow):
            asyncio.run(shortened(chat, max_tokens, overflow, count))
        return
    shorter, gone = asyncio.run(shortened(chat, max_tokens, overflow, count))

    assert EACH * len(shorter.messages) == expected
    assert gone == overflow.prompt_tokens - expected
