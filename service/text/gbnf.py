"""GBNF, llama.cpp's grammar notation: how to write it, and what must not reach the parser.

llama.cpp parses a grammar recursively, in C++, without limits, and asserts what it finds. So a
grammar from a client is parsed here first. Seen to kill or to stall the process, and refused: a
NUL, deep parentheses, long chains of rules, huge classes and alternations, left recursion that
hides behind a rule that may be empty, and rules that its search for left recursion (which
remembers nothing) would walk through exponentially often. A grammar can still be slow by being
ambiguous; that the engine's watchdog has to catch.

Source of the syntax: llama.cpp, `grammars/README.md` and `src/llama-grammar.cpp`.
"""

from __future__ import annotations

import re

from service.errors import InvalidRequest
from service.text.gbnf_walk import Item, Rules, check_references, check_walk
from service.text.refused import Refused

LONGEST = 16 * 1024
DEEPEST = 64
MOST_RULES = 512
MOST_ALTERNATIVES = 256
# llama.cpp's own limit (MAX_REPETITION_THRESHOLD); more than that it takes for "without end".
MOST_REPETITIONS = 2000
# Elements after repetitions are written out, which llama.cpp does: 8 bytes each.
_MOST_ELEMENTS = 50_000

_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME = re.compile(r"[A-Za-z0-9-]+")
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)
_CLASS = re.compile(r"\[(\^?)((?:[^\]\\]|\\.)*)\]", re.S)
_CHAR = re.compile(
    r"\\x([0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})|\\([trn\\\"\[\]-])|([^\\])", re.S
)
_TIMES = re.compile(r"[*+?]|\{[ \t]*([0-9]{1,6})[ \t]*(?:(,)[ \t]*([0-9]{1,6})?[ \t]*)?\}")
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_CONTROL = {"t": "\t", "r": "\r", "n": "\n"}
_LAST = 0x10FFFF


def literal(text: str) -> str:
    """A GBNF literal that matches `text`."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    return f"\\x{code:02X}" if code < 0x20 or code == 0x7F else char


def check_gbnf(text: str, param: str = "grammar") -> None:
    """Raises InvalidRequest(param) for what llama.cpp cannot parse, or should not have to."""
    try:
        rules = _Reader(text).rules()
        check_references(rules)
        check_walk(rules)
    except Refused as refusal:
        raise InvalidRequest(f"The grammar cannot be used: {refusal}", param=param) from None


class _Reader:
    """Recursive descent, as llama.cpp does it, except that it counts."""

    def __init__(self, text: str) -> None:
        if len(text.encode("utf-8", "surrogatepass")) > LONGEST:
            raise Refused(f"it is longer than {LONGEST} bytes")
        if "\0" in text or re.search("[\ud800-\udfff]", text):
            raise Refused("it contains a character that no text can contain")
        self._text = text
        self._at = 0
        self._elements = 0
        self._groups = 0
        self._rules: Rules = {}

    def rules(self) -> Rules:
        self._skip(_LINES)
        while self._at < len(self._text):
            self._rule()
        return self._rules

    def _rule(self) -> None:
        name = self._expect(_NAME, "the name of a rule")[0]
        self._skip(_SPACE)
        if not self._take("::="):
            raise self._wrong("`::=`")
        self._skip(_LINES)
        alternatives = self._alternatives(0)
        if self._at < len(self._text) and self._text[self._at] not in "\r\n":
            raise self._wrong("the end of the rule")
        self._skip(_LINES)
        if name in self._rules:
            raise Refused(f"the rule `{name}` is defined twice")
        self._rules[name] = alternatives
        if len(self._rules) - self._groups > MOST_RULES:
            raise Refused(f"it has more than {MOST_RULES} rules")

    def _alternatives(self, depth: int) -> list[list[Item]]:
        if depth > DEEPEST:
            raise Refused(f"it nests deeper than {DEEPEST} parentheses")
        out = [self._sequence(depth)]
        while self._take("|"):
            self._skip(_LINES)
            out.append(self._sequence(depth))
            if len(out) > MOST_ALTERNATIVES:
                raise Refused(f"a rule has more than {MOST_ALTERNATIVES} alternatives")
        return out

    def _sequence(self, depth: int) -> list[Item]:
        items: list[Item] = []
        while (item := self._item(depth)) is not None:
            self._skip(_LINES if depth else _SPACE)
            while times := _TIMES.match(self._text, self._at):
                self._at = times.end()
                item = self._repeated(item, times)
                self._skip(_LINES if depth else _SPACE)
            items.append(item)
            self._elements += item.size
            if self._elements > _MOST_ELEMENTS:
                raise Refused("it is too large once its repetitions are written out")
        return items

    def _item(self, depth: int) -> Item | None:
        char = self._text[self._at : self._at + 1]
        if char == '"':
            text = self._expect(_LITERAL, "the end of a literal")[1]
            size = len(_code_points(text))
            return Item(None, size, 1 if size else 0)
        if char == "[":
            found = self._expect(_CLASS, "the end of a class")
            return Item(None, _class_size(found[2], bool(found[1])))
        if char == "(":
            return self._group(depth)
        if char == ".":
            self._at += 1
            return Item(None, 1)
        if char and (char in "<!"):
            raise Refused("elements for single tokens (`<…>`) are not supported")
        name = _NAME.match(self._text, self._at)
        if not name:
            return None
        self._at = name.end()
        return Item(name[0], 1)

    def _group(self, depth: int) -> Item:
        self._at += 1
        self._skip(_LINES)
        # No rule of a client's can have this name.
        name = f"({self._groups})"
        self._groups += 1
        if self._groups > 4 * MOST_RULES:
            raise Refused(f"it has more than {4 * MOST_RULES} groups")
        self._rules[name] = self._alternatives(depth + 1)
        if not self._take(")"):
            raise self._wrong("`)`")
        return Item(name, 1)

    def _repeated(self, item: Item, times: re.Match[str]) -> Item:
        if item.size == 0:
            raise Refused("it repeats an empty literal")
        least, most = _bounds(times)
        if max(least, most or 0) > MOST_REPETITIONS:
            raise Refused(f"it repeats something more than {MOST_REPETITIONS} times")
        size = item.size * max(least, 1) + (item.size + 2) * ((most or least + 1) - least)
        both = None if most is None or item.most is None else item.most * most
        if item.least == 0 and item.rule is None and both is None:
            raise Refused("it repeats without end what may be empty")
        return Item(item.rule, size, item.least * least, both)

    def _skip(self, space: re.Pattern[str]) -> None:
        found = space.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _take(self, text: str) -> bool:
        taken = self._text.startswith(text, self._at)
        self._at += len(text) if taken else 0
        return taken

    def _expect(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if not found:
            raise self._wrong(what)
        self._at = found.end()
        return found

    def _wrong(self, wanted: str) -> Refused:
        line = self._text.count("\n", 0, self._at) + 1
        return Refused(f"in line {line}, {wanted} is missing")


def _bounds(times: re.Match[str]) -> tuple[int, int | None]:
    simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
    if times[0] in simple:
        return simple[times[0]]
    least = int(times[1])
    most = None if times[2] and times[3] is None else int(times[3] or least)
    if most is not None and (most < least or most == 0):
        raise Refused(f"`{times[0]}` repeats nothing")
    return least, most


def _code_points(text: str, *, nul: bool = False) -> list[int]:
    out: list[int] = []
    at = 0
    while at < len(text):
        found = _CHAR.match(text, at)
        if not found:
            raise Refused(f"`{text[at : at + 2]}` is no escape sequence")
        code = _code_point(found)
        if (code == 0 and not nul) or code > _LAST or 0xD800 <= code <= 0xDFFF:
            raise Refused(f"`{found[0]}` is a character that no text can contain")
        out.append(code)
        at = found.end()
    return out


def _code_point(found: re.Match[str]) -> int:
    digits = found[1] or found[2] or found[3]
    if digits:
        return int(digits, 16)
    return ord(_CONTROL.get(found[4], found[4]) if found[4] else found[5])


def _class_size(body: str, negated: bool) -> int:
    """How many elements a class takes. One that matches nothing ends every text: refused.

    NUL is accepted in negated classes, where llama.cpp's own JSON grammar has it.
    """
    ranges = _ranges(body, negated)
    if not ranges:
        raise Refused("it has an empty class")
    if len(ranges) > MOST_ALTERNATIVES:
        raise Refused(f"a class has more than {MOST_ALTERNATIVES} ranges")
    if negated and _cover_everything(ranges):
        raise Refused("it has a class that matches nothing")
    return 2 * len(ranges)


def _ranges(body: str, negated: bool) -> list[tuple[int, int]]:
    tokens = [found[0] for found in _CHAR.finditer(body)]
    if "".join(tokens) != body:
        raise Refused("it has a wrong escape sequence in a class")
    if len(tokens) > 3 * MOST_ALTERNATIVES:
        raise Refused(f"a class has more than {MOST_ALTERNATIVES} ranges")
    codes = [_code_points(token, nul=negated)[0] for token in tokens]
    out: list[tuple[int, int]] = []
    at = 0
    while at < len(codes):
        high = at + 2 if tokens[at + 1 : at + 2] == ["-"] and at + 2 < len(codes) else at
        if codes[high] < codes[at]:
            raise Refused("a range in a class is the wrong way round")
        out.append((codes[at], codes[high]))
        at = high + 1
    return out


def _cover_everything(ranges: list[tuple[int, int]]) -> bool:
    reached = 0
    for low, high in sorted(ranges):
        if low > reached + 1:
            return False
        reached = max(reached, high)
    return reached >= _LAST
