from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from service.text.detokenizer import Detokenizer


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


def decoded(pieces: list[bytes]) -> str:
    detokenizer = Detokenizer()
    return "".join(map(detokenizer.feed, pieces)) + detokenizer.flush()


def test_a_code_point_split_between_pieces_comes_out_whole() -> None:
    detokenizer = Detokenizer()

    assert [detokenizer.feed(bytes([b])) for b in "🦙".encode()] == ["", "", "", "🦙"]
    assert detokenizer.flush() == ""


def test_an_unfinished_code_point_becomes_one_replacement_character_at_the_end() -> None:
    detokenizer = Detokenizer()

    assert detokenizer.feed(b"a\xf0\x9f\xa6") == "a"
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.flush() == ""


def test_an_invalid_byte_is_replaced_as_soon_as_it_is_known_to_be_invalid() -> None:
    detokenizer = Detokenizer()

    assert detokenizer.feed(b"\xe2\x82") == ""
    assert detokenizer.feed(b"A") == "\ufffdA"
    assert detokenizer.feed(b"\xff") == "\ufffd"


@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=8))
def test_any_split_of_any_bytes_decodes_as_the_whole_does(data: bytes, cuts: list[int]) -> None:
    assert decoded(pieces_of(data, cuts)) == data.decode("utf-8", "replace")


@given(st.text(max_size=20), st.lists(st.integers(0, 80), max_size=8))
def test_valid_text_survives_any_split(text: str, cuts: list[int]) -> None:
    assert decoded(pieces_of(text.encode(), cuts)) == text
