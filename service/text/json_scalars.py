"""Strings and numbers of a JSON schema as GBNF expressions."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from service.text.gbnf_rules import GbnfRules
from service.text.number_multiples import multiples
from service.text.number_ranges import integers, numbers
from service.text.schema_keywords import Schema
from service.text.string_formats import FORMATS
from service.text.string_patterns import pattern_rule

_LARGEST_BOUND = 2**64  # clients state what fits: 53 bits of JavaScript's integers, 64 of others
_MOST_PLACES = 15


def string(schema: Schema, rules: GbnfRules) -> str:
    least, most = counts(schema, "minLength", "maxLength", rules)
    pattern, form = schema.get("pattern"), FORMATS.get(schema.get("format", ""))
    if pattern is not None and form is not None:
        raise rules.refuse(f"`pattern` beside the format `{schema['format']}` is not supported")
    if pattern is not None or form is not None:
        return pattern_rule(form or pattern or "", rules, least, most)
    if not least and most is None:
        return rules.json("string")
    chars = rules.repeat(rules.json("char"), least, most)
    return rules.rule("string", f'"\\"" {chars} "\\""')


def integer(schema: Schema, rules: GbnfRules) -> str:
    low, open_low = _bound(schema, "minimum", "exclusiveMinimum", rules)
    high, open_high = _bound(schema, "maximum", "exclusiveMaximum", rules)
    least = None if low is None else int(low.to_integral_value(ROUND_CEILING))
    most = None if high is None else int(high.to_integral_value(ROUND_FLOOR))
    least = least + 1 if least is not None and open_low and least == low else least
    most = most - 1 if most is not None and open_high and most == high else most
    if least is not None and most is not None and least > most:
        raise rules.nothing("no integer lies between its bounds")
    step = _step(schema, rules)
    if step is not None and 1 % step:
        if step % 1:
            raise rules.refuse("`multipleOf` of an integer must be one, or divide 1")
        low, high = _decimal(least), _decimal(most)
        # Above -step there is no multiple below 0, and above 0 none before step.
        if high is None and low is not None and -step < low <= step:
            return rules.rule("integer", multiples(step, Decimal(0), None, rules, open_low=low > 0))
        return rules.rule("integer", multiples(step, low, high, rules))
    if least is None and most is None:
        return rules.json("integer")
    return rules.rule("integer", " | ".join(integers(least, most)))


def number(schema: Schema, rules: GbnfRules) -> str:
    low, open_low = _bound(schema, "minimum", "exclusiveMinimum", rules)
    high, open_high = _bound(schema, "maximum", "exclusiveMaximum", rules)
    step = _step(schema, rules)
    if step is not None:
        body = multiples(step, low, high, rules, open_low=open_low, open_high=open_high)
        return rules.rule("number", body)
    if low is None and high is None:
        return rules.json("number")
    bodies = numbers(low, high, open_low, open_high)
    if not bodies:
        raise rules.nothing("no number lies between its bounds")
    return rules.rule("number", " | ".join(bodies))


def counts(schema: Schema, low: str, high: str, rules: GbnfRules) -> tuple[int, int | None]:
    """A lower and an upper count, None for no upper one."""
    least: int = schema.get(low, 0)
    most: int | None = schema.get(high)
    if most is not None and most < least:
        raise rules.nothing(f"`{low}` is above `{high}`")
    return least, most


def _bound(
    schema: Schema, inclusive: str, exclusive: str, rules: GbnfRules
) -> tuple[Decimal | None, bool]:
    """The tighter one of two bounds, and whether it is itself excluded."""
    bounds = [(_exact(schema, inclusive, rules), False), (_exact(schema, exclusive, rules), True)]
    given = [(bound, excluded) for bound, excluded in bounds if bound is not None]
    if not given:
        return None, False
    # Of two that are the same the excluded one is tighter.
    if inclusive == "minimum":
        return max(given)
    return min(given, key=lambda one: (one[0], not one[1]))


def _step(schema: Schema, rules: GbnfRules) -> Decimal | None:
    return _exact(schema, "multipleOf", rules)


def _exact(schema: Schema, key: str, rules: GbnfRules) -> Decimal | None:
    """A number as it is written, which is not quite what a float holds."""
    if key not in schema:
        return None
    if not abs(schema[key]) <= _LARGEST_BOUND:
        raise rules.refuse(f"`{key}` is too large")
    exact = Decimal(str(schema[key]))
    exponent = exact.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > _MOST_PLACES:
        raise rules.refuse(f"`{key}` has more than {_MOST_PLACES} places after the point")
    return exact


def _decimal(number: int | None) -> Decimal | None:
    return None if number is None else Decimal(number)
