"""Prompts that end in the middle of a message."""

from __future__ import annotations

import pytest

from service.errors import InvalidRequest
from service.generation import Chat, Message, ToolCall
from service.text.continuation import begun
from service.text.reasoning import HARMONY, NONE, THINK
from service.text.template import ChatTemplate
from tests.text.test_template import THINKER
from tests.text.test_templates import TABLE, template

HI = Message("user", "Hi?")


def continued(found: ChatTemplate, last: Message, **more: object) -> str:
    return found.render(Chat((HI, last), continue_final_message=True, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TABLE)
def test_every_template_writes_the_begun_message_and_its_text_stays_as_it_is(name: str) -> None:
    found = template(name)
    prompt = continued(found, Message("assistant", "  It is\n "))
    closed = found.render(Chat((HI, Message("assistant", "It is")), add_generation_prompt=False))

    assert prompt.endswith("  It is\n ")
    assert closed.startswith(prompt.removesuffix("  It is\n ").rstrip())


@pytest.mark.parametrize("name", [name for name, (_, form, _) in TABLE.items() if form == "think"])
@pytest.mark.parametrize("raw", [False, True])
def test_thoughts_are_gone_on_with_in_one_block_of_them(name: str, raw: bool) -> None:
    found = template(name)
    form = found.reasoning
    thoughts = "\nHm, "
    message = Message("assistant", form.opener + thoughts if raw else "", None if raw else thoughts)
    prompt = continued(found, message)

    assert prompt.endswith("Hm, ")
    before, _, inside = prompt.rpartition(form.opener)
    assert inside.strip() == "Hm,"
    assert not before.rstrip().endswith((form.opener, form.closer))
    assert begun(message, form).inside


def test_thoughts_with_an_answer_after_them_are_written_by_the_template() -> None:
    found = ChatTemplate(THINKER)
    prompt = continued(found, Message("assistant", "It is ", "Hm."))
    raw = continued(found, Message("assistant", "<think>\nHm.\n</think>\n\nIt is "))

    assert prompt.endswith("<|im_start|>assistant\n<think>\nHm.\n</think>\n\nIt is ")
    assert prompt == raw


def test_what_the_message_has_of_the_answer_is_known() -> None:
    assert begun(Message("assistant", "It is "), NONE) == (False, "It is ", None)
    assert begun(Message("assistant", "It is ", "Hm."), THINK) == (False, "It is ", None)
    assert begun(Message("assistant", "", "Hm"), THINK) == (True, None, "<think>Hm")
    assert begun(Message("assistant", " <think>Hm"), THINK) == (True, None, "<think>Hm")
    assert begun(Message("assistant", "<think>Hm</think>It"), THINK)[:2] == (False, "It")
    assert begun(Message("assistant", None, "Hm"), HARMONY).raw == f"{HARMONY.opener}Hm"


def test_without_a_generation_prompt_the_prompt_ends_with_the_last_message() -> None:
    prompt = ChatTemplate(None).render(Chat((HI,), add_generation_prompt=False))

    assert prompt == "<|im_start|>user\nHi?<|im_end|>\n"


@pytest.mark.parametrize(
    "last",
    [
        Message("assistant", "", tool_calls=(ToolCall("1", "f", "{}"),)),
        Message("tool", "12", tool_call_id="1"),
    ],
)
def test_calls_and_their_answers_are_complete(last: Message) -> None:
    with pytest.raises(InvalidRequest) as caught:
        continued(ChatTemplate(None), last)

    assert caught.value.param == "messages"


def test_a_template_that_does_not_show_the_message_refuses() -> None:
    with pytest.raises(InvalidRequest, match="does not show"):
        continued(ChatTemplate("{{ messages[0].content }}"), Message("assistant", "It is "))


def test_thoughts_of_messages_with_headers_follow_the_head_after_a_space() -> None:
    head = "<|start|>assistant"
    source = "{{ messages[0].content }}{% if add_generation_prompt %}" + head + "{% endif %}"
    found = ChatTemplate(source + "{# to=self<|message|> #}")

    assert continued(found, Message("assistant", "", "Hm")).endswith(head + " to=self<|message|>Hm")
