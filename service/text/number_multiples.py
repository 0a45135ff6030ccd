"""Multiples of a number as GBNF, where the last digits decide, or few of them are in bounds."""

from __future__ import annotations

from decimal import Decimal, localcontext

from service.text.gbnf import literal
from service.text.gbnf_rules import GbnfRules

_DIGITS = 50  # more than a bound has before the point and a step after it, so that all is exact
_MOST_LISTED = 1000
_MOST_REMAINDERS = 64
_WHOLE = '("0" | [1-9] [0-9]{0,14})'


def multiples(
    step: Decimal,
    low: Decimal | None,
    high: Decimal | None,
    rules: GbnfRules,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> str:
    """Raises InvalidRequest, by `rules.refuse`, where the bounds leave too many to be listed."""
    if low is not None and high is not None and (high - low) / step <= _MOST_LISTED:
        with localcontext(prec=_DIGITS):
            return _listed(step, low, high, rules, open_low=open_low, open_high=open_high)
    signed = low is None and high is None
    positive = high is None and low == 0
    if not signed and not positive:
        raise rules.refuse("`multipleOf` beside such bounds is not supported")
    size = _above_zero(step, rules)
    if positive and open_low:
        return size
    return f'"-"? {size} | "0"' if signed else f'{size} | "0"'


def _listed(
    step: Decimal,
    low: Decimal,
    high: Decimal,
    rules: GbnfRules,
    *,
    open_low: bool,
    open_high: bool,
) -> str:
    first, last = -(-low // step), high // step
    values = [step * number for number in range(int(first) - 1, int(last) + 2)]
    held = [
        value
        for value in values
        if low <= value <= high
        and not (open_low and value == low)
        and not (open_high and value == high)
    ]
    if not held:
        raise rules.nothing("no multiple of its `multipleOf` lies between its bounds")
    return rules.words(_text(value) for value in held)


def _text(value: Decimal) -> str:
    return f"{value.normalize():f}" if value else "0"


def _above_zero(step: Decimal, rules: GbnfRules) -> str:
    text = _text(step)
    places = len(text.partition(".")[2])
    whole = int(step.scaleb(places))
    # Where the step divides a power of ten, the digits after that decide.
    for tail in range(5):
        if 10**tail % whole == 0 and tail >= places:
            return _by_last_digits(whole, tail, places, rules)
    if places == 0 and whole <= _MOST_REMAINDERS:
        return _by_remainder(whole, rules)
    raise rules.refuse(f"`multipleOf` {text} is not supported without bounds on both sides")


def _by_last_digits(whole: int, tail: int, places: int, rules: GbnfRules) -> str:
    """Multiples of `whole`, scaled by ten to the `places`, by their last `tail` digits."""
    ends = [f"{number:0{tail}d}" if tail else "" for number in range(0, 10**tail, whole)]
    split = tail - places
    small, large = [], []
    for end in ends:
        before, after = end[:split], end[split:].rstrip("0")
        point = f".{after}" if after else ""
        large.append(before + point)
        if end.strip("0"):
            small.append((before.lstrip("0") or "0") + point)
    lead = rules.rule("lead", "[1-9] [0-9]{0,11}")
    beyond = f"{lead} {rules.words(large)}" if large != [""] else lead
    return rules.choice("multiple", [rules.words(small), beyond] if small else [beyond])


def _by_remainder(step: int, rules: GbnfRules) -> str:
    """A rule for each remainder: what is still to be written after digits that leave it."""
    names = [rules.reserve("remainder") for _ in range(step)]
    for remainder, name in enumerate(names):
        ways = [f"{literal(str(d))} {names[(10 * remainder + d) % step]}" for d in range(10)]
        rules.define(name, " | ".join([*ways, '""'] if remainder == 0 else ways))
    ways = [f"{literal(str(d))} {names[d % step]}" for d in range(1, 10)]
    return rules.rule("multiple", " | ".join(ways))
