from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from service.events import (
    Delta,
    Logprob,
    ReasoningDelta,
    TextDelta,
    TokenEvent,
    TokenLogprobs,
    ToolCallDelta,
)
from service.generation import Tool
from service.text.formats_named import HARMONY as HARMONY_CALLS
from service.text.formats_objects import HERMES, LLAMA
from service.text.interpreter import Interpreter
from service.text.reasoning import HARMONY, NONE, THINK, ReasoningFormat
from service.text.tool_format import ToolFormat

ANSWER = '<think>\nHm.\n</think>\n\nLook:\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


def logprobs(token: int) -> tuple[TokenLogprobs, ...]:
    return (TokenLogprobs(Logprob(token, b"", -1.0)),)


def event(text: str, token: int = 0, *, with_logprobs: bool = False) -> TokenEvent:
    return TokenEvent(3, text, 1, token, logprobs(token) if with_logprobs else ())


def interpreter(
    form: ReasoningFormat = NONE, tools: ToolFormat | None = None, *, inside: bool = False
) -> Interpreter:
    return Interpreter(3, form, inside, tools, (Tool("f"),), new_id=lambda: "id")


def joined(deltas: list[Delta]) -> tuple[str, str, str]:
    """Thoughts, content, arguments."""
    return (
        "".join(d.text for d in deltas if isinstance(d, ReasoningDelta)),
        "".join(d.text for d in deltas if isinstance(d, TextDelta)),
        "".join(d.arguments for d in deltas if isinstance(d, ToolCallDelta)),
    )


def run(it: Interpreter, *pieces: str) -> tuple[str, str, str]:
    return joined([d for piece in pieces for d in it.feed(event(piece))] + it.flush())


def test_plain_text_passes_as_it_is() -> None:
    it = interpreter()

    assert it.feed(event("It is <4>")) == [TextDelta(3, "It is <4>", tokens=1)]
    assert it.flush() == []
    assert not it.called


def test_thoughts_content_and_calls_come_apart() -> None:
    it = interpreter(THINK, HERMES)

    assert run(it, *ANSWER) == ("Hm.\n", "Look:\n", '{"a": 1}')
    assert it.called
    assert it.reasoning_tokens == len("<think>\nHm.\n</think>") - len("<think>") + 1


def test_without_tools_on_offer_nothing_is_a_call() -> None:
    it = interpreter(THINK)

    assert run(it, ANSWER)[1] == ANSWER.partition("</think>\n\n")[2]
    assert not it.called


def test_a_call_that_breaks_off_was_no_call_made() -> None:
    it = interpreter(tools=HERMES)

    assert run(it, '<tool_call>{"name": "f", "arguments": {"a"') == ("", "", '{"a"')
    assert not it.called


def test_tokens_are_counted_while_the_thoughts_last_even_those_whose_text_is_held_back() -> None:
    it = interpreter(THINK, inside=True)

    assert it.feed(TokenEvent(3, "Hm", 2, 0)) == [ReasoningDelta(3, "Hm", tokens=2)]
    assert it.feed(TokenEvent(3, "", 1, 0)) == []
    assert it.feed(TokenEvent(3, "</thi", 1, 0)) == []
    assert it.feed(TokenEvent(3, "nk>", 1, 0)) == []
    assert it.feed(TokenEvent(3, "4", 1, 0)) == [TextDelta(3, "4", tokens=4)]
    assert it.reasoning_tokens == 5


def test_a_json_answer_of_llama_is_content_unless_it_names_a_tool() -> None:
    assert run(interpreter(tools=LLAMA), '{"name": "g", "parameters": {}}')[1] != ""
    assert run(interpreter(tools=LLAMA), '{"name": "f", "parameters": {}}') == ("", "", "{}")


def test_channels_carry_thoughts_calls_and_content() -> None:
    text = (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary"
        ' to=functions.f <|constrain|>json<|message|>{"a": 1}'
    )
    it = interpreter(HARMONY, HARMONY_CALLS)

    assert run(it, *text) == ("Hm.", "", '{"a": 1}')
    assert it.called


def test_log_probabilities_ride_on_the_first_delta_after_their_token() -> None:
    it = interpreter(THINK)

    assert it.feed(event("<think>", 1, with_logprobs=True)) == []
    assert it.feed(event("Hm</think>4", 2, with_logprobs=True)) == [
        ReasoningDelta(3, "Hm", logprobs(1) + logprobs(2), tokens=2),
        TextDelta(3, "4"),
    ]
    assert it.feed(event("", 3, with_logprobs=True)) == []
    assert it.flush() == [TextDelta(3, "", logprobs(3), tokens=1)]


def test_log_probabilities_ride_on_parts_of_calls_too() -> None:
    it = interpreter(tools=HERMES)
    it.feed(event('<tool_call>{"name": "f", "arguments": ', 1, with_logprobs=True))

    first, second = it.feed(event("{}", 2, with_logprobs=True))
    assert first == ToolCallDelta(3, 0, "", "id", "f", logprobs(1) + logprobs(2), tokens=2)
    assert second == ToolCallDelta(3, 0, "{}")


pieces = st.lists(
    st.sampled_from(["<think>", "</think>", "a", "\n", "<tool_call>", "</tool_call>", "<",
                     '{"name": "f", "arguments": ', "{}", "}", ""]),
    max_size=12,
)  # fmt: skip


@settings(deadline=None)
@given(pieces)
def test_no_log_probability_is_lost_or_moved(texts: list[str]) -> None:
    it = interpreter(THINK, HERMES)
    deltas = [d for n, t in enumerate(texts) for d in it.feed(event(t, n, with_logprobs=True))]
    deltas += it.flush()

    assert [each.chosen.token for d in deltas for each in d.logprobs] == [*range(len(texts))]


@settings(deadline=None)
@given(pieces)
def test_any_split_gives_what_the_whole_text_gives(texts: list[str]) -> None:
    text = "".join(texts)

    assert run(interpreter(THINK, HERMES), *text) == run(interpreter(THINK, HERMES), text)
