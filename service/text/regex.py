"""Regular expressions as trees: the core that Python, Rust and ECMAScript have in common.

Characters, `.`, classes, `\\d \\w \\s` and their negations, groups (named or not), `|`, `* + ?
{m,n}` greedy or lazy, `(?i)` and `(?s)` in front, and `^ $` at the ends. Where the three differ a
class holds only what all of them put in it: `\\d` and `\\w` are ASCII, `.` ends no line of any kind.
What no context-free grammar can say (look-around, back references, word boundaries) is refused by
name, and so is what would mean one thing here and another there.
"""

from __future__ import annotations

import re

from service.text.refused import Refused
from service.text.regex_tree import (
    Anchor,
    Chars,
    Choice,
    Node,
    Ranges,
    Repeat,
    Sequence,
    inverted,
    merged,
    repeated,
)

LONGEST = 4096
DEEPEST = 32
_MOST_TIMES = 1000
_MOST_RANGES = 64

_DIGIT: Ranges = ((0x30, 0x39),)
_WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_BLANK: Ranges = (
    (0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000),
)  # fmt: skip
# What is white space, a digit or a letter to some of the three only is in none of these.
_NO_BLANK: Ranges = inverted(
    (*_BLANK, (0x1C, 0x1F), (0x85, 0x85), (0x180E, 0x180E), (0xFEFF, 0xFEFF))
)
_NO_DIGIT: Ranges = (
    (0, 0x2F), (0x3A, 0x65F), (0x10A0, 0x17DF), (0x1C80, 0xA61F), (0xAC00, 0xFF0F),
    (0x1F000, 0x1FBEF),
)  # fmt: skip
_NO_WORD: Ranges = (
    (0, 0x2F), (0x3A, 0x40), (0x5B, 0x5E), (0x60, 0x60), (0x7B, 0xA9), (0xAB, 0xB1), (0xB4, 0xB4),
    (0xB6, 0xB8), (0xBB, 0xBB), (0xBF, 0xBF), (0xD7, 0xD7), (0xF7, 0xF7), (0x2010, 0x203E),
    (0x2041, 0x2053), (0x2055, 0x205E), (0x20A0, 0x20C0), (0x2190, 0x23FF), (0x2500, 0x2775),
    (0x2794, 0x27FF), (0x3001, 0x3003), (0x3008, 0x3020), (0x1F300, 0x1F64F), (0x1F680, 0x1F6FF),
    (0x1F900, 0x1F9FF),
)  # fmt: skip
_LINE_ENDS: Ranges = ((0x0A, 0x0D), (0x85, 0x85), (0x2028, 0x2029))
_SETS = {
    "d": _DIGIT, "D": _NO_DIGIT, "w": _WORD, "W": _NO_WORD, "s": _BLANK, "S": _NO_BLANK,
}  # fmt: skip
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "a": 7, "0": 0}
_CODE = re.compile(
    r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|[xu]\{([0-9a-fA-F]{1,6})\}"
)
_LOW_HALF = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_TIMES = re.compile(r"(?:[*+?]|\{(\d{1,4})(?:(,)(\d{1,4})?)?\})([?+])?")
_FLAGS = re.compile(r"\(\?([a-zA-Z]+)\)")
_NAMED = re.compile(r"\?(?:P?<[A-Za-z_]\w*>|:)")
_LOOKAROUND = ("?=", "?!", "?<=", "?<!")
_LAST = 0x10FFFF


def parse_regex(source: str) -> Node:
    """Raises Refused, with the reason as the end of a sentence."""
    return _Parser(source).tree()


class _Parser:
    def __init__(self, source: str) -> None:
        if len(source) > LONGEST:
            raise Refused(f"is longer than {LONGEST} characters")
        self._source = source
        self._at = 0
        self._any_case = False
        self._dot_all = False

    def tree(self) -> Node:
        if flags := _FLAGS.match(self._source):
            unknown = set(flags[1]) - set("isu")
            if unknown:
                raise Refused(f"uses the flag `{min(unknown)}`, which is not supported")
            self._any_case, self._dot_all = "i" in flags[1], "s" in flags[1]
            self._at = flags.end()
        node = self._alternatives(0)
        if self._at < len(self._source):
            raise Refused(f"has a stray `{self._source[self._at]}`")
        return node

    def _alternatives(self, depth: int) -> Node:
        if depth > DEEPEST:
            raise Refused(f"nests deeper than {DEEPEST} groups")
        branches = [self._sequence(depth)]
        while self._take("|"):
            branches.append(self._sequence(depth))
        return branches[0] if len(branches) == 1 else Choice(tuple(branches))

    def _sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while self._at < len(self._source) and self._source[self._at] not in "|)":
            part = self._atom(depth)
            while times := _TIMES.match(self._source, self._at):
                part = self._repeated(part, times)
            parts.append(part)
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _repeated(self, part: Node, times: re.Match[str]) -> Node:
        least, most = _bounds(times)
        if times[4] == "+":
            raise Refused(f"has a possessive quantifier `{times[0]}`, which is not supported")
        if max(least, most or 0) > _MOST_TIMES or (most is not None and most < least):
            raise Refused(f"repeats `{times[0]}`; up to {_MOST_TIMES} times are supported")
        if isinstance(part, (Repeat, Anchor)) and self._source[self._at - 1] != ")":
            raise Refused(f"has a stray `{times[0]}`")
        self._at = times.end()
        return repeated(part, least, most)

    def _atom(self, depth: int) -> Node:
        char = self._source[self._at]
        self._at += 1
        if char == "(":
            return self._group(depth)
        if char == "[":
            return self._class()
        if char == ".":
            return Chars(((0, _LAST),) if self._dot_all else inverted(_LINE_ENDS))
        if char == "\\":
            if self._take("A"):
                return Anchor.START
            if self._take("Z") or self._take("z"):
                return Anchor.END
            return self._chars(self._escape())
        if char in "^$":
            return Anchor.START if char == "^" else Anchor.END
        if char in "*+?{}]":
            raise Refused(f"has a stray `{char}`")
        return self._chars(((ord(char), ord(char)),))

    def _group(self, depth: int) -> Node:
        if named := _NAMED.match(self._source, self._at):
            self._at = named.end()
        elif self._source.startswith(_LOOKAROUND, self._at):
            raise Refused("uses look-around (`(?=`, `(?!`, `(?<=`, `(?<!`), which is not supported")
        elif self._source.startswith("?", self._at):
            shown = self._source[self._at - 1 : self._at + 2]
            raise Refused(f"uses `{shown}`, which is not supported")
        node = self._alternatives(depth + 1)
        if not self._take(")"):
            raise Refused("lacks a `)`")
        return node

    def _escape(self, negated: bool = False) -> Ranges:
        """After the backslash; `negated` in a class that takes what is none of these."""
        char = self._source[self._at : self._at + 1]
        if found := _CODE.match(self._source, self._at):
            self._at = found.end()
            code = self._whole(int(found[1] or found[2] or found[3] or found[4], 16))
            return ((code, code),)
        self._at += 1
        if char in _SETS:
            return inverted(_SETS[char.swapcase()]) if negated else _SETS[char]
        if char in _CONTROLS and not self._source[self._at : self._at + 1].isdecimal():
            return ((_CONTROLS[char], _CONTROLS[char]),)
        if char in "pP":
            raise Refused(f"uses `\\{char}`, a class by Unicode property, which is not supported")
        if char in "bB":
            raise Refused(f"uses `\\{char}`, a word boundary, which is not supported")
        if char.isdecimal() or char in "kg":
            raise Refused(f"uses `\\{char}`, a back reference, which is not supported")
        if not char or char.isalnum():
            raise Refused(f"uses `\\{char}`, which is not supported")
        return ((ord(char), ord(char)),)

    def _whole(self, code: int) -> int:
        """ECMAScript writes what lies beyond U+FFFF as two halves."""
        if 0xD800 <= code <= 0xDBFF and (low := _LOW_HALF.match(self._source, self._at)):
            self._at = low.end()
            return 0x10000 + ((code - 0xD800) << 10) + int(low[1], 16) - 0xDC00
        if code > _LAST or 0xD800 <= code <= 0xDFFF:
            raise Refused("asks for a character that no text can contain")
        return code

    def _class(self) -> Node:
        negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        while not self._take("]"):
            low = self._member(negated)
            if self._source[self._at : self._at + 1] == "-" and not self._source.startswith(
                "-]", self._at
            ):
                self._at += 1
                low = _span(low, self._member(negated))
            ranges += low
        if not ranges:
            raise Refused("has an empty class")
        return self._chars(tuple(ranges), negated)

    def _member(self, negated: bool) -> Ranges:
        if self._source.startswith(("[:", "&&", "--", "~~"), self._at):
            # Set operations to Rust, characters to the others.
            raise Refused(f"has `{self._source[self._at : self._at + 2]}` in a class")
        char = self._source[self._at : self._at + 1]
        self._at += 1
        if not char:
            raise Refused("lacks a `]`")
        if char == "\\":
            return ((8, 8),) if self._take("b") else self._escape(negated)
        return ((ord(char), ord(char)),)

    def _chars(self, ranges: Ranges, negated: bool = False) -> Chars:
        ranges = merged(ranges + _other_case(ranges) if self._any_case else ranges)
        ranges = inverted(ranges) if negated else ranges
        if len(ranges) > _MOST_RANGES:
            raise Refused(f"has a class of more than {_MOST_RANGES} ranges")
        return Chars(ranges)

    def _take(self, text: str) -> bool:
        taken = self._source.startswith(text, self._at)
        self._at += len(text) if taken else 0
        return taken


def _bounds(times: re.Match[str]) -> tuple[int, int | None]:
    simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
    if times[0][0] in simple:
        return simple[times[0][0]]
    least = int(times[1])
    return least, None if times[2] and times[3] is None else int(times[3] or least)


def _span(low: Ranges, high: Ranges) -> Ranges:
    (first, same), (last, also) = low[0], high[0]
    if len(low) > 1 or len(high) > 1 or first != same or last != also or last < first:
        raise Refused("has a class with a wrong range")
    return ((first, last),)


def _other_case(ranges: Ranges) -> Ranges:
    """Of letters in classes of some size; nobody means every letter of a class of thousands."""
    codes = [code for low, high in ranges if high - low < 256 for code in range(low, high + 1)]
    both = [case for code in codes for case in (chr(code).lower(), chr(code).upper())]
    return tuple((ord(case), ord(case)) for case in both if len(case) == 1)
