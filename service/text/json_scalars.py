"""Strings and numbers of a JSON schema as GBNF expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service.text.gbnf_rules import GbnfRules
from service.text.number_ranges import integers, numbers
from service.text.schema_merge import Schema
from service.text.string_patterns import pattern_rule

_LARGEST_BOUND = 10**15
_DATE = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_HOUR = "([01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = _HOUR + r":[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]" + _HOUR + ")"
# RFC 3339 and RFC 4122. Other formats are annotations, as the draft has it.
_FORMATS = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    "uuid": "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
}


def string(schema: Schema, rules: GbnfRules) -> str:
    least, most = counts(schema, "minLength", "maxLength", rules)
    pattern = schema.get("pattern")
    form = _FORMATS.get(str(schema.get("format")))
    if pattern is not None or form is not None:
        if least or most is not None or (pattern is not None and form is not None):
            raise rules.refuse("`pattern` or `format` beside another constraint is not supported")
        return pattern_rule(str(pattern if form is None else form), rules)
    if not least and most is None:
        return rules.json("string")
    chars = rules.repeat(rules.json("char"), least, most)
    return rules.rule("string", f'"\\"" {chars} "\\""')


def integer(schema: Schema, rules: GbnfRules) -> str:
    low, high = _whole_bounds(schema, rules)
    if low is None and high is None:
        return rules.json("integer")
    if low is not None and high is not None and low > high:
        raise rules.refuse("no integer lies between its bounds")
    return rules.rule("integer", " | ".join(integers(low, high)))


def number(schema: Schema, rules: GbnfRules) -> str:
    low, open_low = _bounds(schema, "minimum", "exclusiveMinimum", max, rules)
    high, open_high = _bounds(schema, "maximum", "exclusiveMaximum", min, rules)
    if low is None and high is None:
        return rules.json("number")
    bodies = numbers(low, high, open_low, open_high)
    if not bodies:
        raise rules.refuse("no number lies between its bounds")
    return rules.rule("number", " | ".join(bodies))


def counts(schema: Schema, low: str, high: str, rules: GbnfRules) -> tuple[int, int | None]:
    """A lower and an upper count, None for no upper one."""
    least, most = schema.get(low, 0), schema.get(high)
    for key, count in ((low, least), (high, 0 if most is None else most)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise rules.refuse(f"`{key}` must be a whole number")
    if most is not None and most < least:
        raise rules.refuse(f"`{low}` is above `{high}`")
    return least, most


def _whole_bounds(schema: Schema, rules: GbnfRules) -> tuple[int | None, int | None]:
    """The least and the largest integer; bounds may be fractions."""
    bound = {key: _bound(schema, key, rules) for key in _BOUNDS}
    lows = [_ceiling(bound["minimum"]), _floor(bound["exclusiveMinimum"], 1)]
    highs = [_floor(bound["maximum"]), _ceiling(bound["exclusiveMaximum"], -1)]
    return (
        max((low for low in lows if low is not None), default=None),
        min((high for high in highs if high is not None), default=None),
    )


_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def _floor(bound: float | None, plus: int = 0) -> int | None:
    return None if bound is None else int(bound // 1) + plus


def _ceiling(bound: float | None, plus: int = 0) -> int | None:
    return None if bound is None else -int(-bound // 1) + plus


def _bounds(
    schema: Schema, inclusive: str, exclusive: str, tighter: Callable[..., Any], rules: GbnfRules
) -> tuple[int | None, bool]:
    """A bound, and whether it is itself excluded."""
    one, other = _bound(schema, inclusive, rules), _bound(schema, exclusive, rules)
    for bound in (one, other):
        if bound is not None and bound % 1:
            raise rules.refuse(
                f"`{inclusive}` of a number that is no whole number is not supported"
            )
    if one is None or other is None:
        bound = other if one is None else one
        return (None if bound is None else int(bound)), bound is not None and one is None
    return int(tighter(one, other)), bool(tighter(one, other) == other)


def _bound(schema: Schema, key: str, rules: GbnfRules) -> float | None:
    bound = schema.get(key)
    if bound is None:
        return None
    if isinstance(bound, bool) or not isinstance(bound, (int, float)):
        raise rules.refuse(f"`{key}` must be a number")
    if not abs(bound) <= _LARGEST_BOUND:
        raise rules.refuse(f"`{key}` is too large")
    return bound
