"""A regular expression as GBNF: over text as it is, or over the JSON text of a string."""

from __future__ import annotations

from collections.abc import Callable

from service.errors import InvalidRequest
from service.text.gbnf import check_gbnf, literal
from service.text.gbnf_rules import GbnfRules
from service.text.refused import Refused
from service.text.regex import parse_regex
from service.text.regex_tree import (
    Chars,
    Choice,
    Node,
    Ranges,
    Repeat,
    Sequence,
    branches,
    without,
)

_SURROGATES = (0xD800, 0xDFFF)
# Characters that JSON writes with an escape only, and how.
_ESCAPED = {0x22: '\\"', 0x5C: "\\\\", 8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r"}
_NOTHING = '""'

Write = Callable[[Ranges], tuple[list[str], Ranges]]


def regex_grammar(source: str, param: str) -> str:
    """GBNF for the texts that `source` matches as a whole. Raises InvalidRequest(param)."""
    rules = GbnfRules(param, "regular expression")
    try:
        text = rules.text(_matching(source, rules))
    except Refused as refusal:
        why = f"The regular expression `{source[:80]}` {refusal}"
        raise InvalidRequest(why, param=param) from None
    check_gbnf(text, param)
    return text


def regex_expression(source: str, rules: GbnfRules) -> str:
    """The same as an expression; the rules that it needs are added to `rules`."""
    regex_grammar(source, rules.param)
    return _matching(source, rules)


def _matching(source: str, rules: GbnfRules) -> str:
    bodies = [branch.body for branch in branches(parse_regex(source))]
    return rules.choice("regex", [expression(body, rules, plain) for body in bodies])


def expression(node: Node, rules: GbnfRules, write: Write) -> str:
    """`node`, without anchors, as an expression over the characters that `write` writes."""
    return _Writer(rules, write).expression(node)


def plain(ranges: Ranges) -> tuple[list[str], Ranges]:
    """How characters are written: escaped, and which of them as themselves."""
    return [], without(ranges, ((0, 0), _SURROGATES))


def in_json(ranges: Ranges) -> tuple[list[str], Ranges]:
    """Some have to be escaped, and of each the shortest escape only."""
    escapes = [text for code, text in _ESCAPED.items() if _contains(ranges, code)]
    hidden = ((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F), _SURROGATES)
    return escapes, without(ranges, hidden)


class _Writer:
    def __init__(self, rules: GbnfRules, write: Write) -> None:
        self._rules = rules
        self._write = write
        self._repeated: dict[str, str] = {}

    def expression(self, node: Node) -> str:
        match node:
            case Chars(ranges):
                return self._chars(ranges)
            case Sequence(parts):
                return self._in_a_row(parts)
            case Choice(nodes):
                return self._rules.choice("regex", map(self.expression, nodes))
            case Repeat(part, least, most):
                return self._name(self.expression(part)) + _times(least, most)
            case _:
                raise Refused("has `^` or `$` elsewhere than at its ends, which is not supported")

    def _name(self, body: str) -> str:
        if body not in self._repeated:
            self._repeated[body] = self._rules.rule("regex", body)
        return self._repeated[body]

    def _in_a_row(self, parts: tuple[Node, ...]) -> str:
        """Single characters beside each other are one literal."""
        bodies: list[str] = []
        pending = ""
        for part in parts:
            only = self._only_text(part)
            if only is None:
                bodies += [literal(pending)] if pending else []
                bodies.append(self.expression(part))
            pending = "" if only is None else pending + only
        bodies += [literal(pending)] if pending else []
        return " ".join(bodies) or _NOTHING

    def _only_text(self, node: Node) -> str | None:
        if not isinstance(node, Chars):
            return None
        escapes, themselves = self._write(node.ranges)
        texts = [*escapes, *(chr(low) for low, _ in themselves)]
        return texts[0] if len(texts) == 1 and all(a == b for a, b in themselves) else None

    def _chars(self, ranges: Ranges) -> str:
        escapes, themselves = self._write(ranges)
        bodies = [literal(text) for text in escapes]
        if len(escapes) > 1:
            last = "".join(_char(ord(text[-1])) for text in escapes)
            bodies = [f"{literal(chr(0x5C))} [{last}]"]
        if len(themselves) == 1 and themselves[0][0] == themselves[0][1]:
            bodies.append(literal(chr(themselves[0][0])))
        elif themselves:
            bodies.append("[" + "".join(_range(low, high) for low, high in themselves) + "]")
        if not bodies:
            raise Refused("asks for a character that no text can contain")
        return self._rules.choice("regex", bodies)


def _times(least: int, most: int | None) -> str:
    short = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    return short.get((least, most)) or f"{{{least},{'' if most is None else most}}}"


def _range(low: int, high: int) -> str:
    return _char(low) if low == high else f"{_char(low)}-{_char(high)}"


def _char(code: int) -> str:
    if 0x30 <= code <= 0x39 or 0x41 <= code <= 0x5A or 0x61 <= code <= 0x7A:
        return chr(code)
    return f"\\U{code:08X}"


def _contains(ranges: Ranges, code: int) -> bool:
    return any(low <= code <= high for low, high in ranges)
