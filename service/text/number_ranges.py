"""Decimal numbers between two bounds, as GBNF: digits compared from the left."""

from __future__ import annotations

_DIGITS = 16
_FRACTION = '("." [0-9]{1,16})?'
_ZEROS = '("." "0"{1,16})?'
_POSITIVE_FRACTION = '"." [0-9]{0,8} [1-9] [0-9]{0,7}'


def integers(low: int | None, high: int | None) -> list[str]:
    """Alternatives for the integers from `low` to `high`, None where there is no bound."""
    out: list[str] = []
    if low is None or low < 0:
        most_negative = None if low is None else -low
        least_negative = 1 if high is None or high >= 0 else -high
        out += [f'"-" ({" | ".join(_naturals(least_negative, most_negative))})']
    if high is None or high >= 0:
        out += _naturals(max(low or 0, 0), high)
    return out


def numbers(low: int | None, high: int | None, open_low: bool, open_high: bool) -> list[str]:
    """Alternatives for the numbers between two integers; an open bound itself is excluded."""
    out: list[str] = []
    if low is None or low < 0:
        # Mirrored: what is below zero lies between -high and -low.
        mirrored = (0, True) if high is None or high >= 0 else (-high, open_high)
        below = _decimals(mirrored[0], None if low is None else -low, mirrored[1], open_low)
        out += [f'"-" ({" | ".join(below)})'] if below else []
    if high is None or high > 0 or (high == 0 and not open_high):
        bound = (low, open_low) if low is not None and low >= 0 else (0, False)
        out += _decimals(bound[0], high, bound[1], open_high)
    return out


def _decimals(low: int, high: int | None, open_low: bool, open_high: bool) -> list[str]:
    if high is not None and (low > high or (low == high and (open_low or open_high))):
        return []
    out: list[str] = []
    first = low + 1 if open_low else low
    last = None if high is None else high - 1
    if last is None or first <= last:
        out += [f"({' | '.join(_naturals(first, last))}) {_FRACTION}"]
    if open_low and (high is None or low < high):
        out += [f'"{low}" {_POSITIVE_FRACTION}']
    if high is not None and not open_high:
        out += [f'"{high}" {_ZEROS}']
    return out


def _naturals(low: int, high: int | None) -> list[str]:
    """The integers from `low` (not below 0) to `high`, or to the most that is written."""
    top = 10 ** max(_DIGITS, len(str(low))) - 1 if high is None else high
    out: list[str] = []
    for length in range(len(str(low)), len(str(top)) + 1):
        least = max(low, 10 ** (length - 1) if length > 1 else 0)
        most = min(top, 10**length - 1)
        out.append(_between(str(least), str(most)))
    return out


def _between(low: str, high: str) -> str:
    """Texts of digits, as long as each other, from `low` to `high`."""
    if low == high:
        return f'"{low}"'
    rest = len(low) - 1
    if low[1:] == "0" * rest and high[1:] == "9" * rest:
        return _digit(low[0], high[0]) + _any(rest)
    if low[0] == high[0]:
        return f'"{low[0]}" ({_between(low[1:], high[1:])})'
    out: list[str] = []
    first, last = int(low[0]), int(high[0])
    if low[1:] != "0" * rest:
        out.append(f'"{low[0]}" ({_between(low[1:], "9" * rest)})')
        first += 1
    tail = ""
    if high[1:] != "9" * rest:
        tail = f'"{high[0]}" ({_between("0" * rest, high[1:])})'
        last -= 1
    if first <= last:
        out.append(_digit(str(first), str(last)) + _any(rest))
    return " | ".join([*out, tail] if tail else out)


def _digit(low: str, high: str) -> str:
    return f'"{low}"' if low == high else f"[{low}-{high}]"


def _any(count: int) -> str:
    return f" [0-9]{{{count}}}" if count else ""
