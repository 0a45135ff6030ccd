"""What of a conversation may go, and what a prompt becomes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from service.catalog.card import Said
from service.errors import InvalidRequest
from service.generation import (
    Chat,
    GenerationRequest,
    Infill,
    Message,
    Role,
    SamplingParams,
    Text,
    Thoughts,
)
from service.preparation import (
    droppable,
    infilling,
    introduced,
    prepare_chat,
    without_oldest,
)
from service.text.template import ChatTemplate
from tests.dialects.fakes import CARD, FACTS

HI = Message("user", "Hi?")
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
roles = st.sampled_from(ROLES)
chats = st.lists(roles, min_size=1, max_size=12).map(
    lambda roles: Chat(tuple(Message(role, str(at)) for at, role in enumerate(roles)))
)


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


def test_an_infill_stands_between_the_models_own_marks() -> None:
    facts = replace(FACTS, infill=("<pre>", "<suf>", "<mid>"))
    assert infilling(Infill("a", "c"), facts) == Text("<pre>a<suf>c<mid>")


def test_a_model_that_cannot_fill_in_refuses_the_suffix() -> None:
    with pytest.raises(InvalidRequest) as refused:
        infilling(Infill("a", "c"), FACTS)
    assert refused.value.param == "suffix"


@pytest.mark.parametrize(
    ("source", "last", "expected"),
    [
        ("<think> {{ messages }}", HI, Thoughts(9, "<think>", "</think>")),
        ("</think> {{ messages }}<think>\n", HI, Thoughts(9, "<think>", "</think>", inside=True)),
        ("{{ messages }}", HI, None),
        ("</think> {{ messages[-1].content }}", Message("assistant", "It is "), None),
    ],
)
def test_a_budget_of_thoughts_gets_the_models_own_marks(
    source: str, last: Message, expected: Thoughts | None
) -> None:
    chat = Chat((last,), continue_final_message=last.role == "assistant")
    sampling = SamplingParams(thoughts=Thoughts(9))
    request = GenerationRequest("1", "m", chat, 0.0, "openai", "/", sampling=sampling)
    prepared = prepare_chat(request, chat, ChatTemplate(source), "")

    assert prepared.sampling.thoughts == expected


@given(chats, st.text(max_size=3), st.lists(roles, max_size=3))
def test_a_modelfiles_words_come_first_and_once(chat: Chat, system: str, said: list[Role]) -> None:
    card = replace(CARD, system=system, messages=tuple(Said(role, "said") for role in said))
    begun = introduced(chat, card)

    own = chat.messages[:1] if chat.messages[0].role == "system" else ()
    first = own or ((Message("system", system),) if system else ())
    words = tuple(Message(role, "said") for role in said)
    assert begun.messages == (*first, *words, *chat.messages[len(own) :])
    assert introduced(begun, card) == begun


def test_words_of_nobody_are_passed_over() -> None:
    card = replace(CARD, messages=(Said("ghost", "boo"), Said("user", "Ahoy")))

    assert introduced(Chat((HI,)), card).messages == (Message("user", "Ahoy"), HI)
