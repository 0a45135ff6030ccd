from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.ollama.fitting import shortened
from service.generation import (
    Chat,
    GenerationRequest,
    Message,
    SamplingParams,
    Text,
    Truncation,
)

CHAT = Chat(
    (Message("system", "s"), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
)


def request(max_tokens: int | None = None, input: Chat | Text = CHAT) -> GenerationRequest:
    sampling = SamplingParams(max_tokens=max_tokens)
    return GenerationRequest("1", "m", input, 0.0, "ollama", "/api/chat", sampling)


@pytest.mark.parametrize(
    ("max_tokens", "keep", "as_ollama", "truncation"),
    [
        (None, 4, False, Truncation(75, 4)),
        (10, 4, False, Truncation(90, 4)),
        (1000, 4, False, Truncation(50, 4)),
        (None, 0, False, Truncation(75, 0)),
        (None, -1, False, Truncation(75, 0, "right")),
        (None, 999, False, Truncation(75, 74)),
        (None, 4, True, Truncation(52, 4)),
        (None, 0, True, Truncation(50, 0)),
        (None, -1, True, Truncation(50, 0, "right")),
    ],
)
def test_a_prompt_leaves_room_for_its_answer(
    max_tokens: int | None, keep: int, as_ollama: bool, truncation: Truncation
) -> None:
    assert shortened(request(max_tokens), 100, keep, as_ollama).truncation == truncation


def test_of_a_chat_the_systems_and_the_last_message_stay() -> None:
    chat = shortened(request(), 100, 4, False).input

    assert isinstance(chat, Chat)
    assert [message.content for message in chat.messages] == ["s", "c"]


def test_a_raw_prompt_stays_as_it_is() -> None:
    assert shortened(request(input=Text("x")), 100, 4, False).input == Text("x")


@given(
    st.integers(1, 10**6), st.none() | st.integers(1, 10**7), st.integers(-1, 10**7), st.booleans()
)
def test_the_limit_lies_within_the_context(
    length: int, max_tokens: int | None, keep: int, as_ollama: bool
) -> None:
    cut = shortened(request(max_tokens), length, keep, as_ollama).truncation

    assert cut is not None
    assert cut.limit is not None
    assert 0 <= cut.keep < cut.limit <= max(1, length - 1)
