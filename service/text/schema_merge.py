"""Two JSON schemas into one of what satisfies both: what `allOf`, and neighbours of `$ref`, ask for."""

from __future__ import annotations

from typing import Any

from service.text.gbnf_rules import GbnfRules

Schema = dict[str, Any]

KEYWORDS_OF = {
    "object": {"properties", "required", "additionalProperties", "minProperties", "maxProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
}
# What says how a value has to be; everything else is annotation.
_CONSTRAINTS = frozenset(
    {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"}.union(*KEYWORDS_OF.values())
)
_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def constraints(schema: Schema) -> set[str]:
    """The keywords of `schema` that constrain a value."""
    return set(_CONSTRAINTS & schema.keys())


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def merged(one: Any, other: Any, rules: GbnfRules) -> Any:
    """Raises InvalidRequest, by `rules.refuse`, where the two cannot be said as one schema."""
    if one is True or other is True:
        return other if one is True else one
    if not isinstance(one, dict) or not isinstance(other, dict):
        raise rules.refuse("no value satisfies it")
    _check_closed(one, other, rules)
    _check_closed(other, one, rules)
    out = dict(one)
    for key, value in other.items():
        out[key] = _both(key, out[key], value, rules) if key in out else value
    return out


def _check_closed(one: Schema, other: Schema, rules: GbnfRules) -> None:
    """`additionalProperties` of one schema speaks of the properties that only the other lists."""
    unknown = other.get("properties", {}).keys() - one.get("properties", {}).keys()
    if unknown and one.get("additionalProperties", True) is not True:
        raise rules.refuse("`additionalProperties` in one of several merged schemas")


def _both(key: str, one: Any, other: Any, rules: GbnfRules) -> Any:
    if one == other or key not in _CONSTRAINTS:
        return one
    if key == "properties":
        shared = {name: {"allOf": [one[name], other[name]]} for name in one if name in other}
        return {**one, **other, **shared}
    if key == "required":
        return list(dict.fromkeys([*one, *other]))
    if key == "allOf":
        return [*one, *other]
    if key in _LEAST + _MOST:
        return max(one, other) if key in _LEAST else min(one, other)
    if key in ("type", "enum"):
        common = [value for value in listed(one) if value in listed(other)]
        if common:
            return common
    raise rules.refuse(f"`{key}` is given twice, differently")
