from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.engine.bans import Bans, bans, few_left
from service.generation import SamplingParams

ENDS = frozenset({2, 7})
NONE = frozenset[int]()


def test_an_answer_has_no_bans_of_its_own() -> None:
    assert bans(SamplingParams(stop_token_ids=(5,)), ENDS, set()) == Bans(NONE, NONE)


def test_until_min_tokens_neither_the_models_ends_nor_the_clients_may_come() -> None:
    sampling = SamplingParams(min_tokens=3, stop_token_ids=(5,))
    assert bans(sampling, ENDS, set()) == Bans(NONE, frozenset({2, 5, 7}))


def test_ignored_ends_are_the_models_own_and_none_that_the_client_lists() -> None:
    assert bans(SamplingParams(ignore_eos=True), ENDS, set()) == Bans(ENDS, NONE)
    listed = SamplingParams(ignore_eos=True, stop_token_ids=(5, 7))
    assert bans(listed, ENDS, set()) == Bans(frozenset({2}), NONE)
    both = SamplingParams(ignore_eos=True, stop_token_ids=(5, 7), min_tokens=1)
    assert bans(both, ENDS, set()) == Bans(frozenset({2}), frozenset({5, 7}))


def test_a_word_of_one_token_and_a_bias_without_bound_are_bans() -> None:
    sampling = SamplingParams(logit_bias={1: float("-inf"), 3: -50.0})
    assert bans(sampling, ENDS, {(9,), (9, 4)}).ever == {1, 9}


tokens = st.frozensets(st.integers(0, 9))


@given(tokens, tokens, st.integers(0, 10))
def test_what_is_left_is_told_where_it_is_little(
    allowed: frozenset[int], banned: frozenset[int], most: int
) -> None:
    left = (allowed or frozenset(range(10))) - banned
    sampling = SamplingParams(allowed_token_ids=tuple(allowed))
    assert few_left(sampling, banned, 10, most) == (left if len(left) <= most else None)
