"""The `template` of /api/generate: Go's notation, as far as a prompt of one turn needs it. Pure.

    {{ .System }} {{ .Prompt }} {{ .Suffix }}      their text
    {{ .Response }}                                where the answer begins: the prompt ends there
    {{ if X }} {{ else if X }} {{ else }} {{ end }}
    X: a field, "text", not X, and X Y, or X Y, eq X Y, ne X Y, with parentheses
    {{- and -}} take the white space beside them away; {{/* */}} is a comment

A template is a program. This is a language without loops, so what it makes is no longer than the
template and the fields that it names; anything else of Go's is refused by name.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from service.errors import InvalidRequest

MAX_LENGTH: Final = 32 * 1024
MAX_DEPTH: Final = 16
# What a template may make of a prompt that it names again and again.
MAX_OUTPUT: Final = 16 * 1024 * 1024

FUNCTIONS: Final = frozenset({"not", "and", "or", "eq", "ne"})
TRUE: Final = "true"

_WORD = re.compile(r'\s*("(?:[^"\\\n]|\\.)*"|`[^`]*`|[()]|\$?\.[A-Za-z]+|[A-Za-z]+|\S)')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}


def render(source: str, values: Mapping[str, str]) -> str:
    """Raises InvalidRequest for what is no template, or more than this language."""
    if len(source) > MAX_LENGTH:
        raise bad(f"must not be longer than {MAX_LENGTH} characters")
    out: list[str] = []
    size = 0
    for text in _rendered(source, values):
        size += len(text)
        if size > MAX_OUTPUT:
            raise bad("makes too much text")
        out.append(text)
    return "".join(out)


@dataclass
class Branch:
    """`taken`: one of its parts was, or its surroundings are not; the others are then left out."""

    active: bool
    taken: bool
    closed: bool = False


def _rendered(source: str, values: Mapping[str, str]) -> Iterator[str]:
    branches: list[Branch] = []
    for text, code in _pieces(source):
        active = all(branch.active for branch in branches)
        if active:
            yield text
        expression = Expression(_WORD.findall(code), values)
        match expression.word():
            case "":
                pass
            case "if":
                if len(branches) == MAX_DEPTH:
                    raise bad("is nested too deeply")
                true = bool(expression.value())
                branches.append(Branch(active and true, true or not active))
            case "else" if branches and not branches[-1].closed:
                branch = branches[-1]
                branch.closed = not expression.words
                true = branch.closed or bool(expression.condition())
                branch.active, branch.taken = true and not branch.taken, branch.taken or true
            case "end" if branches and not expression.words:
                branches.pop()
            case ".Response" | "$.Response" if not expression.words:
                if active:
                    return
            case word:
                expression.words.appendleft(word)
                value = expression.value()
                if active:
                    yield value
    if branches:
        raise bad("an `if` has no `end`")


def _pieces(source: str) -> Iterator[tuple[str, str]]:
    """Text and the action behind it; the last has none."""
    at, trim = 0, False
    while (start := source.find("{{", at)) >= 0:
        end = source.find("}}", start)
        if end < 0:
            raise bad("an action is not closed")
        text, code = source[at:start], source[start + 2 : end]
        text = text.lstrip() if trim else text
        if code[:1] == "-" and code[1:2].isspace():
            text, code = text.rstrip(), code[1:]
        trim = code[-1:] == "-" and code[-2:-1].isspace()
        code = code[:-1].strip() if trim else code.strip()
        yield text, "" if code.startswith("/*") and code.endswith("*/") else code
        at = end + 2
    rest = source[at:]
    yield rest.lstrip() if trim else rest, ""


class Expression:
    """The words of an action, read from the left. Text is true unless it is empty."""

    def __init__(self, words: list[str], values: Mapping[str, str]) -> None:
        self.words = deque(words)
        self._values = values

    def word(self) -> str:
        return self.words.popleft() if self.words else ""

    def condition(self) -> str:
        if (word := self.word()) != "if":
            raise bad(f"`else {word[:32]}` is not supported")
        return self.value()

    def value(self) -> str:
        value = self._call(0)
        if self.words:
            raise bad(f"`{self.words[0][:32]}` is not expected here")
        return value

    def _call(self, depth: int) -> str:
        if not self.words or self.words[0] not in FUNCTIONS:
            return self._term(depth)
        name, terms = self.word(), []
        while self.words and self.words[0] != ")":
            terms.append(self._term(depth))
        match name, terms:
            case "not", [term]:
                return "" if term else TRUE
            case "and", [_, *_]:
                return next((term for term in terms if not term), terms[-1])
            case "or", [_, *_]:
                return next((term for term in terms if term), terms[-1])
            case "eq", [first, _, *_]:
                return TRUE if first in terms[1:] else ""
            case "ne", [first, second]:
                return TRUE if first != second else ""
        raise bad(f"`{name}` has too few or too many arguments")

    def _term(self, depth: int) -> str:
        word = self.word()
        if word == "(":
            if depth == MAX_DEPTH:
                raise bad("is nested too deeply")
            value = self._call(depth + 1)
            if self.word() != ")":
                raise bad("a parenthesis is not closed")
            return value
        if len(word) > 1 and word[0] == "`":
            return word[1:-1]
        if len(word) > 1 and word[0] == '"':
            return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), word[1:-1])
        field = word.removeprefix("$").removeprefix(".")
        if "." in word and field in self._values:
            return self._values[field]
        if "." in word and field == "Response":
            return ""
        raise bad(f"`{word[:32]}` is not supported; .System, .Prompt and .Suffix are")


def bad(message: str) -> InvalidRequest:
    return InvalidRequest(f"template: {message}", param="template")
