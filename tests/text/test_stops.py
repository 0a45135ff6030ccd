from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text.stops import StopMatcher


def run(matcher: StopMatcher, pieces: list[str]) -> str:
    return "".join(map(matcher.feed, pieces)) + matcher.flush()


def reference(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    """The first end at which some stop string is complete; there the longest one."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if complete:
            stop = max(complete, key=len)
            return text[: end - len(stop)], stop
    return text, None


def test_without_stop_strings_text_passes_untouched() -> None:
    matcher = StopMatcher(())

    assert matcher.feed("anything") == "anything"
    assert matcher.flush() == ""
    assert matcher.matched is None


def test_a_stop_string_is_found_across_pieces_and_never_let_out() -> None:
    matcher = StopMatcher(("\n\nUser:",))

    assert [matcher.feed(p) for p in ("Hi\n", "\nUs", "er", ": no", "more")] == [
        "Hi", "", "", "", "",
    ]  # fmt: skip
    assert matcher.matched == "\n\nUser:"
    assert matcher.flush() == ""


def test_what_only_began_like_a_stop_string_is_released() -> None:
    matcher = StopMatcher(("END",))

    assert matcher.feed("the E") == "the "
    assert matcher.feed("N") == ""
    assert matcher.feed("Q") == "ENQ"
    assert matcher.feed("EN") == ""
    assert matcher.flush() == "EN"
    assert matcher.matched is None


def test_held_text_may_begin_again_inside_itself() -> None:
    matcher = StopMatcher(("aab",))

    assert matcher.feed("aaa") == "a"
    assert matcher.feed("b") == ""
    assert matcher.matched == "aab"


@pytest.mark.parametrize(
    ("stops", "text", "released", "matched"),
    [
        (("abcd", "bc"), "xabcd", "xa", "bc"),  # complete first
        (("cd", "bcd"), "abcde", "a", "bcd"),  # complete together: began first
        (("ab", "a"), "xab", "x", "a"),  # began together: the shorter
        (("", "b"), "abc", "a", "b"),  # an empty stop string is none
        (("]", "^", "\\"), "a^]", "a", "^"),  # characters that mean something to `re`
    ],
)
def test_which_stop_string_wins(
    stops: tuple[str, ...], text: str, released: str, matched: str
) -> None:
    for pieces in ([text], list(text)):
        matcher = StopMatcher(stops)
        assert run(matcher, pieces) == released
        assert matcher.matched == matched


def test_the_stop_string_itself_is_released_on_demand() -> None:
    matcher = StopMatcher(("END",), include_stop=True)

    assert run(matcher, ["the E", "ND of it"]) == "the END"


letters = st.text("ab\n<", max_size=30)


@given(letters, st.lists(st.text("ab\n<", max_size=4), max_size=4), st.data())
def test_any_split_gives_what_the_whole_text_gives(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    bounds = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in pairwise(bounds)]
    matcher = StopMatcher(tuple(stops))
    released = run(matcher, pieces)

    assert (released, matcher.matched) == reference(text, tuple(stops))
