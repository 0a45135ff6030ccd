from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.thoughts import ThoughtLimit
from service.generation import Thoughts

CLOSING = [91, 92]
MARKS = {91: b"</thi", 92: b"nk>"}


def written(limit: ThoughtLimit, pieces: list[bytes]) -> bytes:
    """What comes out where a model would write `pieces`."""
    out = b""
    waiting = list(pieces)
    while waiting or limit.due:
        piece = MARKS[limit.due.popleft()] if limit.due else waiting.pop(0)
        limit.feed(piece)
        out += piece
    return out


def limited(budget: int, *pieces: bytes, inside: bool = False) -> bytes:
    thoughts = Thoughts(budget, "<think>", "</think>", inside=inside)
    return written(ThoughtLimit(thoughts, CLOSING), list(pieces))


def test_the_mark_is_written_when_the_budget_is_spent() -> None:
    assert limited(2, b"<thi", b"nk>", b"a", b"b", b"c") == b"<think>ab</think>c"
    assert limited(2, b"a", b"b", b"c", inside=True) == b"ab</think>c"
    assert limited(0, b"a", inside=True) == b"</think>a"
    assert limited(0, b"\n<think>", b"a") == b"\n<think></think>a"


def test_thoughts_that_end_by_themselves_are_left_alone() -> None:
    assert limited(4, b"<think>", b"a", b"</think>", *b"bcdefg".split(b"x")) == (
        b"<think>a</think>bcdefg"
    )
    assert limited(3, b"<think>", b"a", b"</th", b"ink>", b"b", b"c", b"d").count(b"</") == 1


def test_an_answer_without_thoughts_has_no_budget() -> None:
    assert limited(1, b"4 ", b"<think>", b"a", b"b") == b"4 <think>ab"


def test_no_character_is_torn_apart() -> None:
    assert limited(1, b"\xf0\x9f", b"\x98\x80", b"a", inside=True) == "😀</think>a".encode()


@given(st.integers(0, 6), st.lists(st.sampled_from([b"a", b"<", b"</th", b" "]), max_size=12))
def test_no_more_is_thought_than_the_budget_allows(budget: int, pieces: list[bytes]) -> None:
    out = limited(budget, *pieces, inside=True)
    spent = next((n for n in range(len(pieces) + 1) if n >= budget), len(pieces))

    if len(pieces) >= budget:
        assert out == b"".join(pieces[:spent]) + b"</think>" + b"".join(pieces[spent:])
    else:
        assert out == b"".join(pieces)


@pytest.mark.parametrize("count", [1, 5])
def test_the_mark_is_written_once(count: int) -> None:
    assert limited(1, *[b"a"] * count, inside=True).count(b"</think>") == 1
