"""Two JSON schemas into one of what satisfies both: what `allOf`, and neighbours of `$ref`, ask for.

Both have been `read`, and in both what is not evaluated is said by `additionalProperties`.
"""

from __future__ import annotations

from typing import Any

from service.text.gbnf_rules import GbnfRules
from service.text.schema_keywords import Schema, listed
from service.text.schema_values import common_types, lists_values, same

_LEAST = (
    "minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains",
)  # fmt: skip
_MOST = (
    "maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains",
)  # fmt: skip
_MOST_PRODUCTS = 256


def inner(schema: Schema | bool) -> Schema | bool:
    """A part of a whole: what it does not evaluate is what it does not name itself."""
    if isinstance(schema, bool):
        return schema
    out = dict(schema)
    for older, newer in (("unevaluatedProperties", "additionalProperties"), ("unevaluatedItems", "items")):  # fmt: skip
        if older in out:
            value = out.pop(older)
            out.setdefault(newer, value)
    return out


def merged(one: Schema | bool, other: Schema | bool, rules: GbnfRules) -> Schema | bool:
    """Raises InvalidRequest, by `rules.refuse`, where the two cannot be said as one schema."""
    if one is True or other is True:
        return other if one is True else one
    if isinstance(one, bool) or isinstance(other, bool):
        return False
    _check_closed(one, other, rules)
    _check_closed(other, one, rules)
    out = dict(one)
    for key, value in other.items():
        out[key] = _both(key, out[key], value, rules) if key in out else value
    return out


def _check_closed(one: Schema, other: Schema, rules: GbnfRules) -> None:
    """`additionalProperties` of one schema speaks of the properties that only the other lists."""
    known = one.get("properties", {}).keys()
    unknown = [
        name
        for name, schema in other.get("properties", {}).items()
        if name not in known and schema is not False
    ]
    if unknown and one.get("additionalProperties", True) is not True:
        raise rules.refuse("`additionalProperties` in one of several merged schemas")
    if unknown and ("patternProperties" in one or "propertyNames" in one):
        raise rules.refuse(
            "`patternProperties` or `propertyNames` in one of several merged schemas"
        )
    if "items" in one and len(one.get("prefixItems", [])) < len(other.get("prefixItems", [])):
        raise rules.refuse("`items` in one of several merged schemas")


def _both(key: str, one: Any, other: Any, rules: GbnfRules) -> Any:
    if same(one, other):
        return one
    if key == "properties":
        shared = {name: {"allOf": [one[name], other[name]]} for name in one if name in other}
        return {**one, **other, **shared}
    if key == "required":
        return list(dict.fromkeys([*one, *other]))
    if key == "allOf":
        return [*one, *other]
    if key in ("anyOf", "oneOf"):
        if len(one) * len(other) > _MOST_PRODUCTS:
            raise rules.refuse(f"it has too many combinations of `{key}`")
        return [{"allOf": [left, right]} for left in one for right in other]
    if key == "not":
        if lists_values(one) and lists_values(other):
            return {"enum": [*one["enum"], *other["enum"]]}
        return {"anyOf": [one, other]}
    if key in _LEAST + _MOST:
        return max(one, other) if key in _LEAST else min(one, other)
    if key == "type":
        return _some(common_types(listed(one), listed(other)), key, rules)
    if key == "enum":
        common = [value for value in one if any(same(value, also) for also in other)]
        return _some(common, key, rules)
    if key in ("additionalProperties", "items", "propertyNames", "contains") and False in (
        one,
        other,
    ):
        return False
    if key in ("propertyNames", "additionalProperties", "items"):
        return {"allOf": [one, other]}
    if key == "const":
        raise rules.nothing("it asks for two different values of `const`")
    raise rules.refuse(f"`{key}` is given twice, differently")


def _some(values: list[Any], key: str, rules: GbnfRules) -> list[Any]:
    if not values:
        raise rules.nothing(f"no value satisfies both of its `{key}`")
    return values
