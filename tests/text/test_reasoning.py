from __future__ import annotations

from itertools import groupby, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.text.reasoning import (
    FORMATS,
    HARMONY,
    NONE,
    THINK,
    Kind,
    ReasoningFormat,
    Splitter,
    reasoning_format,
    splitter,
)


def run(parser: Splitter, *pieces: str) -> list[tuple[Kind, str]]:
    """What comes out, with neighbours of a kind joined."""
    parts = [part for piece in pieces for part in parser.feed(piece)] + parser.flush()
    assert all(text for _, text in parts)
    groups = groupby(parts, key=lambda part: part[0])
    return [(kind, "".join(text for _, text in group)) for kind, group in groups]


def test_thoughts_and_answer_come_apart_and_the_tags_do_not_come_out() -> None:
    assert run(splitter(THINK), "<think>\nHm, 2+2.\n</think>\n\nIt is 4.") == [
        ("reasoning", "Hm, 2+2.\n"),
        ("content", "It is 4."),
    ]


def test_a_block_that_the_prompt_opened_needs_no_opening_tag() -> None:
    assert run(splitter(THINK, inside=True), "\nHm.</think>4") == [
        ("reasoning", "Hm."),
        ("content", "4"),
    ]


def test_an_answer_without_thoughts_is_all_content() -> None:
    assert run(splitter(THINK), "\n 4 <think> 5</think>") == [("content", "4 <think> 5</think>")]
    assert run(splitter(THINK), "\n<th") == [("content", "<th")]
    assert run(splitter(THINK), " \n") == [("content", " \n")]
    assert run(splitter(NONE), "<think>4") == [("content", "<think>4")]


def test_an_empty_block_leaves_no_trace() -> None:
    assert run(splitter(THINK), "<think>\n\n</think>\n\n4") == [("content", "4")]


def test_a_block_that_never_ends_stays_reasoning() -> None:
    assert run(splitter(THINK), "<think>Hm </thi") == [("reasoning", "Hm </thi")]
    assert run(splitter(THINK), " <thi") == [("content", "<thi")]


def test_text_that_cannot_be_a_tag_is_not_held_back() -> None:
    parser = splitter(THINK)

    assert parser.feed("<think>") == []
    assert parser.inside
    assert parser.feed("a < b") == [("reasoning", "a < b")]
    assert parser.feed(" </th") == [("reasoning", " ")]
    assert parser.feed("ink> 4") == [("content", "4")]
    assert not parser.inside


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: str(form.name))
def test_every_format_is_found_in_a_template_that_mentions_its_marks(form: ReasoningFormat) -> None:
    source = "{% if x %}" + form.sign + form.opener + "{{ thoughts }}" + form.closer + "{% endif %}"

    assert reasoning_format(source) is form
    assert reasoning_format("{{ messages }}") is NONE
    if not form.thinks:
        return
    assert form.opened_by("prompt" + form.opener + "\n")
    assert not form.opened_by(form.opener + "\n" + form.closer + "\n\n")


def test_a_template_that_only_cuts_thoughts_off_tells_the_format_too() -> None:
    assert reasoning_format("{{ content.split('</think>')[-1] }}") is THINK


def named(name: str) -> ReasoningFormat:
    return next(form for form in FORMATS if form.name == name)


@pytest.mark.parametrize(
    ("name", "text", "thoughts"),
    [
        ("command", "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>4<|END_RESPONSE|>", "Hm."),
        ("command", "<|START_RESPONSE|>4<|END_RESPONSE|>", ""),
        ("kimi-k3", "<|open|>think<|sep|>Hm.<|close|>think<|sep|><|open|>response<|sep|>4"
                    "<|close|>response<|sep|><|close|>message<|sep|>", "Hm."),
        ("solar", "<|think|>Hm.<|end|><|begin|>assistant<|content|>4", "Hm."),
        ("solar", "<|content|>4", ""),
        ("gemma", "<|channel>thought\nHm.<channel|>4", "Hm."),
        ("gemma", "<|channel>thought<channel|>4", ""),
        ("apriel", "Here are my reasoning steps:\nHm.[BEGIN FINAL RESPONSE]\n4[END FINAL RESPONSE]", "Hm."),
        ("granite", "<think>Hm.</think>\n<response>4</response>", "Hm."),
        ("granite-3.2", "Here is my thought process:\n\nHm.Here is my response:\n\n4", "Hm."),
        ("minimax-m3", "</mm:think>4", ""),
        ("functionary", "all\n4", ""),
    ],
)  # fmt: skip
def test_what_an_answer_is_wrapped_in_is_no_part_of_it(name: str, text: str, thoughts: str) -> None:
    expected: list[tuple[Kind, str]] = [("reasoning", thoughts)] if thoughts else []

    for pieces in ([text], [*text]):
        assert run(splitter(named(name)), *pieces) == [*expected, ("content", "4")]


def test_a_closing_tag_before_anything_else_ends_thoughts_that_were_none() -> None:
    assert run(splitter(THINK), "\n</think>\n\n4") == [("content", "4")]


CHANNELS = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>4"


def test_channels_are_told_apart() -> None:
    assert run(splitter(HARMONY), CHANNELS) == [("reasoning", "Hm."), ("content", "4")]
    assert run(splitter(HARMONY, inside=True), "Hm.<|end|>" + CHANNELS.split("<|end|>")[1]) == [
        ("reasoning", "Hm."),
        ("content", "4"),
    ]


def test_commentary_to_nobody_is_content() -> None:
    text = "<|channel|>commentary<|message|>I will look it up.<|end|><|start|>assistant"

    assert run(splitter(HARMONY), text) == [("content", "I will look it up.")]


@pytest.mark.parametrize(
    "header",
    [
        "<|channel|>commentary to=functions.f <|constrain|>json",
        " to=functions.f<|channel|>commentary json",
    ],
)
def test_a_message_to_a_function_is_passed_on_in_one_spelling(header: str) -> None:
    text = header + '<|message|>{"a": 1}'
    spelled = '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>'

    assert run(splitter(HARMONY), text) == [("content", spelled)]
    assert run(splitter(HARMONY), text + "<|call|>") == [("content", spelled)]


def test_an_answer_without_channels_is_content() -> None:
    for text in ("It is 4.", "<|mess", "to", "t"):
        assert run(splitter(HARMONY), text) == [("content", text)]
    assert run(splitter(HARMONY), "<|channel|>" + "x" * 300) == [
        ("content", "<|channel|>" + "x" * 300)
    ]


marks = st.sampled_from([
    "<think>", "</think>", "<th", "ink>", "</", "\n", " ", "a", "<", "<|channel|>", "analysis",
    "final", "<|message|>", "<|end|>", "<|start|>assistant", " to=functions.f", "é",
])  # fmt: skip


@settings(deadline=None)
@given(st.lists(marks, max_size=12).map("".join), st.sampled_from(FORMATS), st.booleans())
def test_any_split_gives_what_the_whole_text_gives(
    text: str, form: ReasoningFormat, inside: bool
) -> None:
    assert run(splitter(form, inside), *text) == run(splitter(form, inside), text)


@st.composite
def wrapped(draw: st.DrawFn) -> tuple[ReasoningFormat, str, list[int]]:
    """A format, a text of its own marks and parts of them, and where the text is split."""
    form = draw(st.sampled_from(FORMATS))
    own = [each for each in (form.opener, form.closer, form.heading, *form.wrappers) if each]
    whole = st.sampled_from([*own, *form.controls])
    part = whole.flatmap(lambda mark: st.integers(1, len(mark)).map(lambda end: mark[:end]))
    head = st.sampled_from(["", form.closer, f"{form.opener}4{form.closer}"])
    spaced = (whole | part | st.just("4")).map(lambda piece: piece + "\n")
    pieces = st.lists(spaced | whole | part | st.sampled_from([" ", "4", "<"]), max_size=8)
    text = draw(head) + "".join(draw(pieces))
    return form, text, sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))


@settings(deadline=None, max_examples=500)
@given(wrapped(), st.booleans(), st.booleans())
def test_any_split_between_a_formats_own_marks_gives_what_the_whole_text_gives(
    example: tuple[ReasoningFormat, str, list[int]], inside: bool, begun: bool
) -> None:
    form, text, cuts = example
    pieces = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]

    expected = run(splitter(form, inside, begun=begun), text)
    assert run(splitter(form, inside, begun=begun), *pieces) == expected
    assert run(splitter(form, inside, begun=begun), *text) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("granite", "</think>\n<response>\n4"),
        ("granite", "<response>\n4"),
        ("kimi-k3", "<|open|>response<|sep|>\n4"),
        ("command", "<|START_RESPONSE|> <|START_TEXT|>\n4"),
        ("solar", "<|think|><|end|><|begin|>assistant\n<|content|>\n4"),
    ],
)
def test_white_space_after_a_wrapper_is_no_part_of_the_answer(name: str, text: str) -> None:
    assert run(splitter(named(name)), text) == run(splitter(named(name)), *text)
    assert run(splitter(named(name)), *text) == [("content", "4")]


@settings(deadline=None)
@given(st.lists(marks, max_size=12).map("".join))
def test_nothing_is_lost_but_tags_and_the_white_space_after_them(text: str) -> None:
    parts = run(splitter(THINK), text)
    if text.lstrip().startswith("<think>"):
        thoughts, closer, answer = text.lstrip()[len("<think>") :].partition("</think>")
        thoughts = thoughts.lstrip()
        expected = [("reasoning", thoughts), ("content", answer.lstrip() if closer else "")]
        assert parts == [(kind, part) for kind, part in expected if part]
    elif text.lstrip().startswith("</think>"):
        content = text.lstrip()[len("</think>") :].lstrip()
        assert parts == ([("content", content)] if content else [])
    else:
        # White space alone is held back to the end: it might have come before thoughts.
        content = text.lstrip() or text
        assert parts == ([("content", content)] if content else [])


@pytest.mark.parametrize("form", [THINK, HARMONY, NONE])
def test_an_answer_that_was_begun_goes_on_without_any_head(form: ReasoningFormat) -> None:
    assert run(splitter(form, begun=True), " 5", " is <think>") == [("content", " 5 is <think>")]


MESSAGES = " to=self<|message|>Hm.<|eom|><|start|>assistant to=user<|message|>4<|eot|>"


@pytest.mark.parametrize("pieces", [[MESSAGES], [*MESSAGES]])
def test_muse_tells_thoughts_and_answers_apart_by_whom_they_go_to(pieces: list[str]) -> None:
    assert run(splitter(named("muse")), *pieces) == [("reasoning", "Hm."), ("content", "4")]


def test_a_call_of_muse_is_left_to_the_parser_of_calls() -> None:
    call = "<atem:function_calls>\n</atem:function_calls>"
    text = f" to=self<|message|>Hm.<|eom|><|start|>assistant to=weather<|message|>{call}<|eom|>"

    assert run(splitter(named("muse")), *text) == [("reasoning", "Hm."), ("content", call)]
    assert run(splitter(named("muse"), begun=True), " is 4<|eot|>") == [("content", " is 4")]
