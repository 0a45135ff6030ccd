from __future__ import annotations

import re
import time
import unicodedata
from contextlib import suppress
from itertools import chain
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.text.regex_gbnf import regex_grammar
from tests.text import llama
from tests.text.matcher import Matcher
from tests.text.walk import walk


def matcher(pattern: str) -> Matcher:
    return Matcher(regex_grammar(pattern, "guided_regex"))


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"yes|no", ["yes", "no"], ["", "yesno", "y"]),
        (r"^\d{3}-\d{4}$", ["555-0199"], ["5550199", "555-01990"]),
        (r"\A(?P<year>\d{4})-(?<month>\d\d)\Z", ["2024-02"], ["2024-2"]),
        (r"^a$|^b", ["a", "b"], ["ab", ""]),
        (r"(^$|^x+$)", ["", "xx"], ["a"]),
        (r"(a*)*b", ["b", "aaab"], ["a", "ab "]),
        (r"(a?|b*){2}", ["", "ab", "bbb", "bbabb"[:2]], ["c"]),
        (r"(?:x+)+?y??", ["x", "xxy"], ["y"]),
        (r"(?i)état|[a-c]\u212a?", ["ÉTAT", "État", "B", "bK"[:1]], ["x"]),
        (r"(?s).\n?.", ["a\nb", "\n\n"], ["a"]),
        (r"a.c", ["abc", 'a"c', "a🦙c"], ["a\nc", "ac"]),
        (r"[^\s\d-]{2}", ["ab", "é?"], ["a ", "a1", "a-"]),
        (r"\W\D\S", [" x!", "-a🦙"], ["axx", " 1x", "  \u00a0"]),
        (r"[\]\[^\\\-.]+", ["][^\\-."], ["a"]),
        (r"\x41\u0042\u{43}\U00000044\ud83e\udd99", ["ABCD🦙"], ["ABCD"]),
        (r"\t\n\r\f\v[\b]\/\.", ["\t\n\r\f\v\b/."], ["tnrfvb/."]),
        (r"", [""], ["a"]),
        (r"(ab){2,3}c{0}", ["abab", "ababab"], ["ab", "ababc"]),
        (r'" "\ ', ['" " '], ['""']),
    ],
)
def test_the_whole_text_matches(pattern: str, good: list[str], bad: list[str]) -> None:
    grammar = matcher(pattern)

    assert [text for text in good if not grammar.accepts(text)] == []
    assert [text for text in bad if grammar.accepts(text)] == []


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("a(?=b)", "look-around"),
        ("a(?!b)", "look-around"),
        ("(?<=a)b", "look-around"),
        (r"(a)\1", "back reference"),
        (r"(?P<x>a)\k<x>", "back reference"),
        (r"(?P<x>a)(?P=x)", "(?P"),
        (r"\bword\b", "word boundary"),
        ("a++", "possessive"),
        ("(?>a)", "(?>"),
        ("(?m)^a", "flag `m`"),
        (r"\p{L}", "property"),
        ("a^b", "ends"),
        ("(a$)*", "ends"),
        ("(^)*a", "repetition"),
        ("[[:alpha:]]", "[:"),
        ("[a&&b]", "&&"),
        ("[]a]", "empty class"),
        ("[z-a]", "wrong range"),
        (r"[\d-z]", "wrong range"),
        ("[a", "lacks"),
        ("(a", "lacks"),
        ("a)", "stray"),
        ("a**", "stray"),
        ("*a", "stray"),
        ("a{,3}", "stray"),
        ("a{3,2}", "{3,2}"),
        ("a{5000}", "{5000}"),
        (r"\q", r"\q"),
        (r"\ud83e", "character"),
        (r"\x00", "character"),
        (r"\U0011ffff", "character"),
        ("\\", "\\"),
    ],
)
def test_what_cannot_be_held_to_is_refused_by_name(pattern: str, named: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        regex_grammar(pattern, "guided_regex")

    assert named in caught.value.message
    assert caught.value.param == "guided_regex"


def dipping(depth: int) -> str:
    """Taking the empty match out of it doubles it at each level."""
    pattern = "x?"
    for _ in range(depth):
        pattern = f"(b?({pattern})*)*"
    return pattern


HOSTILE = {
    "long": "a" * 5000,
    "deep": "(" * 40 + "a" + ")" * 40,
    "very deep": "(" * 2000 + "a" + ")" * 2000,
    "empty within empty": dipping(15),
    "many that may be left out": "a?" * 500 + "a" * 500,
    "stars": ".*" * 40 + "x",
    "a large grammar": r"\W" * 1000,
    "large once written out": "(abcdefgh{1000}){900}|" * 40 + "a",
    "alternatives": "|".join("ab"[n % 2] + "x" * n for n in range(80)),
    "a large class, any case": r"(?i)[" + "".join(map(chr, range(0x400, 0x800, 2))) + "]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_expressions_are_settled_in_no_time(name: str) -> None:
    started = time.thread_time()
    with suppress(InvalidRequest):
        regex_grammar(HOSTILE[name], "guided_regex")

    assert time.thread_time() - started < 0.5


@settings(deadline=None)
@given(st.text(alphabet="ab^$.[]()|*+?{}1,\\-dwsSWbux0:!=<P\n ", max_size=40))
def test_no_text_raises_anything_else(pattern: str) -> None:
    with suppress(InvalidRequest):
        regex_grammar(pattern, "guided_regex")


@pytest.mark.parametrize("letter", ["w", "d", "s"])
def test_nothing_that_is_one_to_some_hides_in_a_negation(letter: str) -> None:
    elements = chain(*chain(*matcher(rf"\{letter.upper()}").rules.values()))
    spans = chain(*(element[1] for element in elements if isinstance(element, tuple)))
    chars = [chr(code) for low, high in spans for code in range(low, high + 1)]

    assert not re.findall(rf"\{letter}", "".join(chars))
    if letter == "w":
        assert not [char for char in chars if unicodedata.category(char)[0] in "LMN"]


atoms = st.sampled_from(
    ["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\s", r"\.", "[a-c1-3]", "ab", r"\W", r"[^\s]"]
)


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    times = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "*?", "{0}"])
    return st.one_of(
        st.builds(lambda body, mark: f"(?:{body}){mark}", inner, times),
        st.builds(lambda one, other: one + other, inner, inner),
        st.builds(lambda one, other: f"({one}|{other})", inner, inner),
        st.builds(lambda one, other: f"{one}|{other}", inner, inner),
    )


patterns = st.recursive(atoms, grown, max_leaves=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(patterns, st.lists(st.text("ab1 .é", max_size=5), max_size=6), st.integers(0, 2**32))
def test_python_agrees(pattern: str, texts: list[str], seed: int) -> None:
    try:
        grammar = matcher(pattern)
    except InvalidRequest as refusal:
        assert "left out" in refusal.message or "too" in refusal.message  # noqa: PT017
        return
    random = Random(seed)
    for text in (walk(grammar, random) for _ in range(3)):
        assert re.fullmatch(pattern, text), text
    for text in texts:
        found = bool(re.fullmatch(pattern, text, re.A))
        if text.isascii() or r"\w" not in pattern.lower():
            assert grammar.accepts(text) == found, text
        else:
            # Here readings differ, and what not all of them take is not taken.
            assert not grammar.accepts(text) or (found and re.fullmatch(pattern, text)), text


def test_llama_cpp_agrees_with_the_recogniser() -> None:
    texts = ["yes", "2024-02-29", "aab", "ÉTAT", "a\nb", "", 'x"\\y', "abababab"]
    sources = [r"yes|no", r"\d{4}(-\d\d){2}", "(a*)*b", "(?i)état", "(?s)a.b", "(a?|b)*", r"\W|x.+"]
    cases = [(regex_grammar(p, "regex"), "root", text) for p in sources for text in texts]

    expected = [Matcher(grammar).accepts(text) for grammar, _, text in cases]
    assert any(expected)
    assert llama.verdicts(cases) == expected
