"""What a JSON schema forbids, said as a schema: for `not`, and for the other half of `if`.

What is left of `not` afterwards is a list of values, as `{"not": {"enum": …}}`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service.text.gbnf_rules import GbnfRules
from service.text.schema_keywords import TYPES, Schema, constraints, listed

_FLIPPED = {
    "minimum": "exclusiveMaximum",
    "maximum": "exclusiveMinimum",
    "exclusiveMinimum": "maximum",
    "exclusiveMaximum": "minimum",
}
_COUNTS = {"Length": "string", "Items": "array", "Properties": "object"}

Resolve = Callable[[Any], Schema | bool]


def negated(schema: Any, resolve: Resolve, rules: GbnfRules) -> Schema | bool:
    """`resolve` reads a schema and follows its reference."""
    schema = resolve(schema)
    if isinstance(schema, bool):
        return not schema
    ways: list[Schema | bool] = []
    for keyword in constraints(schema):
        ways += _failing(keyword, schema[keyword], resolve, rules)
    ways = [way for way in ways if way is not False]
    if not ways:
        return False
    return ways[0] if len(ways) == 1 else {"anyOf": ways}


def _failing(keyword: str, value: Any, resolve: Resolve, rules: GbnfRules) -> list[Schema | bool]:
    """The ways not to satisfy one keyword."""
    match keyword:
        case "type":
            others = [name for name in TYPES if name not in listed(value)]
            if {"number", "integer"} & set(listed(value)):
                others = [name for name in others if name not in ("number", "integer")]
            return [{"type": others}] if others else []
        case "enum" | "const":
            return [{"not": {"enum": value if keyword == "enum" else [value]}}]
        case "required":
            return [{"type": "object", "properties": {name: False}} for name in value]
        case "properties":
            return [_with(name, negated(of, resolve, rules)) for name, of in value.items()]
        case "allOf":
            return [negated(part, resolve, rules) for part in value]
        case "anyOf":
            return [{"allOf": [negated(part, resolve, rules) for part in value]}]
        case "not":
            return [value]
        case _ if keyword in _FLIPPED:
            return [{"type": "number", _FLIPPED[keyword]: value}]
        case _ if keyword[3:] in _COUNTS and keyword[:3] == "max":
            return [{"type": _COUNTS[keyword[3:]], f"min{keyword[3:]}": value + 1}]
        case _ if keyword[3:] in _COUNTS:
            below = {"type": _COUNTS[keyword[3:]], f"max{keyword[3:]}": value - 1}
            return [below] if value else []
    raise rules.refuse(f"`{keyword}` within `not` or `if` is not supported")


def _with(name: str, schema: Schema | bool) -> Schema | bool:
    if schema is False:
        return False
    return {"type": "object", "properties": {name: schema}, "required": [name]}
