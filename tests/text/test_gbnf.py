from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.text.gbnf import check_gbnf, literal
from tests.text import llama
from tests.text.matcher import Matcher

USUAL = [
    'root ::= "yes" | "no"',
    "# a comment\nroot ::= item+ # another\nitem ::= \"- \" [^\\n]+ \"\\n\"\n",
    'root ::= ("a" |\n  "b")* end?\nend ::= . [^"\\\\\\x7F\\x00-\\x1F]',
    'root ::= [a-zA-Z_-]{2,8} "\\u00e9" [\\]\\[] "x"{3} "y"{2,}',
    'root ::= object\nobject ::= "{" (pair ("," pair)*)? "}"\npair ::= "k" ":" object',
]  # fmt: skip


@pytest.mark.parametrize("grammar", USUAL)
def test_usual_grammars_pass(grammar: str) -> None:
    check_gbnf(grammar)


def chain(length: int, body: str = "") -> str:
    rules = [f"r{n} ::= r{n + 1} {body}".replace("N", str(n + 1)) for n in range(length)]
    return "\n".join(["root ::= r0", *rules, f'r{length} ::= "a"'])


HOSTILE = {
    "NUL": 'root ::= "\\x00"+',
    "NUL in a class": "root ::= [\\x00]",
    "a raw NUL": 'root ::= "\0"',
    "half a surrogate pair": 'root ::= "\\ud800"',
    "no code point": 'root ::= "\\U00110000"',
    "a class of nothing": "root ::= [^\\x00-\\U0010FFFF]",
    "an empty class": "root ::= []",
    "30k parentheses": "root ::= " + "(" * 30_000 + '"a"' + ")" * 30_000,
    "100 parentheses": "root ::= " + "(" * 100 + '"a"' + ")" * 100,
    "100k rules in a chain": chain(100_000),
    "1000 rules in a chain": chain(1000),
    "30k ranges": "root ::= [" + "".join(f"\\u{n:04x}-\\u{n:04x}" for n in range(30_000)) + "]",
    "300 ranges": "root ::= [" + "".join(map(chr, range(0x4E00, 0x4E00 + 600, 2))) + "]",
    "20k alternatives": "root ::= " + "|".join(['"a"'] * 20_000),
    "300 alternatives": "root ::= " + "|".join(['"a"'] * 300),
    "exponentially many walks": chain(60, "| rN"),
    "a long way to nothing": chain(500).replace('"a"', "(((())))") + "\nx ::= x",
    "left recursion": 'root ::= root "a" | "b"',
    "left recursion by way of others": 'root ::= a\na ::= b "x"\nb ::= "y" | root',
    "left recursion behind what may be empty": 'root ::= a root "c" | "d"\na ::= b\nb ::= "" | "x"',
    "nothing, without end": 'root ::= ("a"?)*',
    "many that may be left out": 'root ::= ("a"?){200}',
    "2001 times": 'root ::= "a"{2001}',
    "a long literal 2000 times": 'root ::= "' + "a" * 15_000 + '"{2000}',
    "no root": 'x ::= "a"',
    "an undefined rule": "root ::= y",
    "a rule defined twice": 'root ::= "a"\nroot ::= "b"',
    "an open parenthesis": 'root ::= ("a"',
    "an open literal": 'root ::= "a',
    "an open class": "root ::= [a",
    "a wrong escape": 'root ::= "\\q"',
    "a wrong range": "root ::= [z-a]",
    "a repetition of nothing": 'root ::= ""*',
    "a stray character": 'root ::= "a" ;',
    "no definition": "root",
    "nothing at all": "",
    "17 KiB": "#" * 17_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_grammars_are_refused_in_no_time(name: str) -> None:
    seconds = []
    for _ in range(3):
        started = time.thread_time()
        with pytest.raises(InvalidRequest) as caught:
            check_gbnf(HOSTILE[name], "guided_grammar")
        seconds.append(time.thread_time() - started)

    assert min(seconds) < 0.05
    assert caught.value.param == "guided_grammar"


@settings(deadline=None)
@given(st.text(alphabet='root::= "ab[]^-()|*+?{}1,\\\nx0', max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    with suppress(InvalidRequest):
        check_gbnf("root ::= " + text)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_a_literal_matches_its_text_and_passes_unless_it_holds_a_nul(text: str) -> None:
    grammar = f"root ::= {literal(text)}"

    assert Matcher(grammar).accepts(text)
    if "\0" not in text:
        check_gbnf(grammar)


def test_what_passes_llama_cpp_parses_and_the_recogniser_reads_alike() -> None:
    texts = ["yes", "- a\n- b\n", "ababx\u00e9", "ab\u00e9]xxxyy", '{k:{k:{}}}', ""]  # fmt: skip
    cases = [(grammar, "root", text) for grammar in USUAL for text in texts]

    expected = [Matcher(grammar).accepts(text) for grammar, _, text in cases]
    assert any(expected)
    assert llama.verdicts(cases) == expected
