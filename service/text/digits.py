"""Runs of digits as GBNF: natural numbers in a range, and fractions in one."""

from __future__ import annotations

_DIGITS = 16


def naturals(low: int, high: int | None) -> list[str]:
    """The integers from `low` (not below 0) to `high`, or to the most that is written."""
    top = 10 ** max(_DIGITS, len(str(low))) - 1 if high is None else high
    out: list[str] = []
    for length in range(len(str(low)), len(str(top)) + 1):
        least = max(low, 10 ** (length - 1) if length > 1 else 0)
        most = min(top, 10**length - 1)
        out.append(_between(str(least), str(most)))
    return out


class Fractions:
    """What follows the whole part of a number: a point and digits, or nothing where that will do.

    Bounds are digits after the point without zeros at their end. An open bound itself is
    excluded; `high` is None where there is no bound.
    """

    def __init__(self, most: int) -> None:
        self._most = most

    def between(self, low: str, high: str | None, open_low: bool, open_high: bool) -> str | None:
        """None if there is no such fraction."""
        digits = self._some(low, high, open_low, open_high, 0)
        if _ends(low, high, open_low, open_high):
            return f'("." ({digits}))?' if digits else ""
        return f'"." ({digits})' if digits else None

    def _some(
        self, low: str, high: str | None, open_low: bool, open_high: bool, depth: int
    ) -> str | None:
        """One digit or more, after `depth` of them that are those of the bounds."""
        left = max(1, self._most - depth)
        bound = bool(low) or open_low
        if not low and high is None:
            return f'"0"{{0,{left}}} [1-9] [0-9]{{0,{left}}}' if open_low else f"[0-9]{{1,{left}}}"
        if not low and not high:
            return None if bound or open_high else f'"0"{{1,{left}}}'
        first, last = low[:1] or "0", "9" if high is None else high[:1] or "0"
        if first == last:
            rest = None if high is None else high[1:]
            return self._then(first, low[1:], rest, open_low, open_high, depth)
        ways = [self._then(first, low[1:], None, open_low, False, depth)] if bound else []
        least, most = int(first) + bound, int(last) - (high is not None)
        if least <= most:
            ways.append(f"{_digit(str(least), str(most))} [0-9]{{0,{left}}}")
        if high is not None and first < last:
            ways.append(self._then(last, "", high[1:], False, open_high, depth))
        return " | ".join(filter(None, ways)) or None

    def _then(
        self, digit: str, low: str, high: str | None, open_low: bool, open_high: bool, depth: int
    ) -> str | None:
        digits = self._some(low, high, open_low, open_high, depth + 1)
        if _ends(low, high, open_low, open_high):
            return f'"{digit}" ({digits})?' if digits else f'"{digit}"'
        return f'"{digit}" ({digits})' if digits else None


def _ends(low: str, high: str | None, open_low: bool, open_high: bool) -> bool:
    """Whether nothing more, which is as much as zeros, lies between the bounds."""
    return not low and not open_low and (high != "" or not open_high)


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
