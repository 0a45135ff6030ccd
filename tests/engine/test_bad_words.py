from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.engine.bad_words import BadWords, spellings
from service.engine.model import Ids, within

tokens = st.integers(1, 3)
words = st.lists(st.lists(tokens, min_size=2, max_size=4).map(tuple), max_size=4)


def letters(text: str) -> Ids:
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32)


def spaced(text: str) -> Ids:
    """In the manner of tokenizers that put a space before every text."""
    return letters(f" {text}")


def as_bytes(*texts: str) -> set[tuple[int, ...]]:
    return {tuple(text.encode()) for text in texts}


def test_a_word_is_banned_with_a_space_before_it_and_without() -> None:
    assert spellings(["ab"], letters) == as_bytes("ab", " ab")
    assert spellings(["  ab"], letters) == as_bytes("ab", " ab")
    assert spellings(["ab"], spaced) == as_bytes("ab", " ab", "  ab")


def test_a_text_within_another_has_no_space_of_the_tokenizers() -> None:
    assert within("ab", spaced).tolist() == list(b"ab")
    assert within("ab", letters).tolist() == list(b"ab")


@given(words, st.lists(tokens, max_size=20))
def test_whatever_is_written_no_banned_word_is(
    banned: list[tuple[int, ...]], wanted: list[int]
) -> None:
    bad, out = BadWords(banned), []
    for token in wanted:
        if token in bad.banned:
            continue
        bad.feed(token)
        out.append(token)

    for word in banned:
        places = range(len(out) - len(word) + 1)
        assert not any(tuple(out[at : at + len(word)]) == word for at in places)


def test_nothing_is_banned_before_its_beginning_is_there() -> None:
    bad = BadWords([(1, 2, 3), (2, 4)])
    assert bad.banned == []
    bad.feed(1)
    assert bad.banned == []
    bad.feed(2)
    assert sorted(bad.banned) == [3, 4]
