"""Values in a JSON schema: which are the same, of which type they are, which may be listed."""

from __future__ import annotations

from typing import Any

from service.text.gbnf_rules import GbnfRules
from service.text.schema_keywords import TYPES, Schema, constraints, listed

_MEASURES: dict[type[Any], str] = {str: "Length", list: "Items", dict: "Properties"}


def same(one: Any, other: Any) -> bool:
    """Equality as JSON has it: 1 is 1.0, but true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def lists_values(schema: Any) -> bool:
    """Whether it is `{"enum": […]}`: all that may be left of a `not`."""
    return (
        isinstance(schema, dict) and schema.keys() == {"enum"} and isinstance(schema["enum"], list)
    )


def is_a(value: Any, types: list[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, (int, float)):
        return "number" in types or ("integer" in types and value == value // 1)
    names: dict[type, str] = {dict: "object", list: "array", str: "string", type(None): "null"}
    return names[type(value)] in types


def common_types(one: list[str], other: list[str]) -> list[str]:
    """Integers are numbers too."""
    both = [name for name in TYPES if name in one and name in other]
    for left, right in ((one, other), (other, one)):
        if "integer" in left and "number" in right and "integer" not in right:
            both.append("integer")
    return both


def enumerated(schema: Schema, rules: GbnfRules) -> list[Any]:
    """The values of `enum` and `const` that everything else in `schema` allows."""
    values = listed(schema["enum"]) if "enum" in schema else [schema["const"]]
    if "const" in schema:
        values = [value for value in values if same(value, schema["const"])]
    types = listed(schema.get("type", list(TYPES)))
    excluded = schema["not"]["enum"] if "not" in schema else []
    bounds = constraints(schema) - {"enum", "const", "type", "not"}
    out = [
        value
        for value in values
        if is_a(value, types)
        and not any(same(value, other) for other in excluded)
        and all(_holds(bound, schema[bound], value, rules) for bound in sorted(bounds))
    ]
    if not out:
        raise rules.nothing("no value satisfies its `enum` or `const`")
    return out


def _holds(keyword: str, bound: Any, value: Any, rules: GbnfRules) -> bool:
    """Whether `value` satisfies one keyword, which may speak of other types than its own."""
    measure = _MEASURES.get(type(value), "?")
    size = len(value) if measure != "?" else 0
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    match keyword:
        case "minLength" | "minItems" | "minProperties":
            return not keyword.endswith(measure) or size >= bound
        case "maxLength" | "maxItems" | "maxProperties":
            return not keyword.endswith(measure) or size <= bound
        case "minimum":
            return number is None or number >= bound
        case "maximum":
            return number is None or number <= bound
        case "exclusiveMinimum":
            return number is None or number > bound
        case "exclusiveMaximum":
            return number is None or number < bound
        case "required":
            return not isinstance(value, dict) or all(name in value for name in bound)
        case "pattern" | "format" if not isinstance(value, str):
            return True
        case "format":
            # The author of a list knows what it holds.
            return True
    raise rules.refuse(f"`enum` or `const` beside `{keyword}` is not supported")
