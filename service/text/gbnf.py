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

from msgspec import Struct

from service.errors import InvalidRequest

LONGEST = 16 * 1024
DEEPEST = 64
MOST_RULES = 512
MOST_ALTERNATIVES = 256
# llama.cpp's own limit (MAX_REPETITION_THRESHOLD); more than that it takes for "without end".
MOST_REPETITIONS = 2000
# The engine's work doubles with each element that may be left out before one that begins alike.
_MOST_OPTIONAL = 16
# Elements after repetitions are written out, which llama.cpp does: 8 bytes each.
_MOST_ELEMENTS = 50_000
_MOST_STEPS = 50_000

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


class _Item(Struct):
    """An element of a sequence. `rule` is None for characters; `size` counts elements."""

    rule: str | None
    size: int
    least: int = 1
    most: int | None = 1


_Rules = dict[str, list[list[_Item]]]


def check_gbnf(text: str, param: str = "grammar") -> None:
    """Raises InvalidRequest(param) for what llama.cpp cannot parse, or should not have to."""
    try:
        rules = _Reader(text).rules()
        _check_references(rules)
        _check_walk(rules)
    except _Refused as refusal:
        raise InvalidRequest(f"The grammar cannot be used: {refusal}", param=param) from None


class _Refused(Exception):
    pass


class _Reader:
    """Recursive descent, as llama.cpp does it, except that it counts."""

    def __init__(self, text: str) -> None:
        if len(text.encode("utf-8", "surrogatepass")) > LONGEST:
            raise _Refused(f"it is longer than {LONGEST} bytes")
        if "\0" in text or re.search("[\ud800-\udfff]", text):
            raise _Refused("it contains a character that no text can contain")
        self._text = text
        self._at = 0
        self._elements = 0
        self._groups = 0
        self._rules: _Rules = {}

    def rules(self) -> _Rules:
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
            raise _Refused(f"the rule `{name}` is defined twice")
        self._rules[name] = alternatives
        if len(self._rules) - self._groups > MOST_RULES:
            raise _Refused(f"it has more than {MOST_RULES} rules")

    def _alternatives(self, depth: int) -> list[list[_Item]]:
        if depth > DEEPEST:
            raise _Refused(f"it nests deeper than {DEEPEST} parentheses")
        out = [self._sequence(depth)]
        while self._take("|"):
            self._skip(_LINES)
            out.append(self._sequence(depth))
            if len(out) > MOST_ALTERNATIVES:
                raise _Refused(f"a rule has more than {MOST_ALTERNATIVES} alternatives")
        return out

    def _sequence(self, depth: int) -> list[_Item]:
        items: list[_Item] = []
        while (item := self._item(depth)) is not None:
            self._skip(_LINES if depth else _SPACE)
            while times := _TIMES.match(self._text, self._at):
                self._at = times.end()
                item = self._repeated(item, times)
                self._skip(_LINES if depth else _SPACE)
            items.append(item)
            self._elements += item.size
            if self._elements > _MOST_ELEMENTS:
                raise _Refused("it is too large once its repetitions are written out")
        return items

    def _item(self, depth: int) -> _Item | None:
        char = self._text[self._at : self._at + 1]
        if char == '"':
            text = self._expect(_LITERAL, "the end of a literal")[1]
            size = len(_code_points(text))
            return _Item(None, size, 1 if size else 0)
        if char == "[":
            found = self._expect(_CLASS, "the end of a class")
            return _Item(None, _class_size(found[2], bool(found[1])))
        if char == "(":
            return self._group(depth)
        if char == ".":
            self._at += 1
            return _Item(None, 1)
        if char and (char in "<!"):
            raise _Refused("elements for single tokens (`<…>`) are not supported")
        name = _NAME.match(self._text, self._at)
        if not name:
            return None
        self._at = name.end()
        return _Item(name[0], 1)

    def _group(self, depth: int) -> _Item:
        self._at += 1
        self._skip(_LINES)
        # No rule of a client's can have this name.
        name = f"({self._groups})"
        self._groups += 1
        if self._groups > 4 * MOST_RULES:
            raise _Refused(f"it has more than {4 * MOST_RULES} groups")
        self._rules[name] = self._alternatives(depth + 1)
        if not self._take(")"):
            raise self._wrong("`)`")
        return _Item(name, 1)

    def _repeated(self, item: _Item, times: re.Match[str]) -> _Item:
        if item.size == 0:
            raise _Refused("it repeats an empty literal")
        least, most = _bounds(times)
        if max(least, most or 0) > MOST_REPETITIONS:
            raise _Refused(f"it repeats something more than {MOST_REPETITIONS} times")
        size = item.size * max(least, 1) + (item.size + 2) * ((most or least + 1) - least)
        both = None if most is None or item.most is None else item.most * most
        if item.least == 0 and item.rule is None and both is None:
            raise _Refused("it repeats without end what may be empty")
        return _Item(item.rule, size, item.least * least, both)

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

    def _wrong(self, wanted: str) -> _Refused:
        line = self._text.count("\n", 0, self._at) + 1
        return _Refused(f"in line {line}, {wanted} is missing")


def _bounds(times: re.Match[str]) -> tuple[int, int | None]:
    simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
    if times[0] in simple:
        return simple[times[0]]
    least = int(times[1])
    most = None if times[2] and times[3] is None else int(times[3] or least)
    if most is not None and (most < least or most == 0):
        raise _Refused(f"`{times[0]}` repeats nothing")
    return least, most


def _code_points(text: str, *, nul: bool = False) -> list[int]:
    out: list[int] = []
    at = 0
    while at < len(text):
        found = _CHAR.match(text, at)
        if not found:
            raise _Refused(f"`{text[at : at + 2]}` is no escape sequence")
        code = _code_point(found)
        if (code == 0 and not nul) or code > _LAST or 0xD800 <= code <= 0xDFFF:
            raise _Refused(f"`{found[0]}` is a character that no text can contain")
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
        raise _Refused("it has an empty class")
    if len(ranges) > MOST_ALTERNATIVES:
        raise _Refused(f"a class has more than {MOST_ALTERNATIVES} ranges")
    if negated and _cover_everything(ranges):
        raise _Refused("it has a class that matches nothing")
    return 2 * len(ranges)


def _ranges(body: str, negated: bool) -> list[tuple[int, int]]:
    tokens = [found[0] for found in _CHAR.finditer(body)]
    if "".join(tokens) != body:
        raise _Refused("it has a wrong escape sequence in a class")
    if len(tokens) > 3 * MOST_ALTERNATIVES:
        raise _Refused(f"a class has more than {MOST_ALTERNATIVES} ranges")
    codes = [_code_points(token, nul=negated)[0] for token in tokens]
    out: list[tuple[int, int]] = []
    at = 0
    while at < len(codes):
        high = at + 2 if tokens[at + 1 : at + 2] == ["-"] and at + 2 < len(codes) else at
        if codes[high] < codes[at]:
            raise _Refused("a range in a class is the wrong way round")
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


def _check_references(rules: _Rules) -> None:
    if "root" not in rules:
        raise _Refused("it has no rule `root`")
    for alternatives in rules.values():
        for sequence in alternatives:
            for item in sequence:
                if item.rule is not None and item.rule not in rules:
                    raise _Refused(f"the rule `{item.rule}` is not defined")


def _nullable(rules: _Rules) -> set[str]:
    """The rules that may match nothing, by the usual fixed point."""
    found: set[str] = set()
    grown = True
    while grown:
        grown = False
        for name, alternatives in rules.items():
            if name in found:
                continue
            for sequence in alternatives:
                if all(item.least == 0 or item.rule in found for item in sequence):
                    found.add(name)
                    grown = True
                    break
    return found


def _leftmost(rules: _Rules) -> dict[str, list[str]]:
    """For each rule those that a match of it may begin with, as often as they are met."""
    nullable = _nullable(rules)
    _check_optional(rules, nullable)
    out: dict[str, list[str]] = {}
    for name, alternatives in rules.items():
        met = out[name] = []
        for sequence in alternatives:
            for item in sequence:
                empty = item.rule in nullable
                if item.rule is not None:
                    met.extend([item.rule] * ((item.most or 1) if empty else 1))
                if item.least and not empty:
                    break
    return out


def _check_optional(rules: _Rules, nullable: set[str]) -> None:
    for alternatives in rules.values():
        for sequence in alternatives:
            in_a_row = 0
            for item in sequence:
                empty = item.rule in nullable
                if empty and item.most is None:
                    raise _Refused("it repeats without end what may be empty")
                optional = empty or item.least == 0
                in_a_row = in_a_row + ((item.most or 1) if empty else 1) if optional else 0
                if in_a_row > _MOST_OPTIONAL:
                    raise _Refused(f"more than {_MOST_OPTIONAL} elements in a row may be left out")


def _check_walk(rules: _Rules) -> None:
    """No left recursion, and not too many paths for llama.cpp's search for it."""
    leftmost = _leftmost(rules)
    steps: dict[str, int] = {}
    for start in rules:
        _walk(start, leftmost, steps)
    if sum(steps.values()) > _MOST_STEPS:
        raise _Refused("it is too ambiguous")


def _walk(start: str, leftmost: dict[str, list[str]], steps: dict[str, int]) -> None:
    """Depth first, without recursion; `steps` counts what recursion without memory would take."""
    if start in steps:
        return
    path = [start]
    on_path = {start}
    pending = [iter(leftmost[start])]
    while path:
        name = path[-1]
        below = next((rule for rule in pending[-1] if rule not in steps), None)
        if below is None:
            steps[name] = min(1 + sum(steps[rule] for rule in leftmost[name]), _MOST_STEPS + 1)
            on_path.discard(path.pop())
            pending.pop()
        elif below in on_path:
            shown = "a group" if below.startswith("(") else f"the rule `{below}`"
            raise _Refused(f"{shown} begins with itself (left recursion)")
        else:
            path.append(below)
            on_path.add(below)
            pending.append(iter(leftmost[below]))
