"""A small GBNF recogniser, written after the notation and not after the code under test.

It works as llama.cpp does: a set of stacks, each with the next character class on top.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import count

TOKEN = re.compile(
    r"""
    (?P<space>[ \t]+|\#[^\n]*) | (?P<line>[\r\n]+) | (?P<is>::=)
    | "(?P<literal>(?:[^"\\]|\\.)*)" | \[(?P<klass>(?:[^\]\\]|\\.)*)\]
    | (?P<name>[A-Za-z0-9-]+) | (?P<times>[*+?]|\{\d+(?:,\d*)?\}) | (?P<mark>[|().])
    """,
    re.X | re.S,
)
CHAR = re.compile(r"\\x(..)|\\u(.{4})|\\U(.{8})|\\(.)|(.)", re.S)

Ranges = tuple[bool, tuple[tuple[int, int], ...]]
Element = Ranges | str
# The rest of a sequence, and what follows it: a linked stack, None when nothing is left.
Stack = tuple[tuple[Element, ...], "Stack"] | None


@dataclass
class Matcher:
    """`accepts(text)`: the whole of it. `begins(text)`: some continuation of it."""

    grammar: str
    root: str = "root"
    rules: dict[str, list[tuple[Element, ...]]] = field(default_factory=dict)
    fresh: count[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.tokens: list[tuple[str, str]] = []
        depth = 0
        for found in TOKEN.finditer(self.grammar):
            token = (found.lastgroup or "", found[found.lastgroup or 0])
            depth += {"(": 1, ")": -1}.get(found[0], 0)
            # A line ends a rule, except within parentheses and where something has to follow.
            goes_on = depth > 0 or self.tokens[-1:] in ([("mark", "|")], [("is", "::=")])
            if token[0] != "space" and not (token[0] == "line" and goes_on):
                self.tokens.append(token)
        while self.peek()[0]:
            if self.take("line") is None:
                self.rule()

    def accepts(self, text: str) -> bool:
        return None in self.run(text)

    def begins(self, text: str) -> bool:
        return bool(self.run(text))

    def run(self, text: str) -> set[Stack]:
        stacks: set[Stack] = self.expand(((self.root,), None))
        for char in text:
            code = ord(char)
            after: set[Stack] = set()
            for stack in stacks:
                if stack is not None and isinstance(stack[0][0], tuple):
                    negated, ranges = stack[0][0]
                    if negated != any(low <= code <= high for low, high in ranges):
                        after |= self.expand((stack[0][1:], stack[1]))
            stacks = after
        return stacks

    def expand(self, stack: Stack) -> set[Stack]:
        """All stacks that `stack` amounts to, with a class on top of each."""
        out: set[Stack] = set()
        seen: set[Stack] = set()
        pending = [stack]
        while pending:
            top = pending.pop()
            while top is not None and not top[0]:
                top = top[1]
            if top in seen:
                continue
            seen.add(top)
            if top is None or isinstance(top[0][0], tuple):
                out.add(top)
                continue
            rest: Stack = (top[0][1:], top[1]) if top[0][1:] else top[1]
            pending += [(sequence, rest) for sequence in self.rules[top[0][0]]]
        return out

    # The notation

    def peek(self) -> tuple[str, str]:
        return self.tokens[0] if self.tokens else ("", "")

    def take(self, kind: str, text: str | None = None) -> str | None:
        if self.peek()[0] == kind and text in (None, self.peek()[1]):
            return self.tokens.pop(0)[1]
        return None

    def rule(self) -> None:
        name = self.take("name")
        assert name is not None
        assert self.take("is") is not None
        self.rules[name] = self.alternatives()

    def alternatives(self) -> list[tuple[Element, ...]]:
        out = [self.sequence()]
        while self.take("mark", "|"):
            out.append(self.sequence())
        return out

    def sequence(self) -> tuple[Element, ...]:
        out: list[Element] = []
        while True:
            kind, text = self.peek()
            if kind == "literal":
                item: list[Element] = [(False, ((code, code),)) for code in codes(text)]
            elif kind == "klass":
                item = [klass(text)]
            elif kind == "name":
                item = [text]
            elif (kind, text) == ("mark", "."):
                item = [(True, ())]
            elif (kind, text) == ("mark", "("):
                self.tokens.pop(0)
                item = [self.named(self.alternatives())]
                assert self.peek() == ("mark", ")")
            else:
                return tuple(out)
            self.tokens.pop(0)
            times = self.take("times")
            out += item if times is None else self.repeated(tuple(item), times)

    def repeated(self, item: tuple[Element, ...], times: str) -> list[Element]:
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if times in simple:
            least, most = simple[times]
        else:
            low, comma, high = times[1:-1].partition(",")
            least, most = int(low), int(high) if high else None if comma else int(low)
        if most is None:
            name = f"*{next(self.fresh)}"
            self.rules[name] = [(*item, name), ()]
            return [*item * least, name]
        tail: tuple[Element, ...] = ()
        for _ in range(most - least):
            tail = (self.named([(*item, *tail), ()]),)
        return [*item * least, *tail]

    def named(self, alternatives: list[tuple[Element, ...]]) -> str:
        name = f"({next(self.fresh)}"
        self.rules[name] = alternatives
        return name


def codes(text: str) -> list[int]:
    return [code for code, _ in units(text)]


def units(text: str) -> list[tuple[int, str]]:
    """Code points, and how each was written."""
    out = []
    for found in CHAR.finditer(text):
        digits = found[1] or found[2] or found[3]
        short = {"n": "\n", "r": "\r", "t": "\t"}.get(found[4], found[4])
        out.append((int(digits, 16) if digits else ord(short or found[5]), found[0]))
    return out


def klass(text: str) -> Ranges:
    negated = text.startswith("^")
    chars = units(text[1:] if negated else text)
    ranges = []
    while chars:
        low = high = chars.pop(0)[0]
        if len(chars) > 1 and chars[0][1] == "-":
            high = chars[1][0]
            del chars[:2]
        ranges.append((low, high))
    return negated, tuple(ranges)
