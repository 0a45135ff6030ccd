"""The `pattern` of a JSON schema as GBNF over the *JSON text* of a string.

A subset of ECMAScript's regular expressions that means the same everywhere: characters, `.`,
classes, `\\d \\w \\s` and their negations, groups, `|`, `* + ? {m,n}`, and `^ $` at the ends (a
pattern without them may match anywhere inside). Look-around, back references and `\\b` are no
matter of a context-free grammar, and are refused.
"""

from __future__ import annotations

import re

from service.text.gbnf import literal
from service.text.gbnf_rules import GbnfRules

_LONGEST = 1024
_DEEPEST = 16
_MOST_TIMES = 1000
_LAST = 0x10FFFF

_Ranges = list[tuple[int, int]]
_DIGIT: _Ranges = [(0x30, 0x39)]
_WORD: _Ranges = [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]
_BLANK: _Ranges = [
    (0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
]  # fmt: skip
_LINE_ENDS: _Ranges = [(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)]
_SETS = {"d": _DIGIT, "w": _WORD, "s": _BLANK}
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_HEX = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})")
_TIMES = re.compile(r"(?:[*+?]|\{(\d{1,4})(?:(,)(\d{1,4})?)?\})\??")
# Characters that JSON writes with an escape only, and how.
_ESCAPED = {0x22: '\\"', 0x5C: "\\\\", 8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r"}


def pattern_rule(pattern: str, rules: GbnfRules) -> str:
    """A rule for the JSON strings (quotes included) that `pattern` matches."""
    return rules.rule("pattern", _Pattern(pattern, rules).expression())


class _Pattern:
    def __init__(self, pattern: str, rules: GbnfRules) -> None:
        self._source = pattern
        self._rules = rules
        self._at = 0
        self._top_level_choice = False

    def expression(self) -> str:
        if len(self._source) > _LONGEST:
            raise self._refuse(f"is longer than {_LONGEST} characters")
        from_start = self._take("^")
        to_end = re.search(r"(?<!\\)(?:\\\\)*\$\Z", self._source) is not None
        end = len(self._source) - 1 if to_end else len(self._source)
        self._source, whole = self._source[:end], self._source
        body, _ = self._alternatives(0)
        if self._at < len(self._source):
            raise self._refuse(f"has a stray `{self._source[self._at]}`")
        self._source = whole
        if self._top_level_choice and (from_start or to_end):
            # `^a|b$` means `(^a)|(b$)`, and hardly ever was meant to.
            raise self._refuse("has `^` or `$` beside `|` (write `^(a|b)$`)")
        char = self._rules.json("char")
        before = "" if from_start else f"{char}* "
        after = "" if to_end else f" {char}*"
        return f'"\\"" {before}{body}{after} "\\""'

    def _alternatives(self, depth: int) -> tuple[str, bool]:
        """An expression, and whether it may match nothing."""
        if depth > _DEEPEST:
            raise self._refuse(f"nests deeper than {_DEEPEST} groups")
        sequences = [self._sequence(depth)]
        while self._take("|"):
            sequences.append(self._sequence(depth))
            self._top_level_choice |= depth == 0
        bodies = [body or '""' for body, _ in sequences]
        return self._rules.choice("pattern", bodies), any(empty for _, empty in sequences)

    def _sequence(self, depth: int) -> tuple[str, bool]:
        parts: list[str] = []
        empty = True
        while self._at < len(self._source) and self._source[self._at] not in "|)":
            body, may_be_empty = self._atom(depth)
            times = _TIMES.match(self._source, self._at)
            if times:
                self._at = times.end()
                body, may_be_empty = self._repeated(body, may_be_empty, times)
            parts.append(body)
            empty = empty and may_be_empty
        return " ".join(parts), empty

    def _repeated(self, body: str, empty: bool, times: re.Match[str]) -> tuple[str, bool]:
        least, most = _bounds(times)
        if max(least, most or 0) > _MOST_TIMES or (most is not None and most < least):
            raise self._refuse(f"has `{times[0]}`")
        if empty:
            raise self._refuse("repeats what may be empty")
        if most == 0:
            return '""', True
        name = self._rules.rule("pattern", body)
        mark = f"{{{least},{'' if most is None else most}}}"
        return name + mark, least == 0

    def _atom(self, depth: int) -> tuple[str, bool]:
        char = self._source[self._at]
        self._at += 1
        if char == "(":
            return self._group(depth)
        if char == "[":
            return self._class(), False
        if char == ".":
            return self._set(_inverted(_LINE_ENDS)), False
        if char == "\\":
            return self._set(self._escape()), False
        if char in "*+?{}^$]":
            raise self._refuse(f"has a stray `{char}`")
        return self._set([(ord(char), ord(char))]), False

    def _group(self, depth: int) -> tuple[str, bool]:
        if self._take("?") and not self._take(":"):
            raise self._refuse("uses `(?`")
        body, empty = self._alternatives(depth + 1)
        if not self._take(")"):
            raise self._refuse("lacks a `)`")
        return f"({body})", empty

    def _escape(self) -> _Ranges:
        char = self._source[self._at : self._at + 1]
        found = _HEX.match(self._source, self._at)
        if found:
            self._at = found.end()
            code = int(found[1] or found[2], 16)
            return [(code, code)]
        self._at += 1
        if char.lower() in _SETS and char:
            ranges = _SETS[char.lower()]
            return ranges if char.islower() else _inverted(ranges)
        if char in _CONTROLS:
            return [(_CONTROLS[char], _CONTROLS[char])]
        if not char or char.isalnum():
            raise self._refuse(f"uses `\\{char}`")
        return [(ord(char), ord(char))]

    def _class(self) -> str:
        negated = self._take("^")
        ranges: _Ranges = []
        while not self._take("]"):
            if self._at >= len(self._source):
                raise self._refuse("lacks a `]`")
            low = self._member()
            if self._source[self._at : self._at + 1] == "-" and not self._source.startswith(
                "-]", self._at
            ):
                self._at += 1
                low = self._span(low, self._member())
            ranges += low
        if not ranges:
            raise self._refuse("has an empty class")
        return self._set(_inverted(ranges) if negated else ranges)

    def _member(self) -> _Ranges:
        char = self._source[self._at : self._at + 1]
        self._at += 1
        if char == "\\":
            return self._escape()
        if not char:
            raise self._refuse("lacks a `]`")
        return [(ord(char), ord(char))]

    def _span(self, low: _Ranges, high: _Ranges) -> _Ranges:
        (first, same), (last, also) = low[0], high[0]
        if len(low) > 1 or len(high) > 1 or first != same or last != also or last < first:
            raise self._refuse("has a class with a wrong range")
        return [(first, last)]

    def _set(self, ranges: _Ranges) -> str:
        """Characters as JSON text: some only with an escape, surrogates not at all."""
        ranges = _merged(ranges)
        if len(ranges) > 64:
            raise self._refuse("has a class of more than 64 ranges")
        escapes = [text for code, text in _ESCAPED.items() if _contains(ranges, code)]
        plain = _without(ranges, [(0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F), _SURROGATES])
        bodies = [literal(text) for text in escapes]
        if len(plain) == 1 and plain[0][0] == plain[0][1]:
            bodies.append(literal(chr(plain[0][0])))
        elif plain:
            bodies.append("[" + "".join(_range(low, high) for low, high in plain) + "]")
        if not bodies:
            raise self._refuse("asks for a character that no JSON string holds")
        return self._rules.choice("pattern", bodies)

    def _take(self, text: str) -> bool:
        taken = self._source.startswith(text, self._at)
        self._at += len(text) if taken else 0
        return taken

    def _refuse(self, why: str) -> Exception:
        return self._rules.refuse(
            f"its pattern `{self._source[:80]}` {why}, which is not supported"
        )


_SURROGATES = (0xD800, 0xDFFF)


def _bounds(times: re.Match[str]) -> tuple[int, int | None]:
    simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
    if times[0][0] in simple:
        return simple[times[0][0]]
    least = int(times[1])
    return least, None if times[2] and times[3] is None else int(times[3] or least)


def _range(low: int, high: int) -> str:
    return _char(low) if low == high else f"{_char(low)}-{_char(high)}"


def _char(code: int) -> str:
    if 0x30 <= code <= 0x39 or 0x41 <= code <= 0x5A or 0x61 <= code <= 0x7A:
        return chr(code)
    return f"\\U{code:08X}"


def _merged(ranges: _Ranges) -> _Ranges:
    out: _Ranges = []
    for low, high in sorted(ranges):
        if out and low <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(high, out[-1][1]))
        else:
            out.append((low, high))
    return out


def _inverted(ranges: _Ranges) -> _Ranges:
    return _without([(0, _LAST)], ranges)


def _without(ranges: _Ranges, taken: _Ranges) -> _Ranges:
    for first, last in taken:
        ranges = [
            part
            for low, high in ranges
            for part in ((low, min(high, first - 1)), (max(low, last + 1), high))
            if part[0] <= part[1]
        ]
    return ranges


def _contains(ranges: _Ranges, code: int) -> bool:
    return any(low <= code <= high for low, high in ranges)
