"""The `pattern` of a JSON schema as GBNF over the *JSON text* of a string.

A pattern without `^` or `$` may match anywhere inside. What a pattern may say: see `regex`.
"""

from __future__ import annotations

from service.text.gbnf_rules import GbnfRules
from service.text.refused import Refused
from service.text.regex import parse_regex
from service.text.regex_gbnf import expression, in_json
from service.text.regex_tree import Branch, Chars, Node, Repeat, Sequence, branches, of_length

_ANY = Repeat(Chars(((0, 0x10FFFF),)), 0, None)


def pattern_rule(pattern: str, rules: GbnfRules, least: int = 0, most: int | None = None) -> str:
    """A rule for the JSON strings (quotes included) of some length that `pattern` matches."""
    try:
        nodes = [_of_length(branch, least, most) for branch in branches(parse_regex(pattern))]
        bodies = [expression(node, rules, in_json) for node in nodes]
    except Refused as refusal:
        raise rules.refuse(f"its pattern `{pattern[:80]}` {refusal}") from None
    return rules.rule("pattern", f'"\\"" {rules.choice("pattern", bodies)} "\\""')


def _of_length(branch: Branch, least: int, most: int | None) -> Node:
    before = () if branch.from_start else (_ANY,)
    after = () if branch.to_end else (_ANY,)
    body = branch.body.parts if isinstance(branch.body, Sequence) else (branch.body,)
    node = of_length(Sequence((*before, *body, *after)), least, most)
    if node is None:
        raise Refused(
            "beside `minLength` or `maxLength` is not supported where it is that flexible"
        )
    return node
