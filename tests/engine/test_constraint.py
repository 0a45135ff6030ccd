from __future__ import annotations

from service.engine.constraint import Constraint, Hold
from service.generation import Grammar

TEXT = 'root ::= "x"'


def fed(constraint: Constraint, *pieces: str) -> Constraint:
    for token, piece in enumerate(pieces):
        constraint.feed(token, piece)
    return constraint


def test_a_plain_grammar_holds_from_the_first_token() -> None:
    assert Constraint(Grammar(TEXT)).hold is Hold.BOUND


def test_after_thoughts_the_grammar_holds() -> None:
    constraint = Constraint(Grammar(TEXT, after="</think>"))

    assert fed(constraint, "hm", "</th").hold is Hold.FREE
    assert fed(constraint, "ink>").hold is Hold.BOUND


def test_an_answer_that_may_think_is_undecided_until_it_does() -> None:
    constraint = Constraint(Grammar(TEXT, after="</think>", opener="<think>"))

    assert constraint.hold is Hold.UNDECIDED
    assert constraint.may_begin_opener("<thi")
    assert not constraint.may_begin_opener("{")
    assert fed(constraint, "<think>").hold is Hold.FREE
    assert fed(constraint, "a", "</think>").hold is Hold.BOUND


def test_a_trigger_hands_its_own_tokens_to_the_grammar() -> None:
    constraint = Constraint(Grammar(TEXT, triggers=("(<tool_call>)",)))

    assert fed(constraint, "Let me ", "see. ").hold is Hold.FREE
    fed(constraint, "<tool", "_call>")
    assert constraint.hold is Hold.BOUND
    assert constraint.replay == (0, 1)


def test_a_trigger_that_begins_inside_a_token_binds_nothing() -> None:
    constraint = Constraint(Grammar(TEXT, triggers=("<tool_call>",)))

    assert fed(constraint, "so: <tool_call>").hold is Hold.FREE


def test_a_marker_quoted_in_thoughts_is_not_a_trigger() -> None:
    grammar = Grammar(TEXT, triggers=("<tool_call>",), after="</think>")

    assert fed(Constraint(grammar), "<tool_call>", "</think>").hold is Hold.FREE
    assert fed(Constraint(grammar), "a", "</think>", "<tool_call>").hold is Hold.BOUND


def test_what_may_still_be_an_opener_is_kept_for_the_grammar() -> None:
    constraint = Constraint(Grammar(TEXT, after="[/THINK]", opener="[THINK]"))

    assert fed(constraint, "\n", " [", "TH").hold is Hold.UNDECIDED
    assert constraint.begun == (1, 2)
    assert constraint.rest_of_opener == "INK]"
    assert not constraint.may_begin_opener("E")
    constraint.bind()
    assert constraint.hold is Hold.BOUND


def test_thoughts_that_end_early_lack_the_rest_of_their_closing_mark() -> None:
    constraint = Constraint(Grammar(TEXT, after="</think>"))

    assert constraint.rest_of_closer == "</think>"
    assert fed(constraint, "a < b", "</").rest_of_closer == "think>"
    assert fed(constraint, "a <").rest_of_closer == "/think>"


def test_what_may_end_without_a_call_lacks_nothing() -> None:
    grammar = Grammar(TEXT, triggers=("<tool_call>",), after="</think>")

    assert Constraint(grammar).rest_of_closer == ""
    assert fed(Constraint(grammar), "</think>").rest_of_closer == ""


def test_nothing_but_white_space_is_nothing_for_the_grammar() -> None:
    constraint = Constraint(Grammar(TEXT, after="</think>", opener="<think>"))

    assert constraint.begun == ()
    assert fed(constraint, "\n", " ").begun == ()


def test_a_marker_quoted_in_thoughts_that_the_model_opens_is_not_a_trigger() -> None:
    grammar = Grammar(TEXT, triggers=("<tool_call>",), after="</think>", opener="<think>")
    thinking = fed(Constraint(grammar), "\n<th", "ink>", "so: ", "<tool_call>")

    assert thinking.hold is Hold.FREE
    assert fed(thinking, "</think>", "\n").hold is Hold.FREE
    assert fed(thinking, "<tool_call>").hold is Hold.BOUND


def test_an_answer_without_thoughts_may_begin_with_a_call() -> None:
    grammar = Grammar(TEXT, triggers=("<tool_call>",), after="</think>", opener="<think>")
    calling = fed(Constraint(grammar), "\n", "<", "tool_call>")

    assert calling.hold is Hold.BOUND
    assert calling.replay == (1, 2)
    assert fed(Constraint(grammar), "I ", "see: ", "<tool_call>").hold is Hold.BOUND
    assert fed(Constraint(grammar), "I ", "<think>", "<tool_call>").hold is Hold.BOUND
