"""What a prompt becomes."""

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
from service.serving.preparation import (
    infilling,
    introduced,
    prepare_chat,
)
from service.text.template import ChatTemplate
from tests.chats import chats, roles
from tests.dialects.fakes import CARD, FACTS

HI = Message("user", "Hi?")


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
