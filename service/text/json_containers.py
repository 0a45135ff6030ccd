"""What arrays and objects of a JSON schema share in GBNF."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from service.text.gbnf_rules import GbnfRules, Unsatisfiable

# Turns the schema of an item or property into an expression.
Visit = Callable[[Any], str]


def json_text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # Half a surrogate pair is no text, but JSON can write it.
    return json.dumps(value) if any("\ud800" <= char <= "\udfff" for char in text) else text


def possible(schema: Any, visit: Visit) -> str:
    """Nothing for a value that cannot be."""
    try:
        return visit(schema)
    except Unsatisfiable:
        return ""


def series(item: str, least: int, most: int | None, rules: GbnfRules) -> str:
    """`item` with commas between, and white space after the last."""
    ws = rules.json("ws")
    more = rules.rule("item", f'"," {ws} {item}')
    tail = rules.repeat(more, max(least - 1, 0), None if most is None else most - 1)
    return f"{item} {tail} {ws}" if least else f"({item} {tail} {ws})?"
